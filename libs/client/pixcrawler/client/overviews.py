"""`pixcrawler jobs explain`, `workers`, `capacity`, `url`, `drops`: what operators ask the API."""

from datetime import datetime
from typing import Any

from pixcrawler.client import moments, operating, output
from pixcrawler.client.connection import connect
from pixcrawler.client.errors import CommandError

Json = dict[str, Any]


def explain(job_id: str, *, json: bool) -> int:
    """Why a job is not done, a line for each reason, and below it what shows more."""
    with connect() as api:
        answer = api.get(f"/v1/jobs/{job_id}/explanation")
    if json:
        output.document(answer)
        return 0
    for reason in answer["reasons"]:
        output.result.print(reason["sentence"], markup=False, soft_wrap=True)
        if reason["command"]:
            output.result.print(f"  {reason['command']}", markup=False, soft_wrap=True)
    return 0


def workers(*, everyone: bool, json: bool) -> int:
    """Who has which chunk, those that have been silent for longest first; and what is stopped."""
    with connect() as api:
        items = list(api.pages("/v1/workers", all="true" if everyone else None))
        stopped = list(api.pages("/v1/controls"))
    items.sort(key=lambda held: -held["silent_s"])
    if json:
        output.document({"items": items, "controls": stopped})
    else:
        for control in stopped:
            output.note(operating.told(control))
        output.table(
            ("worker", "stage", "attempt", "since", "silent", "taken back", "chunk"),
            [
                (
                    held["worker"] or "–",  # noqa: RUF001 - nobody has told of it
                    held["stage"],
                    held["attempt"],
                    output.moment(held["since"]),
                    f"{held['silent_s']:.0f} s",
                    output.moment(held["deadline_at"]) or "(paused)",
                    held["chunk_id"],
                )
                for held in items
            ],
        )
    return 0


def capacity(*, by_owner: bool, json: bool) -> int:
    """How much work is let through at a time, and whose it is."""
    with connect() as api:
        answer = api.get("/v1/capacity", by_owner="true" if by_owner else None)
    if json:
        output.document(answer)
        return 0
    owners = answer.pop("owners", None)
    output.fields(answer)
    if owners is not None:
        output.result.print()
        output.table(
            ("slots", "share", "waiting", "first in line", "oldest", "resting", "jobs", "owner"),
            [
                (
                    each["active_chunks"],
                    f"{each['share']} %",
                    each["waiting_chunks"],
                    each["next_place"],
                    output.seconds(each["oldest_wait_s"]),
                    each["resting_chunks"],
                    each["open_jobs"],
                    each["owner"],
                )
                for each in owners
            ],
        )
    return 0


def url(url: str, job: str | None, *, everyone: bool, further: bool, json: bool) -> int:
    """What every job that had a URL made of it."""
    asked = {"url": url, "job_id": job, "all": "true" if everyone else None}
    items: list[Json] = []
    looked = 0
    with connect() as api:
        page = api.get("/v1/urls", **asked)
        while True:
            items += page["items"]
            looked += page["searched_chunks"]
            if not (further and page["next_cursor"]):
                break
            page = api.get("/v1/urls", **asked, cursor=page["next_cursor"])
    complete, since = page["next_cursor"] is None, page["searched_since"]
    if json:
        told = {"searched_chunks": looked, "searched_since": since, "complete": complete}
        output.document({"items": items, **told})
        return 0
    for each in items:
        _show_finding(each)
    if not items:
        output.note("no chunk of these jobs has it" if complete else "not found so far")
    if not complete:
        when = output.moment(since)
        output.note(
            f"{looked} chunks were looked through, back to {when:%Y-%m-%d %H:%M:%SZ}: "
            "--further looks through all older ones"
        )
    return 0


def _show_finding(each: Json) -> None:
    """A line for what became of it, and below it where it is."""
    when = output.moment(each["job_created_at"])
    status = f", HTTP {each['http_status']}" if each["http_status"] else ""
    detail = f": {each['detail']}" if each["detail"] else ""
    outcome = each["outcome"] or f"not decided yet, its chunk is in the {each['stage']}"
    again = ", retried as another" if each["superseded"] else ""
    keyword = f" for {each['keyword']}" if each["keyword"] else ""
    chunk = f"chunk {each['chunk_id']} ({each['chunk_status']}{again})"
    of_job = f"job of {each['owner']} made {when:%Y-%m-%d %H:%M:%SZ}"
    lines = [
        f"{outcome}{status}{detail}",
        f"  {chunk}, {of_job}, from {each['source']}{keyword}",
    ]
    if each["final_url"] and each["final_url"] != each["url"]:
        lines.append(f"  {each['url']} led to {each['final_url']}")
    if each["archive"]:
        lines.append(f"  its image: {each['archive']}, {each['file_name']}")
    if each["duplicate_of"]:
        lines.append(f"  kept instead: {each['duplicate_of']}")
    for line in lines:
        output.result.print(line, markup=False, soft_wrap=True)


def drops(since: str, *, everyone: bool, json: bool) -> int:
    """What was dropped since a moment, the most frequent first, and why."""
    begin = moments.since(since)
    with connect() as api:
        answer = api.get("/v1/drops", since=begin.isoformat(), all="true" if everyone else None)
    if json:
        output.document(answer)
        return 0
    output.table(
        ("outcome", "URLs", "share", "mostly from", "mostly because"),
        [
            (
                each["outcome"],
                each["count"],
                f"{each['share']} %",
                _most(each["hosts"]) or _most(each["sources"]),
                _most(each["reasons"]),
            )
            for each in answer["outcomes"]
        ],
    )
    output.note(
        f"{answer['dropped']} of {answer['candidates']} URLs were dropped in {answer['chunks']} "
        f"chunks since {begin:%Y-%m-%d %H:%M:%SZ}; hosts and reasons are of the latest "
        f"{answer['read_chunks']} chunks ({answer['read_dropped']} URLs)"
    )
    return 0


def _most(counted: list[Json]) -> str:
    return f"{counted[0]['name']} ({counted[0]['count']})" if counted else ""


def changes(since: str, *, everyone: bool, json: bool) -> int:
    """What changed since a moment, and which dead letters there are of it."""
    begin = moments.since(since)
    with connect() as api:
        answer = api.get("/v1/changes", since=begin.isoformat(), all="true" if everyone else None)
    letters, why = _letters(begin)
    if json:
        output.document({**answer, "dead_letters": letters})
        return 0
    jobs, chunks = answer["jobs"], answer["chunks"]
    output.fields(
        {
            "jobs": _counted({"made": jobs["created"], **jobs["ended"]}, jobs["cancelled"]),
            "chunks": f"{chunks['completed']} completed, {chunks['given_up']} given up",
            "given up": _failures(chunks["failures"]),
            "attempts": f"{chunks['failed_attempts']} failed, {chunks['lost_attempts']} lost",
            "failed": _failures(chunks["attempts"]),
            "dead letters": why if letters is None else _counted(letters),
            "people": _counted(answer["acts"]),
        }
    )
    for line in reversed(answer["lines"]):
        when = output.moment(line["at"])
        reason = f": {line['reason']}" if line["reason"] else ""
        output.result.print(
            f"  {when:%Y-%m-%d %H:%M:%SZ} {line['actor'] or '(desk)'} {line['action']} "
            f"{line['subject']}{reason}",
            markup=False,
            soft_wrap=True,
        )
    return 0


def _letters(begin: datetime) -> tuple[dict[str, int] | None, str]:
    """Dead letters since then, by stage; None, and why, where Kafka cannot be asked."""
    from pixcrawler.client import topics
    from pixcrawler.common import letters

    try:
        return topics.ask(lambda servers: letters.count_since(servers, begin)), ""
    except CommandError as error:
        return None, f"not known: {error}"


def _counted(found: dict[str, int], cancelled: int = 0) -> str:
    told = [f"{number} {name}" for name, number in found.items()]
    if cancelled:
        told.append(f"{cancelled} cancelled by somebody")
    return ", ".join(told) or "none"


def _failures(found: list[Json]) -> str:
    return ", ".join(f"{each['count']} {each['stage']} {each['error']}" for each in found)
