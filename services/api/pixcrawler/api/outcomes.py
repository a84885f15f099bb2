"""The outcomes of a job's URLs, page by page, also while it runs.

They are read from what the stages have decided, chunk by chunk. Of a URL that occurs in several
chunks one row stands, as in the dataset's index; which one is worked out once per ended chunk and
remembered for the jobs that were asked for last.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from pixcrawler.api.store import ChunkState
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.chunk_outcomes import (
    ChunkObjects,
    OutcomeRow,
    Standing,
    outcomes_of_chunk,
    read_objects,
)

REMEMBERED_URLS = 200_000
"""URLs whose standing is remembered over all jobs, about 30 MB; the last job always is."""

AT_ONCE = 8
"""Chunks that are read at a time."""

CHUNKS_A_PAGE = 100
"""Chunks that one page looks through at most: with a rare outcome it may have fewer rows."""


class Position(NamedTuple):
    """Where a list goes on: at this row of this chunk."""

    chunk: int
    row: int


class OutcomesPage(NamedTuple):
    """Rows, and where the list goes on (None: nowhere)."""

    rows: tuple[OutcomeRow, ...]
    after: Position | None


class _Read(NamedTuple):
    objects: ChunkObjects
    rows: tuple[OutcomeRow, ...]


class _Known:
    """What is known of one job: which row stands, for the chunks that have ended."""

    def __init__(self) -> None:
        self.standing = Standing()
        self.added: set[str] = set()
        self.urls = 0
        self.lock = asyncio.Lock()


class Outcomes:
    """Reads outcomes.

    Args:
        blobs: Where the stages' decisions are.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def page(
        self,
        job_id: str,
        chunks: Iterable[ChunkState],
        *,
        outcome: str | None,
        start: Position,
        limit: int,
    ) -> OutcomesPage:
        """Some rows of a job, in the order of its chunks and their candidates.

        Args:
            job_id: Whose.
            chunks: The job's chunks by index, as they are now.
            outcome: Only these.
            start: Where to begin.
            limit: How many rows at most.
        """
        decided = [chunk for chunk in chunks if _may_have_outcomes(chunk)]
        standing = await self._standing(job_id, decided)
        rows: list[OutcomeRow] = []
        looked_at = 0
        for chunk in decided:
            if chunk.index < start.chunk:
                continue
            if looked_at == CHUNKS_A_PAGE:
                return OutcomesPage(tuple(rows), Position(chunk.index, 0))
            looked_at += 1
            read = await self._read(chunk.chunk_id)
            first = start.row if chunk.index == start.chunk else 0
            for number, row in enumerate(standing.rows(read.objects, read.rows)):
                if number < first or (outcome is not None and row.outcome != outcome):
                    continue
                if len(rows) == limit:
                    return OutcomesPage(tuple(rows), Position(chunk.index, number))
                rows.append(row)
        return OutcomesPage(tuple(rows), None)

    async def _standing(self, job_id: str, decided: list[ChunkState]) -> Standing:
        """Which rows stand now: of ended chunks as remembered, of the others as just read."""
        known = self._remember(job_id)
        async with known.lock:
            new = [chunk for chunk in decided if chunk.chunk_id not in known.added]
            open_chunks: list[_Read] = []
            for some in _batches(new, AT_ONCE):
                for read in await asyncio.gather(*(self._read(c.chunk_id) for c in some)):
                    if read.objects.result is None:
                        open_chunks.append(read)
                        continue
                    known.standing.add(read.objects, read.rows)
                    known.added.add(read.objects.chunk_id)
                    known.urls += len(read.rows)
            self._forget()
            now = Standing(below=known.standing)
            for read in open_chunks:
                now.add(read.objects, read.rows)
            return now

    async def _read(self, chunk_id: str) -> _Read:
        objects = await read_objects(self._blobs, chunk_id)
        return _Read(objects, await asyncio.to_thread(outcomes_of_chunk, objects))

    def _remember(self, job_id: str) -> _Known:
        known = self._known.setdefault(job_id, _Known())
        self._known.move_to_end(job_id)
        return known

    def _forget(self) -> None:
        while len(self._known) > 1 and sum(k.urls for k in self._known.values()) > REMEMBERED_URLS:
            self._known.popitem(last=False)


def _may_have_outcomes(chunk: ChunkState) -> bool:
    """Candidates without a verdict have no outcome before their chunk has ended."""
    return chunk.status in {"completed", "failed"} or chunk.stage in {"validator", "uploader"}


def _batches(chunks: list[ChunkState], size: int) -> Iterable[list[ChunkState]]:
    for start in range(0, len(chunks), size):
        yield chunks[start : start + size]
