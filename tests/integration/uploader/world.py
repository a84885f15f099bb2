"""A job in a real database and a real store, and what the uploader needs around its handlers."""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import jobs, names
from pixcrawler.common.bitmaps import from_indices, to_ranges
from pixcrawler.common.blobs.port import BlobInfo, BlobStore, Content
from pixcrawler.common.context import RecordRef
from pixcrawler.common.db.tables import crawl_jobs
from pixcrawler.common.documents import ChunkResult
from pixcrawler.common.errors import Stopped
from pixcrawler.common.events import (
    ChunkUploaded,
    ChunkValidated,
    Event,
    ImageTotals,
    JobPlanned,
    JobStatus,
)
from pixcrawler.common.ids import new_job_id, parse_chunk_id
from pixcrawler.uploader.handler import handle_chunk_validated, handle_job_planned
from pixcrawler.uploader.transforming import Transformer
from tests.unit.uploader.made import Made


@dataclass
class Hand:
    """One piece of work in hand, as the consumer loop shows it to a handler."""

    engine: AsyncEngine
    job_id: str
    attempt: int = 1
    watched: bool = True
    worker: str = "test"
    source: str = ""
    traceparent: str = ""
    record: RecordRef = field(default_factory=lambda: RecordRef("t", 0, 0, 0))
    reported: list[tuple[int, int]] = field(default_factory=list)

    async def check(self) -> None:
        if not self.watched:
            return
        async with self.engine.connect() as connection:
            if await jobs.unwanted(connection, [self.job_id]):
                raise Stopped("not wanted any more")

    def report(self, done: int, total: int, images: ImageTotals) -> None:
        del images
        self.reported.append((done, total))


@dataclass
class World:
    """A store, a database, and a job in it."""

    blobs: BlobStore
    engine: AsyncEngine
    job_id: str
    ended: list[str] = field(default_factory=list)
    counted: list[ImageTotals] = field(default_factory=list)
    hands: list[Hand] = field(default_factory=list)
    transformer: Transformer = field(default_factory=lambda: Transformer(2))

    def chunk(self, index: int) -> str:
        return f"{self.job_id}-{index:05d}"

    async def upload(
        self, made: Made, *, blobs: BlobStore | None = None, attempt: int = 1
    ) -> list[Event]:
        """Handle `chunk.validated` of a chunk."""
        handle = partial(
            handle_chunk_validated,
            blobs=blobs or self.blobs,
            engine=self.engine,
            transformer=self.transformer,
            ended=self.ended.append,
            count=self.counted.append,
        )
        event = ChunkValidated(chunk_id=made.chunk, attempt=1, images=made.verdicts.head.images)
        self.hands.append(Hand(self.engine, self.job_id, attempt=attempt))
        return list(await handle(event, self.hands[-1]))

    async def finish(self, event: JobPlanned, *, blobs: BlobStore | None = None) -> list[Event]:
        """Handle `job.planned`."""
        hand = Hand(self.engine, self.job_id, watched=False)
        return list(
            await handle_job_planned(event, hand, blobs=blobs or self.blobs, engine=self.engine)
        )

    def planned(
        self,
        *,
        completed: tuple[int, ...] = (),
        failed: tuple[int, ...] = (),
        round_number: int = 1,
        closed: int | None = None,
        status: JobStatus = "completed",
        kept: int = 0,
    ) -> JobPlanned:
        """The facts of the job's round."""
        return JobPlanned(
            job_id=self.job_id,
            round=round_number,
            closed_round=round_number if closed is None else closed,
            status=status,
            reason="reached",
            total_chunks=len(completed) + len(failed),
            completed=to_ranges(from_indices(completed)),
            failed=to_ranges(from_indices(failed)),
            requested=kept,
            kept=kept,
        )

    async def give_up(self, chunk: str, error: str = "blob_store") -> bool:
        """Decide as the planner does that the chunk has failed; False if it had ended."""
        result = ChunkResult(
            chunk_id=chunk, status="failed", error=error, message=f"given up: {error}"
        )
        return await self.blobs.create(names.result(chunk), result.model_dump_json().encode())

    async def change_job(self, **values: Any) -> None:
        """Change the job's row as the api does."""
        async with self.engine.begin() as connection:
            await connection.execute(
                update(crawl_jobs).where(crawl_jobs.c.job_id == self.job_id).values(values)
            )

    async def listed(self, prefix: str) -> list[str]:
        """The names of what is stored below a prefix."""
        return [blob.name async for blob in self.blobs.list(prefix)]

    async def contents(self, prefix: str) -> dict[str, bytes]:
        """What is stored below a prefix."""
        return {name: await self.blobs.read(name) for name in await self.listed(prefix)}


async def new_world(blobs: BlobStore, engine: AsyncEngine, **values: Any) -> World:
    """A started job with nothing planned."""
    job_id = new_job_id()
    row = {
        "job_id": job_id,
        "owner": "someone",
        "name": "",
        "keywords": ["red panda"],
        "sources": ["commons"],
        "max_images": 10,
        "chunk_size": 500,
        "options": {},
        "round": 1,
    }
    async with engine.begin() as connection:
        await connection.execute(insert(crawl_jobs).values(row | values))
    return World(blobs, engine, job_id)


class Crash(BaseException):
    """The process is gone: nothing catches this, and nothing after it happens."""


class Interrupted:
    """A store in front of which something happens before or after each change.

    Args:
        blobs: The store.
        before: Called with the kind of the change and the object's name before it is made.
        after: Likewise, once it is made.
    """

    def __init__(
        self,
        blobs: BlobStore,
        *,
        before: Callable[[str, str], Any] | None = None,
        after: Callable[[str, str], Any] | None = None,
    ) -> None:
        self._blobs = blobs
        self._before = before
        self._after = after
        self.changes = 0

    async def create(self, name: str, content: Content) -> bool:
        await self._step(self._before, "create", name)
        created = await self._blobs.create(name, content)
        await self._step(self._after, "create", name)
        return created

    async def put(self, name: str, content: Content) -> None:
        await self._step(self._before, "put", name)
        await self._blobs.put(name, content)
        await self._step(self._after, "put", name)

    async def delete(self, name: str) -> None:
        await self._step(self._before, "delete", name)
        await self._blobs.delete(name)
        await self._step(self._after, "delete", name)

    async def delete_prefix(self, prefix: str) -> int:
        await self._step(self._before, "delete_prefix", prefix)
        removed = await self._blobs.delete_prefix(prefix)
        await self._step(self._after, "delete_prefix", prefix)
        return removed

    async def _step(self, call: Callable[[str, str], Any] | None, kind: str, name: str) -> None:
        self.changes += 1
        if call is not None and (waiting := call(kind, name)) is not None:
            await waiting

    async def read(self, name: str) -> bytes:
        return await self._blobs.read(name)

    def stream(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        return self._blobs.stream(name, offset=offset, length=length)

    async def stat(self, name: str) -> BlobInfo | None:
        return await self._blobs.stat(name)

    def list(self, prefix: str) -> AsyncIterator[BlobInfo]:
        return self._blobs.list(prefix)

    async def link(self, name: str, *, expires_s: int, filename: str) -> str | None:
        return await self._blobs.link(name, expires_s=expires_s, filename=filename)

    async def check(self) -> None:
        await self._blobs.check()

    async def close(self) -> None:
        """The store below stays open."""


def crash_at(blobs: BlobStore, step: int) -> Interrupted:
    """A store whose process dies at the given step: each change has one before and one after it."""
    left = step

    def count(kind: str, name: str) -> None:
        nonlocal left
        if left == 0:
            raise Crash(f"{kind} {name}")
        left -= 1

    return Interrupted(blobs, before=count, after=count)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def uploaded(events: list[Event]) -> ChunkUploaded:
    """The one event, which says that the chunk has completed."""
    [event] = events
    assert isinstance(event, ChunkUploaded)
    assert parse_chunk_id(event.chunk_id)
    return event
