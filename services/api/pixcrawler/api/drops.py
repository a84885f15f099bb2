"""What was dropped most, and why: over all chunks that have ended since a moment.

How many there are of each outcome is in the chunks' rows, so that costs one statement. Why, from
which sources and from which hosts is only in the verdicts: the latest chunks that dropped anything
are read for it, and the answer says how many those were.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.api.views import View
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.chunk_outcomes import OutcomeRow, outcomes_of_chunk, read_objects
from pixcrawler.common.outcomes import Outcome

READ_CHUNKS = 60
"""Chunks that are read for reasons: 30,000 URLs, with chunks of 500."""
READ_S = 0.4
"""Seconds after which no more are begun."""
AT_ONCE = 8
SHOWN = 3
"""Reasons, sources and hosts of an outcome that are told, the most frequent first."""


class Often(View):
    """Something, and how often it was there."""

    name: str
    """A reason, a source or a host."""
    count: int
    """How many URLs."""


class Drop(View):
    """An outcome other than `kept`, and how many URLs had it."""

    outcome: Outcome
    """Which."""
    count: int
    """How many URLs."""
    share: float
    """Of all candidates, in percent."""
    reasons: tuple[Often, ...] = ()
    """The most frequent ones, of the chunks that were read."""
    sources: tuple[Often, ...] = ()
    """Likewise."""
    hosts: tuple[Often, ...] = ()
    """Likewise."""


class Drops(View):
    """What was dropped since a moment, the most frequent first."""

    since: datetime
    """Chunks that have ended since then are counted; failed ones that were retried are not."""
    as_of: datetime
    """When that was so, by the database's clock."""
    chunks: int
    """How many have ended."""
    candidates: int
    """How many URLs they had."""
    kept: int
    """How many of those are in an archive."""
    dropped: int
    """How many are not."""
    outcomes: tuple[Drop, ...]
    """By outcome."""
    read_chunks: int
    """The latest chunks that dropped anything, read for reasons, sources and hosts."""
    read_dropped: int
    """URLs that those have dropped."""


class Counted(NamedTuple):
    """What the rows say; `latest` are chunks that dropped anything."""

    as_of: datetime
    chunks: int
    candidates: int
    kept: int
    outcomes: dict[str, int]
    latest: tuple[str, ...]


_ENDED = """
    SELECT chunk_id, images, ended_at FROM job_chunks AS chunk JOIN crawl_jobs AS job USING (job_id)
    WHERE ended_at >= :since AND deleted_at IS NULL AND jsonb_typeof(images) = 'object'
      AND (CAST(:owner AS text) IS NULL OR owner = :owner)
      AND NOT EXISTS (SELECT FROM job_chunks AS r WHERE r.retry_of = chunk.chunk_id)"""


async def count(connection: AsyncConnection, since: datetime, *, owner: str | None) -> Counted:
    """What the rows of ended chunks add up to.

    Args:
        connection: To read with.
        since: From when on.
        owner: Only of this owner's jobs; None: of everybody's.
    """
    found = await connection.execute(
        text(f"""
            WITH ended AS ({_ENDED}), dropped AS (
                SELECT key AS outcome, sum(value::bigint)::bigint AS count
                FROM ended, jsonb_each_text(images->'dropped') GROUP BY key
            )
            SELECT clock_timestamp() AS as_of, count(*) AS chunks,
                   coalesce(sum((images->>'candidates')::bigint), 0)::bigint AS candidates,
                   coalesce(sum((images->>'valid')::bigint), 0)::bigint AS kept,
                   (SELECT coalesce(jsonb_object_agg(outcome, count), '{{}}') FROM dropped)
                       AS outcomes,
                   ARRAY(SELECT chunk_id FROM ended WHERE images->'dropped' <> '{{}}'
                         ORDER BY ended_at DESC, chunk_id LIMIT {READ_CHUNKS}) AS latest
            FROM ended"""),  # noqa: S608 - constants
        {"since": since, "owner": owner},
    )
    row = found.one()
    return Counted(
        row.as_of, row.chunks, row.candidates, row.kept, dict(row.outcomes), tuple(row.latest)
    )


class _Why:
    """Why URLs were dropped, by outcome."""

    def __init__(self) -> None:
        self.reasons: dict[str, Counter[str]] = defaultdict(Counter)
        self.sources: dict[str, Counter[str]] = defaultdict(Counter)
        self.hosts: dict[str, Counter[str]] = defaultdict(Counter)
        self.chunks = 0
        self.urls = 0

    def add(self, rows: Iterable[OutcomeRow]) -> None:
        """Count a chunk's rows."""
        self.chunks += 1
        for row in rows:
            if row.outcome is Outcome.KEPT:
                continue
            self.urls += 1
            self.reasons[row.outcome][_reason(row)] += 1
            self.sources[row.outcome][row.source] += 1
            self.hosts[row.outcome][_host(row.url)] += 1


def _reason(row: OutcomeRow) -> str:
    """As the stage has said it, else what is known."""
    return row.detail or (f"HTTP {row.http_status}" if row.http_status >= 400 else "")  # noqa: PLR2004 - where HTTP's errors begin


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def explain(blobs: BlobStore, counted: Counted, since: datetime) -> Drops:
    """The counts with what the latest chunks say about them."""
    why = _Why()
    until = time.monotonic() + READ_S
    while why.chunks < len(counted.latest) and (time.monotonic() < until or not why.chunks):
        some = counted.latest[why.chunks : why.chunks + AT_ONCE]
        for rows in await asyncio.gather(*(_rows(blobs, chunk) for chunk in some)):
            why.add(rows)
    most = sorted(counted.outcomes.items(), key=lambda each: (-each[1], each[0]))
    return Drops(
        since=since,
        as_of=counted.as_of,
        chunks=counted.chunks,
        candidates=counted.candidates,
        kept=counted.kept,
        dropped=sum(counted.outcomes.values()),
        outcomes=tuple(_drop(outcome, number, counted, why) for outcome, number in most),
        read_chunks=why.chunks,
        read_dropped=why.urls,
    )


async def _rows(blobs: BlobStore, chunk: str) -> Sequence[OutcomeRow]:
    objects = await read_objects(blobs, chunk)
    return await asyncio.to_thread(outcomes_of_chunk, objects)


def _drop(outcome: str, number: int, counted: Counted, why: _Why) -> Drop:
    return Drop(
        outcome=Outcome(outcome),
        count=number,
        share=round(100 * number / counted.candidates, 1) if counted.candidates else 0.0,
        reasons=_most(why.reasons[outcome]),
        sources=_most(why.sources[outcome]),
        hosts=_most(why.hosts[outcome]),
    )


def _most(counted: Counter[str]) -> tuple[Often, ...]:
    return tuple(Often(name=name, count=n) for name, n in counted.most_common(SHOWN) if name)
