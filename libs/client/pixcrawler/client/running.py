"""`pixcrawler run`: from keywords to a dataset in a folder."""

import os
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from pixcrawler.client import connection, download, local, output, url_lists, watching
from pixcrawler.client.api import Api, Json
from pixcrawler.client.errors import USAGE, CommandError, Terminated
from pixcrawler.common.ranges import SOURCES, URLS
from pixcrawler.standalone import UpOptions, temporary


class Wish(NamedTuple):
    """What `run` was asked for; `number` None means all of the list.

    `transform` has the options of that name that were given, as the API names them.
    """

    keywords: tuple[str, ...]
    number: int | None
    sources: tuple[str, ...]
    urls: Path | None
    priority: int
    min_size: int
    near_duplicates: int | None
    format: str
    folder: Path
    url_column: str | None = None
    caption_column: str | None = None
    transform: Mapping[str, object] = MappingProxyType({})


DEFAULT_NUMBER = 500


def run(wish: Wish, *, json: bool) -> int:
    """Create a job, follow it, fetch its dataset; the exit code."""
    if not any(map(str.strip, wish.keywords)) and wish.urls is None:
        raise CommandError("say what to look for: pixcrawler run KEYWORD… -o DIR", USAGE)
    if URLS in wish.sources and wish.urls is None:
        raise CommandError(
            f"the source {URLS} is a list of yours: say which with --urls FILE", USAGE
        )
    if not any(map(str.strip, wish.keywords)) and (searched := set(wish.sources) - {URLS}):
        names = ", ".join(sorted(searched))
        raise CommandError(f"say what to look for in {names}: give a KEYWORD, too", USAGE)
    listed = None if wish.urls is None else url_lists.ListFile(wish.urls)
    download.check_folder(wish.folder, None)
    download.check_writable(wish.folder)
    asked = False
    try:
        with _api(wish.sources) as (api, stays):
            taken = None if listed is None else _uploaded(api, listed, wish)
            body = request(wish, None if taken is None else str(taken["id"]))
            asked = True
            job = api.post("/v1/jobs", body, headers={"Idempotency-Key": uuid.uuid4().hex})
            created = {"event": "created", "job": job}
            _say(
                json,
                created if taken is None else {**created, "url_list": taken},
                f"job {job['job_id']}",
            )
            if taken is not None and taken["rejected"] > url_lists.TOLD:
                output.note(
                    f"  all rows that were left out: pixcrawler jobs rejected {job['job_id']}"
                )
            return _follow_and_fetch(api, job["job_id"], wish.folder, stays=stays, json=json)
    except KeyboardInterrupt:
        if not asked:
            output.note("interrupted before there was a job: nothing is left behind")
        raise


def _follow_and_fetch(api: Api, job_id: str, folder: Path, *, stays: bool, json: bool) -> int:
    final: Json | None = None
    try:
        final = watching.follow(api, job_id, json=json)
        return _finish(api, final, folder, json=json)
    except (KeyboardInterrupt, CommandError) as error:
        # A job that is over cannot be cancelled, and SIGTERM waits for no answer.
        by_hand = isinstance(error, KeyboardInterrupt) and not isinstance(error, Terminated)
        if by_hand and final is None and not json and _is_unwanted(job_id, stays=stays):
            _cancel(api, job_id, folder)
        else:
            _say_how_to_go_on(job_id, folder, stays=stays)
        raise


def _is_unwanted(job_id: str, *, stays: bool) -> bool:
    """Ask whoever pressed Ctrl-C whether the job shall end too; no, where nobody can answer."""
    if not (sys.stdin.isatty() and output.people.is_terminal):
        return False
    output.note(
        f"job {job_id} goes on without this command"
        if stays
        else "PixCrawler was started for this job and stops now; "
        "the job is kept and goes on at the next `pixcrawler up`"
    )
    try:
        answer = output.people.input("cancel it instead? [y/N] ", markup=False)
    except (EOFError, KeyboardInterrupt):
        output.note("")
        return False
    return answer.strip().lower() in {"y", "yes"}


def _cancel(api: Api, job_id: str, folder: Path) -> None:
    try:
        api.post(f"/v1/jobs/{job_id}/cancel")
    except CommandError as error:
        output.note(f"job {job_id}: {error}")
        return
    output.note(f"job {job_id} is cancelled; what was packed stays:")
    output.note(f"  pixcrawler jobs download {job_id} -o {shlex.quote(str(folder))}")


def _say_how_to_go_on(job_id: str, folder: Path, *, stays: bool) -> None:
    """What becomes of a job that nobody follows any more, and how to get at it."""
    if stays:
        output.note(f"job {job_id} is there and goes on without this command:")
    else:
        output.note(f"job {job_id} is kept; to go on with it:")
        output.note("  pixcrawler up --detach")
    output.note(f"  pixcrawler jobs watch {job_id}")
    output.note(f"  pixcrawler jobs download {job_id} -o {shlex.quote(str(folder))}")
    output.note(f"  pixcrawler jobs cancel {job_id}")


def _uploaded(api: Api, listed: url_lists.ListFile, wish: Wish) -> Json:
    """The list of URLs, which is uploaded first, as the API took it."""
    columns = {"url_column": wish.url_column, "caption_column": wish.caption_column}
    return url_lists.upload(api, listed, columns)


def request(wish: Wish, list_id: str | None = None) -> Json:
    """The body of `POST /v1/jobs`; `list_id` is the list of URLs that was uploaded."""
    body: Json = {
        "keywords": list(wish.keywords),
        "priority": wish.priority,
        "options": {
            "min_size": wish.min_size,
            "near_duplicates": wish.near_duplicates,
            "format": wish.format,
            **wish.transform,
        },
    }
    number = wish.number
    sources = list(wish.sources)
    if list_id is not None:
        body["urls"] = list_id
        if URLS not in sources and (sources or not wish.keywords):
            sources.append(URLS)
    if sources:
        body["sources"] = sources
    if number or list_id is None:
        body["max_images"] = number or DEFAULT_NUMBER
    return body


def fetch_dataset(api: Api, job_id: str, folder: Path) -> None:
    """Fetch a dataset and say so to people."""
    files = download.fetch(api, job_id, folder, _tell_bytes())
    size = sum(file.size for file in files)
    output.note(f"{len(files)} files, {size / 1e6:.1f} MB in {folder}")


def _tell_bytes() -> Callable[[int, int], None]:
    """Tells how much is here, now and then; nothing where it is quick."""
    told_at = time.monotonic()

    def tell(so_far: int, total: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= watching.LINE_S:
            told_at = now
            output.note(f"fetched {so_far / 1e6:.1f} of {total / 1e6:.1f} MB")

    return tell


def _finish(api: Api, final: Json, folder: Path, *, json: bool) -> int:
    job_id = str(final["job_id"])
    fetch_dataset(api, job_id, folder)
    if json:
        output.document(
            {
                "event": "finished",
                "job_id": job_id,
                "status": final["status"],
                "dataset": str(folder.resolve()),
                "images": final["images"],
            }
        )
    else:
        watching.show_outcomes(final)
        summary = watching.summary(api, final)
        output.result.print(summary, soft_wrap=True, markup=False)
        output.result.print(f"dataset: {folder.resolve()}", soft_wrap=True, markup=False)
    return watching.EXIT_CODES[final["status"]]


@contextmanager
def _api(sources: Iterable[str]) -> Iterator[tuple[Api, bool]]:
    """The API to use, and whether it stays when the command ends.

    Args:
        sources: What it has to know, or nothing is started and nothing uploaded.
    """
    found = connection.find()
    if found is not None:
        with found as api:
            if sources:  # it may be newer than this command, and know others
                _check_sources(sources, [each["name"] for each in api.pages("/v1/sources")])
            yield api, True
        return
    _check_sources(sources, SOURCES)
    output.note("nothing is running here: starting PixCrawler for this job")
    options = UpOptions(data_dir=connection.data_dir(), port=0)
    with temporary(options, local.say) as started:
        key = os.environ.get("PIXCRAWLER_API_KEY") or started.api_key or ""
        with connection.open_api(started.api_url or "", key) as api:
            yield api, False


def _check_sources(wanted: Iterable[str], known: Iterable[str]) -> None:
    for name in wanted:
        if name not in known:
            raise CommandError(
                f"there is no source {name!r}: choose from {', '.join(known)}", USAGE
            )


def _say(json: bool, document: Json, line: str) -> None:
    if json:
        output.document(document)
    else:
        output.note(line)
