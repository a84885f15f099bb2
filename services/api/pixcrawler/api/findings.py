"""What happened to one URL, over all jobs: none has an index of URLs, so they are looked through.

Chunk by chunk, the latest job's first, in what the stages have decided. The bytes of a chunk's
verdicts (its candidates, where it has none yet) are searched before anything is parsed, so that a
chunk costs one request and a fraction of a millisecond. One answer looks through `CHUNKS_A_PAGE`
chunks or for `LOOK_S`, whichever comes first, and says how far it got.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.api.archives import Archives
from pixcrawler.api.views import Page, View
from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.chunk_outcomes import (
    ChunkObjects,
    OutcomeRow,
    outcomes_of_chunk,
    read_objects,
)
from pixcrawler.common.documents import Candidate
from pixcrawler.common.errors import BlobNotFound
from pixcrawler.common.events import Value
from pixcrawler.common.outcomes import Outcome

CHUNKS_A_PAGE = 2000
"""Chunks that one answer looks through at most: a million URLs, with chunks of 500."""
LOOK_S = 0.5
"""Seconds after which an answer begins no further chunks."""
AT_ONCE = 16
"""Objects that are read at a time."""

_TEXT = TypeAdapter(str)


class Place(NamedTuple):
    """Where the looking goes on: before this chunk of this job, or in older jobs."""

    job_id: str
    chunk: int


class UrlFinding(View):
    """What one chunk made of a URL. Unknown text is empty, unknown numbers are 0."""

    job_id: str
    """The job that had it."""
    job_created_at: datetime
    """When that was made."""
    owner: str
    """Whose job."""
    chunk_id: str
    """The chunk."""
    chunk_status: str
    """`processing`, `completed` or `failed`."""
    stage: str
    """The last stage that the chunk has reached."""
    superseded: bool
    """The chunk has failed and was retried as another, which decides."""
    url: str
    """The candidate."""
    outcome: Outcome | None
    """What became of it; null while nothing is decided."""
    detail: str = ""
    """Why, for people."""
    http_status: int = 0
    """Of the last answer."""
    final_url: str = ""
    """After redirects."""
    source: str = ""
    """Where it was found."""
    keyword: str = ""
    """What was looked for."""
    bytes: int = 0
    """How many came."""
    sha256: str = ""
    """Of the bytes, in hex."""
    duplicate_of: str = ""
    """The URL of the image that was kept instead."""
    archive: str = ""
    """The archive that its image is in, as the dataset names it."""
    file_name: str = ""
    """The image within the archive."""
    path: str = ""
    """Where this API has its bytes."""


class UrlFindings(Page[UrlFinding]):
    """What chunks made of a URL, the latest job's first, and how far was looked."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    searched_chunks: int
    """Chunks that were looked through for this page."""
    searched_since: datetime | None
    """When the oldest job of those was made; null if there was none. `next_cursor` looks on."""


class _Chunk(Value):
    """A chunk that may have had the URL."""

    chunk_id: str
    job_id: str
    chunk_index: int
    status: str
    stage: str
    owner: str
    job_created_at: datetime
    superseded: bool


class Findings:
    """Looks for URLs.

    Args:
        blobs: Where the stages' decisions are.
        archives: Where images are in archives.
        at_most: Chunks that one answer looks through.
    """

    def __init__(self, blobs: BlobStore, archives: Archives, at_most: int = CHUNKS_A_PAGE) -> None:
        self._blobs = blobs
        self._archives = archives
        self.at_most = at_most

    async def find(
        self, url: str, chunks: Sequence[RowMapping]
    ) -> tuple[tuple[UrlFinding, ...], Place | None, int]:
        """What these chunks made of a URL.

        Args:
            url: As a candidate has it, or as redirects led to it.
            chunks: As `candidates` gives them, one more than `at_most` if there are more.

        Returns:
            What was found; where to go on, if not everything was looked through; how many were.
        """
        needle = _TEXT.dump_json(url)  # as it stands in the lines, quotes included
        until = time.monotonic() + LOOK_S
        found: list[UrlFinding] = []
        looked = 0
        told = [_Chunk.model_validate(dict(row)) for row in chunks]
        while looked < min(len(told), self.at_most) and (time.monotonic() < until or not looked):
            some = told[looked : min(looked + AT_ONCE, self.at_most)]
            hits = await asyncio.gather(*(self._has(chunk, needle) for chunk in some))
            for chunk, hit in zip(some, hits, strict=True):
                if hit:
                    found += await self._in(chunk, url)
            looked += len(some)
        more = looked < len(told)
        last = told[looked - 1] if looked else None
        place = Place(last.job_id, last.chunk_index) if more and last is not None else None
        return tuple(found), place, looked

    async def _has(self, chunk: _Chunk, needle: bytes) -> bool:
        """Whether a chunk's verdicts, or before there are any its candidates, have the text."""
        for name in (names.verdicts(chunk.chunk_id), names.candidates(chunk.chunk_id)):
            try:
                return needle in await self._blobs.read(name)
            except BlobNotFound:
                pass
        return False

    async def _in(self, chunk: _Chunk, url: str) -> list[UrlFinding]:
        objects = await read_objects(self._blobs, chunk.chunk_id)
        rows, waiting = await asyncio.to_thread(_rows, objects, url)
        return [await self._finding(chunk, objects, row) for row in rows] + [
            UrlFinding(
                **_of(chunk), url=each.url, outcome=None, source=each.source, keyword=each.keyword
            )
            for each in waiting
        ]

    async def _finding(self, chunk: _Chunk, objects: ChunkObjects, row: OutcomeRow) -> UrlFinding:
        archive = objects.result.archive if objects.result else None
        where: dict[str, str] = {}
        if row.outcome is Outcome.KEPT and archive is not None:
            member = await self._archives.find(archive, row.sha256)
            images = f"/v1/jobs/{chunk.job_id}/chunks/{chunk.chunk_index}/images"
            where = {
                "archive": archive.name.rpartition("/")[2],
                "file_name": member.name if member else "",
                "path": f"{images}/{row.sha256}",
            }
        known = row.model_dump(exclude={"chunk_id", "phash", "elapsed_ms"})
        return UrlFinding(**_of(chunk), **known, **where)


def _rows(objects: ChunkObjects, url: str) -> tuple[list[OutcomeRow], list[Candidate]]:
    """What was decided of a URL, and the candidates of which nothing is decided yet."""
    rows = outcomes_of_chunk(objects)
    decided = {row.url for row in rows}
    candidates = objects.candidates.items if objects.candidates else ()
    return (
        [row for row in rows if url in {row.url, row.final_url}],
        [each for each in candidates if each.url == url and url not in decided],
    )


def _of(chunk: _Chunk) -> dict[str, object]:
    known = chunk.model_dump(exclude={"chunk_index", "status"})
    return {**known, "chunk_status": chunk.status}


async def candidates(
    connection: AsyncConnection,
    *,
    owner: str | None,
    job_id: str | None,
    before: Place | None,
    limit: int,
) -> Sequence[RowMapping]:
    """Chunks that may have had a URL, the latest job's first.

    Args:
        connection: To read with.
        owner: Only of this owner's jobs; None: of everybody's.
        job_id: Only of this job.
        before: Only what comes after this place.
        limit: How many at most.
    """
    found = await connection.execute(
        text("""
            SELECT chunk_id, job_id, chunk_index, chunk.status, stage, job.owner,
                   job.created_at AS job_created_at,
                   EXISTS (SELECT FROM job_chunks AS r WHERE r.retry_of = chunk.chunk_id)
                       AS superseded
            FROM job_chunks AS chunk JOIN crawl_jobs AS job USING (job_id)
            WHERE job.deleted_at IS NULL AND attempt > 0
              AND (CAST(:owner AS text) IS NULL OR job.owner = :owner)
              AND (CAST(:job_id AS text) IS NULL OR chunk.job_id = :job_id)
              AND (CAST(:before AS text) IS NULL
                   OR (chunk.job_id, chunk_index) < (:before, :index))
            ORDER BY job_id DESC, chunk_index DESC LIMIT :limit"""),
        {
            "owner": owner,
            "job_id": job_id,
            "before": before.job_id if before else None,
            "index": before.chunk if before else 0,
            "limit": limit,
        },
    )
    return found.mappings().all()
