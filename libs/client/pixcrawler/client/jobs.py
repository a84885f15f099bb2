"""`pixcrawler jobs …`, `chunks`: the API's answers, for people or for machines."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from pixcrawler.client import output, running, watching
from pixcrawler.client.api import Json
from pixcrawler.client.connection import connect
from pixcrawler.client.download import check_folder
from pixcrawler.client.errors import FAILED, CommandError
from pixcrawler.client.operations import LISTS, REJECTED_A_PAGE, once
from pixcrawler.client.patience import PATIENCE_S


def list_jobs(status: str | None, project: str | None, *, json: bool) -> int:
    """The owner's jobs, the latest first."""
    with connect() as api:
        items = list(api.pages("/v1/jobs", status=status, project_id=project))
    if json:
        output.document({"items": items})
    else:
        output.table(
            ("job", "status", "asked for", "chunks", "created", "keywords"),
            [
                (
                    job["job_id"],
                    job["status"],
                    job["max_images"],
                    f"{job['completed_chunks']}/{job['total_chunks']}",
                    output.moment(job["created_at"]),
                    ", ".join(job["keywords"]),
                )
                for job in items
            ],
        )
    return 0


def show(job_id: str, *, json: bool) -> int:
    """One job with its progress."""
    with connect() as api:
        job = api.get(f"/v1/jobs/{job_id}")
        progress = api.get(f"/v1/jobs/{job_id}/progress")
    if json:
        output.document({**job, "progress": progress})
    else:
        times = {name: output.moment(job[name]) for name in job if name.endswith("_at")}
        output.fields({**job, **times, "progress": f"{progress['progress']} %"})
        output.result.print()
        watching.show_outcomes(progress)
    return 0


def rejected(job_id: str, *, json: bool) -> int:
    """Rows of a job's list of URLs that were left out, as they come: there may be millions."""
    with connect() as api:
        list_id = api.get(f"/v1/jobs/{job_id}").get("url_list_id")
        if list_id is None:
            raise CommandError(f"job {job_id} was made without an uploaded list of URLs")
        with output.stream(enabled=json) as item:
            for row in api.pages(f"{LISTS}/{list_id}/rejected", limit=REJECTED_A_PAGE):
                if json:
                    item(row)
                    continue
                text = f": {row['text']}" if row["text"] else ""
                line = f"line {row['line']}: {row['reason']}{text}"
                output.result.print(line, markup=False, soft_wrap=True)
    return 0


def watch(job_id: str, *, json: bool) -> int:
    """Follow a job until its round is over."""
    with connect(patience_s=PATIENCE_S) as api:
        try:
            final = watching.follow(api, job_id, json=json)
        except KeyboardInterrupt:
            output.note(f"job {job_id} goes on without this command; to come back:")
            output.note(f"  pixcrawler jobs watch {job_id}")
            raise
        if not json:
            watching.show_outcomes(final)
            output.result.print(watching.summary(api, final), soft_wrap=True, markup=False)
            output.note(f"its dataset: pixcrawler jobs download {job_id} -o DIR")
    return watching.EXIT_CODES.get(str(final.get("status")), FAILED)


def act(job_id: str, action: str, *, reason: str | None = None, json: bool) -> int:
    """Something that is done to a job as a whole."""
    with connect() as api:
        path = f"/v1/jobs/{job_id}/{action}"
        answer = api.post(path, headers=once(), params={"reason": reason})
    return _done(answer, f"{action}: job {job_id}", json=json)


def retry(job_id: str, chunk: str | None, *, reason: str | None = None, json: bool) -> int:
    """Try one failed chunk again, or all."""
    what = "" if chunk is None else f"/chunks/{chunk}"
    with connect() as api:
        path = f"/v1/jobs/{job_id}{what}/retry"
        answer = api.post(path, headers=once(), params={"reason": reason})
    code = _done(answer, f"retry: {chunk or 'all failed chunks'} of job {job_id}", json=json)
    return _say_how_to_follow(job_id, code)


def extend(
    job_id: str, number: int, priority: int | None, *, reason: str | None = None, json: bool
) -> int:
    """Ask for more images."""
    with connect() as api:
        answer = api.post(
            f"/v1/jobs/{job_id}/chunks",
            headers=once(),
            params={"max_images": number, "priority": priority, "reason": reason},
        )
    code = _done(answer, f"job {job_id} is now for {answer['max_images']} images", json=json)
    return _say_how_to_follow(job_id, code)


def prioritize(job_id: str, priority: int, *, reason: str | None = None, json: bool) -> int:
    """Change a job's priority."""
    with connect() as api:
        answer = api.patch(f"/v1/jobs/{job_id}", {"priority": priority}, reason=reason)
    return _done(answer, f"job {job_id} has the priority {answer['priority']}", json=json)


def give_up(job_id: str, chunk: str, *, reason: str | None = None, json: bool) -> int:
    """Have a chunk given up."""
    with connect() as api:
        path = f"/v1/jobs/{job_id}/chunks/{chunk}/give-up"
        answer = api.post(path, headers=once(), params={"reason": reason})
    return _done(answer, f"chunk {chunk} of job {job_id} is being given up", json=json)


def delete(job_id: str, *, reason: str | None = None, json: bool) -> int:
    """Forget a job."""
    with connect() as api:
        api.delete(f"/v1/jobs/{job_id}", reason=reason)
    return _done({"job_id": job_id, "deleted": True}, f"deleted job {job_id}", json=json)


def download(job_id: str, folder: Path, *, json: bool) -> int:
    """Fetch a job's dataset."""
    with connect(patience_s=PATIENCE_S) as api:
        api.get(f"/v1/jobs/{job_id}")
        check_folder(folder, job_id)
        try:
            running.fetch_dataset(api, job_id, folder)
        except KeyboardInterrupt:
            output.note(f"what is there stays in {folder}; the same command goes on from there")
            raise
    dataset = str(folder.resolve())
    return _done({"job_id": job_id, "dataset": dataset}, f"dataset: {dataset}", json=json)


def chunks(job_id: str, status: str | None, *, json: bool) -> int:
    """The chunks of a job."""
    with connect() as api:
        items = list(api.pages(f"/v1/jobs/{job_id}/chunks", status=status))
    if json:
        output.document({"items": items})
    else:
        output.table(
            ("chunk", "status", "stage", "range", "attempt", "kept", "candidates", "error"),
            [_chunk_row(chunk) for chunk in items],
        )
        for line in itertools.chain.from_iterable(map(_troubles, items)):
            output.result.print(line, markup=False, soft_wrap=True)
    return 0


def _chunk_row(chunk: Json) -> tuple[object, ...]:
    images = chunk.get("images") or {}
    span = chunk["image_range"]
    return (
        chunk["index"],
        chunk["status"],
        chunk["stage"],
        f"{span['start']}–{span['end']}",  # noqa: RUF001 - the dash of a range
        chunk["attempt"],
        images.get("valid", 0),
        images.get("candidates", 0),
        chunk["error_message"],
    )


def _troubles(chunk: Json) -> Iterator[str]:
    """What went wrong with a chunk, attempt by attempt."""
    for step in chunk["attempts"]:
        if step["state"] in {"failed", "lost"}:
            worker = f" ({step['worker']})" if step["worker"] else ""
            reason = ": ".join(filter(None, (step["state"], step["error"], step.get("message"))))
            yield (
                f"chunk {chunk['index']}, attempt {step['attempt']}, {step['stage']}{worker}: "
                f"{reason}"
            )


def _say_how_to_follow(job_id: str, code: int) -> int:
    """A further round has begun, and nobody watches it yet."""
    output.note(f"follow it: pixcrawler jobs watch {job_id}")
    return code


def _done(answer: Json, line: str, *, json: bool) -> int:
    if json:
        output.document(answer)
    else:
        output.result.print(line, markup=False, soft_wrap=True)
    return 0
