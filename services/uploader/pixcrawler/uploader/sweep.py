"""Removing what nobody needs any more: by state, again and again, never by age alone.

- Staging of a chunk that has a result.
- An archive of a chunk whose result is failed: its packer lost to the planner and then died.
- Everything of a job that is deleted, or unknown: its tombstone has ended. Again and again, since a
  stage that was paused may still write after its job is gone.
- An uploaded list of URLs that is deleted, or unknown: its upload died before it had a row. A list
  that is neither stays, whether a job names it or not.

Every replica sweeps; what one has removed, the other does not find. A job's row exists before its
first object, and objects are listed before rows are looked up, so a job that is not found is gone;
all the same an unknown job's objects are only removed once the youngest has some age, so that a
service that was started with the wrong database does no harm at once.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from sqlalchemy import Column, Table, func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import logs, names
from pixcrawler.common.blobs.port import BlobInfo, BlobStore
from pixcrawler.common.chunks import result_of
from pixcrawler.common.db.tables import crawl_jobs, job_chunks, url_lists
from pixcrawler.common.ids import chunk_id, parse_chunk_id
from pixcrawler.common.periodic import beat

log = logs.get(__name__)

JOBS, STAGING, DATASETS = "jobs/", "staging/", "datasets/"
ROWS_AT_ONCE = 1000
AT_ONCE = 8
_ARCHIVE = "chunk_"


@dataclass(frozen=True)
class Swept:
    """How many objects a pass has removed."""

    staging: int = 0
    archives: int = 0
    jobs: int = 0
    lists: int = 0


class Sweeper:
    """Removes what the state says is not needed any more.

    Args:
        blobs: Where everything is.
        engine: Where the jobs are.
        deleted_for: A job that was deleted within this time is swept at every pass; one that was
            deleted before only where something of it is found.
        unknown_for: How old the youngest object of an unknown job is at least when it is removed.
        now: The time that the store's times are compared with.
    """

    def __init__(
        self,
        blobs: BlobStore,
        engine: AsyncEngine,
        *,
        deleted_for: timedelta,
        unknown_for: timedelta,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._blobs = blobs
        self._engine = engine
        self._deleted_for = deleted_for
        self._unknown_for = unknown_for
        self._now = now
        self._ended: set[str] = set()

    def chunk_ended(self, chunk: str) -> None:
        """Note that a chunk has a result; `clear` removes its staging."""
        self._ended.add(chunk)

    async def clear(self) -> int:
        """Remove the staging of chunks that were noted; how many objects there were."""
        removed = 0
        while self._ended:
            beat()
            removed += await self._blobs.delete_prefix(names.staging_prefix(self._ended.pop()))
        return removed

    async def sweep(self) -> Swept:
        """One pass over what changes often: staging, and jobs that were deleted lately."""
        jobs = await self._erase(await self._deleted_lately())
        swept = Swept(staging=await self._sweep_staging(), jobs=jobs)
        _report(swept)
        return swept

    async def sweep_all(self) -> Swept:
        """One pass over every object: archives of failed chunks, jobs and lists that are gone."""
        newest: dict[str, datetime] = {}
        archives: list[str] = []
        for prefix in (STAGING, DATASETS, JOBS):
            async for blob in self._blobs.list(prefix):
                beat()
                job = _segment(blob, 1)
                if _is_job(job):
                    newest[job] = max(blob.modified, newest.get(job, blob.modified))
                    archives.extend(_archive_of(blob))
        swept = Swept(
            archives=await self._remove_archives(archives),
            jobs=await self._erase(await self._gone(newest, crawl_jobs, crawl_jobs.c.job_id)),
            lists=await self._sweep_lists(),
        )
        _report(swept)
        return swept

    async def _sweep_staging(self) -> int:
        chunks: dict[str, None] = {}
        async for blob in self._blobs.list(STAGING):
            beat()
            chunks[_segment(blob, 2)] = None
        gate = asyncio.Semaphore(AT_ONCE)

        async def remove(chunk: str) -> int:
            async with gate:
                beat()
                if await self._blobs.stat(names.result(chunk)) is None:
                    return 0
                return await self._blobs.delete_prefix(names.staging_prefix(chunk))

        return sum(await asyncio.gather(*map(remove, filter(_is_chunk, chunks))))

    async def _deleted_lately(self) -> list[str]:
        query = select(crawl_jobs.c.job_id).where(
            crawl_jobs.c.deleted_at > func.now() - self._deleted_for
        )
        async with self._engine.connect() as connection:
            return list((await connection.execute(query)).scalars())

    async def _sweep_lists(self) -> int:
        newest: dict[str, datetime] = {}
        async for blob in self._blobs.list(names.LISTS):
            beat()
            known = _segment(blob, 1)
            if _is_job(known):  # an id of the same form
                newest[known] = max(blob.modified, newest.get(known, blob.modified))
        removed = 0
        for list_id in await self._gone(newest, url_lists, url_lists.c.list_id):
            beat()
            removed += await self._blobs.delete_prefix(names.list_prefix(list_id))
        return removed

    async def _gone(self, newest: dict[str, datetime], table: Table, key: Column[str]) -> list[str]:
        """Which of these jobs or lists are deleted, or unknown and not young."""
        old = self._now() - self._unknown_for
        gone = []
        for batch in _batches(newest):
            query = select(key.label("key"), table.c.deleted_at).where(key.in_(batch))
            async with self._engine.connect() as connection:
                rows = {row.key: row.deleted_at for row in await connection.execute(query)}
            gone += [job for job in batch if rows.get(job) is not None]
            gone += [job for job in batch if job not in rows and newest[job] < old]
        return gone

    async def _remove_archives(self, archives: Sequence[str]) -> int:
        """Remove those of failed chunks: the rows say which may be, the results which are."""
        removed = 0
        for batch in _batches(archives):
            chunks = {_chunk_of(name): name for name in batch}
            query = select(job_chunks.c.chunk_id).where(
                job_chunks.c.chunk_id.in_(list(chunks)), job_chunks.c.status == "failed"
            )
            async with self._engine.connect() as connection:
                failed = list((await connection.execute(query)).scalars())
            for chunk in failed:
                beat()
                result = await result_of(self._blobs, chunk)
                if result is not None and result.status == "failed":
                    await self._blobs.delete(chunks[chunk])
                    removed += 1
        return removed

    async def _erase(self, jobs: Collection[str]) -> int:
        removed = 0
        for job in jobs:
            for prefix in (
                names.staging_job_prefix(job),
                names.dataset_prefix(job),
                names.job_prefix(job),
            ):
                beat()
                removed += await self._blobs.delete_prefix(prefix)
        return removed


def _archive_of(blob: BlobInfo) -> list[str]:
    name = blob.name
    archive = name.startswith(DATASETS) and name.split("/")[-1].startswith(_ARCHIVE)
    return [name] if archive and _is_chunk(_chunk_of(name)) else []


def _chunk_of(archive: str) -> str:
    return archive.rpartition("/")[2].removeprefix(_ARCHIVE).partition(".")[0]


def _segment(blob: BlobInfo, number: int) -> str:
    """A part of the name, empty where it has no such part."""
    segments = blob.name.split("/")
    return segments[number] if number < len(segments) else ""


def _is_job(text: str) -> bool:
    return _is_chunk(chunk_id(text, 0))


def _is_chunk(text: str) -> bool:
    try:
        parse_chunk_id(text)
    except ValueError:
        return False
    return True


def _batches(items: Iterable[str]) -> Iterable[list[str]]:
    iterator = iter(items)
    while batch := list(islice(iterator, ROWS_AT_ONCE)):
        yield batch


def _report(swept: Swept) -> None:
    if swept != Swept():
        log.info(
            "swept",
            action="sweep",
            staging=swept.staging,
            archives=swept.archives,
            jobs=swept.jobs,
            lists=swept.lists,
        )
