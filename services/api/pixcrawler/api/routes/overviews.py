"""Over all jobs: what became of a URL, what was dropped, what changed."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from pixcrawler.api import changes, cursors, drops, examples, findings
from pixcrawler.api.auth import Reader, whose
from pixcrawler.api.changes import Changes
from pixcrawler.api.drops import Drops
from pixcrawler.api.findings import Place, UrlFindings
from pixcrawler.api.openapi import NOT_EVERYBODY, answers, wrong
from pixcrawler.api.parts import PartsOf
from pixcrawler.api.problems import wrong_value
from pixcrawler.api.requests import wrong as wrong_field
from pixcrawler.api.routes.paths import Cursor, Everyone

router = APIRouter(prefix="/v1", tags=["operations"])

LATELY = timedelta(days=1)
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def _moment(value: object) -> object:
    """Only RFC 3339: a number is no time."""
    if isinstance(value, str) and not _RFC3339.fullmatch(value):
        raise wrong_field("since must be a time such as 2026-01-31T12:00:00Z")
    return value


def _in_utc(value: datetime | None) -> datetime | None:
    """The last day of the calendar has no such time in every zone."""
    try:
        return value and value.astimezone(UTC)
    except OverflowError:
        raise wrong_field("since must be a time that there is in UTC") from None


Since = Annotated[
    AwareDatetime | None,
    BeforeValidator(_moment),
    AfterValidator(_in_utc),
    Query(description="From when on, RFC 3339 with its zone. 24 hours ago if not given."),
]
WRONG_SINCE = wrong(since=("since", "since must be a time such as 2026-01-31T12:00:00Z"))


@router.get(
    "/urls",
    summary="Find a URL",
    responses=answers(200, "What chunks made of it.", examples.FINDINGS) | NOT_EVERYBODY,
)
async def list_url_findings(
    *,
    parts: PartsOf,
    caller: Reader,
    url: Annotated[
        str,
        Query(
            min_length=1,
            max_length=8192,
            description="As a source gave it, or as redirects led to it.",
            examples=["https://upload.wikimedia.org/red_panda.jpg"],
        ),
    ],
    job_id: Annotated[str | None, Query(description="Only in this job.")] = None,
    everyone: Everyone = False,
    cursor: Cursor = None,
) -> UrlFindings:
    """What happened to a URL, in every job that had it, the latest first.

    There is no index: jobs are looked through, a stretch for each answer, and `next_cursor` looks
    on in older ones. A page may be empty and still be followed by others.
    """
    owner = whose(caller, everyone=everyone)
    before = None
    if cursor is not None:
        job, index = cursors.load(cursor, str, int)
        before = Place(str(job), int(index))
    if "\0" in url or (job_id is not None and "\0" in job_id):
        raise wrong_value("url", "url must not contain NUL")
    limit = parts.findings.at_most + 1  # one more tells whether there are more
    async with parts.engine.connect() as connection:
        chunks = await findings.candidates(
            connection, owner=owner, job_id=job_id, before=before, limit=limit
        )
    items, place, looked = await parts.findings.find(url.strip(), chunks)
    return UrlFindings(
        items=items,
        next_cursor=None if place is None else cursors.dump(*place),
        searched_chunks=looked,
        searched_since=chunks[looked - 1]["job_created_at"] if looked else None,
    )


@router.get(
    "/drops",
    summary="Tell what was dropped",
    responses=answers(200, "Outcomes, the most frequent first.", examples.DROPS)
    | NOT_EVERYBODY
    | WRONG_SINCE,
)
async def get_drops(
    *, parts: PartsOf, caller: Reader, since: Since = None, everyone: Everyone = False
) -> Drops:
    """What was dropped most, and why: over all chunks that have ended lately.

    The counts are of all of them; reasons, sources and hosts of the latest that were read for it.
    """
    owner = whose(caller, everyone=everyone)
    begin = since or parts.now() - LATELY
    async with parts.engine.connect() as connection:
        counted = await drops.count(connection, begin, owner=owner)
    return await drops.explain(parts.blobs, counted, begin)


@router.get(
    "/changes",
    summary="Tell what changed",
    responses=answers(200, "Jobs, chunks, and what people did.", examples.CHANGES)
    | NOT_EVERYBODY
    | WRONG_SINCE,
)
async def get_changes(
    *, parts: PartsOf, caller: Reader, since: Since = None, everyone: Everyone = False
) -> Changes:
    """What changed since a moment: jobs made and ended, chunks that failed, what people did."""
    owner = whose(caller, everyone=everyone)
    async with parts.engine.connect() as connection:
        return await changes.changes(connection, since or parts.now() - LATELY, owner=owner)
