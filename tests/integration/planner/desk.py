"""What the planner's tests stand on: a real database, real objects, and the neighbours' writes.

`Desk` writes what the api, the stages and the tracker would write, and hands events to the
planner's own handlers, in as many replicas as asked for.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import events, ids, names, outbox
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.chunks import result_of
from pixcrawler.common.context import RecordRef
from pixcrawler.common.db import locks
from pixcrawler.common.db.engine import connect
from pixcrawler.common.documents import (
    Candidate,
    Candidates,
    CandidatesHead,
    ChunkResult,
    Stream,
    Unanswered,
    Verdict,
    Verdicts,
    VerdictsHead,
)
from pixcrawler.common.events import (
    ChunkDownloaded,
    ChunkFailed,
    ChunkProgress,
    ChunkUploaded,
    ChunkValidated,
    Event,
    ImageTotals,
    JobCancelled,
    JobCreated,
    JobFacts,
    JobPlanned,
    Slice,
)
from pixcrawler.common.outcomes import Outcome
from pixcrawler.planner import admission, handler, store
from pixcrawler.planner.signs import Signs
from pixcrawler.planner.tools import Policy, Tools

POLICY = Policy(capacity=100, release_interval_s=0.0, backoff_s=0.0, max_retries=2)


@dataclass
class RecordContext:
    """A piece of work as the consumer loop would hand it over."""

    worker: str = "planner-test"
    source: str = "/downloader/worker-7"
    attempt: int = 0
    traceparent: str = ""

    @property
    def record(self) -> RecordRef:
        """Where the record stands."""
        return RecordRef("chunk.downloaded", 3, 17, 0)

    async def check(self) -> None:
        """Everything is wanted."""

    def report(self, done: int, total: int, images: ImageTotals) -> None:
        """Nobody listens."""


@dataclass
class Desk:
    """The planner's neighbours."""

    tools: list[Tools]
    blobs: LocalBlobs

    @property
    def engine(self) -> AsyncEngine:
        """For the neighbours' own writes."""
        return self.tools[0].engine

    # ---- the api

    async def create(
        self,
        max_images: int,
        *,
        chunk_size: int = 5,
        sources: Sequence[str] = ("commons",),
        keywords: Sequence[str] = ("cat",),
        urls: Sequence[str] | None = None,
        priority: int = 5,
        owner: str = "ann",
        refill_factor: float = 5.0,
        started: bool = True,
    ) -> str:
        """A job, and the request to start it."""
        job_id = ids.new_job_id()
        async with self.engine.begin() as connection:
            await connection.execute(
                text("""
                    INSERT INTO crawl_jobs (job_id, owner, keywords, sources, urls, max_images,
                        chunk_size, priority, options, round, started_at)
                    VALUES (:job_id, :owner, CAST(:keywords AS jsonb), CAST(:sources AS jsonb),
                        CAST(:urls AS jsonb), :max_images, :chunk_size, :priority,
                        CAST(:options AS jsonb), 0, now())"""),
                {
                    "job_id": job_id,
                    "owner": owner,
                    "keywords": json.dumps(list(keywords)),
                    "sources": json.dumps(list(sources)),
                    "urls": json.dumps(urls),
                    "max_images": max_images,
                    "chunk_size": chunk_size,
                    "priority": priority,
                    "options": json.dumps({"refill_factor": refill_factor}),
                },
            )
        if started:
            await self.request(job_id, "start")
        return job_id

    async def request(
        self, job_id: str, kind: str, *, images: int = 0, chunk_ids: Sequence[str] | None = None
    ) -> bool:
        """Store a request and count the round; False where the api would refuse it."""
        async with self.engine.begin() as connection:
            found = await connection.execute(
                text("""
                    UPDATE crawl_jobs SET round = round + 1, max_images = max_images + :images
                    WHERE job_id = :job_id AND cancelled_at IS NULL AND deleted_at IS NULL
                      AND (round > 0) = (:kind <> 'start')
                    RETURNING round"""),
                {"job_id": job_id, "images": images, "kind": kind},
            )
            number = found.scalar_one_or_none()
            if number is None:
                return False
            await connection.execute(
                text("""
                    INSERT INTO job_requests (job_id, round, kind, images, chunk_ids)
                    VALUES (:job_id, :round, :kind, :images, CAST(:chunk_ids AS jsonb))"""),
                {
                    "job_id": job_id,
                    "round": number,
                    "kind": kind,
                    "images": images,
                    "chunk_ids": json.dumps(chunk_ids),
                },
            )
            await self._tell(connection, JobCreated(job_id=job_id, round=number, reason=kind))
        return True

    async def cancel(self, job_id: str) -> bool:
        """Cancel, as round 1 if the job was never started."""
        async with self.engine.begin() as connection:
            found = await connection.execute(
                text("""
                    UPDATE crawl_jobs SET cancelled_at = now(), round = greatest(round, 1)
                    WHERE job_id = :job_id AND cancelled_at IS NULL AND deleted_at IS NULL
                    RETURNING job_id"""),
                {"job_id": job_id},
            )
            if found.scalar_one_or_none() is None:
                return False
            await self._tell(connection, JobCancelled(job_id=job_id))
        return True

    async def delete(self, job_id: str) -> None:
        """Delete."""
        async with self.engine.begin() as connection:
            await connection.execute(
                text("""
                    UPDATE crawl_jobs SET deleted_at = coalesce(deleted_at, now())
                    WHERE job_id = :job_id"""),
                {"job_id": job_id},
            )
            await self._tell(connection, JobCancelled(job_id=job_id, deleted=True))

    async def _tell(self, connection: Any, event: Event) -> None:
        await outbox.add(connection, event, source="/api/test", traceparent="")

    # ---- the stages

    async def complete(
        self,
        chunk: str,
        valid: int,
        *,
        candidates: int = 5,
        surplus: int = 0,
        exhausted: Sequence[Stream] = (),
        unanswered: Sequence[Unanswered] = (),
    ) -> ChunkResult:
        """Let the uploader say how the chunk ended; what it says if it was first."""
        dropped = {"surplus": surplus, "http_error": candidates - valid - surplus}
        mine = ChunkResult(
            chunk_id=chunk,
            status="completed",
            images=ImageTotals(candidates=candidates, valid=valid, dropped=dropped),
            exhausted=tuple(exhausted),
            unanswered=tuple(unanswered),
        )
        await self.blobs.create(names.result(chunk), mine.model_dump_json().encode())
        return mine

    async def write_verdicts(self, chunk: str, outcomes: Sequence[Verdict]) -> None:
        """Let the downloader and the validator decide about a chunk."""
        items = tuple(
            Candidate(position=v.position, url=v.url, source="commons", keyword="cat")
            for v in outcomes
        )
        head = CandidatesHead(chunk_id=chunk, count=len(items))
        await self.blobs.create(names.candidates(chunk), Candidates(head=head, items=items).dump())
        verdicts = Verdicts(
            head=VerdictsHead(chunk_id=chunk, images=ImageTotals(), valid_images=0),
            items=tuple(outcomes),
        )
        await self.blobs.create(names.verdicts(chunk), verdicts.dump())

    async def claim(self, chunk: str, images: Sequence[str], limit: int) -> list[str]:
        """The validator's transaction: what this chunk keeps of these images."""
        job_id = ids.parse_chunk_id(chunk).job_id
        async with self.engine.begin() as connection:
            await locks.job_lock(connection, job_id)
            row = await connection.execute(
                text("""
                    SELECT max_images, status FROM job_chunks JOIN crawl_jobs USING (job_id)
                    WHERE chunk_id = :chunk AND cancelled_at IS NULL AND deleted_at IS NULL"""),
                {"chunk": chunk},
            )
            state = row.one_or_none()
            if state is None or state.status == "failed":
                return []
            marked = await connection.scalar(
                text("SELECT true FROM chunk_claims WHERE chunk_id = :chunk"), {"chunk": chunk}
            )
            if not marked:
                await self._claim(connection, job_id, chunk, images, min(limit, state.max_images))
            mine = await connection.execute(
                text("SELECT url FROM image_claims WHERE chunk_id = :chunk ORDER BY position"),
                {"chunk": chunk},
            )
            return list(mine.scalars())

    async def _claim(
        self, connection: Any, job_id: str, chunk: str, images: Sequence[str], limit: int
    ) -> None:
        live = await connection.execute(
            text("""
                SELECT claim.url FROM image_claims AS claim JOIN job_chunks USING (chunk_id)
                WHERE claim.job_id = :job_id AND status <> 'failed'"""),
            {"job_id": job_id},
        )
        held = set(live.scalars())
        for position, image in enumerate(images):
            if image in held or len(held) >= limit:
                continue
            held.add(image)
            await connection.execute(
                text("""
                    INSERT INTO image_claims (job_id, sha256, phash, url, chunk_id, position)
                    VALUES (:job_id, :sha256, 0, :url, :chunk, :position)
                    ON CONFLICT (job_id, sha256)
                    DO UPDATE SET chunk_id = :chunk, position = :position"""),
                {
                    "job_id": job_id,
                    "sha256": hashlib.sha256(image.encode()).digest(),
                    "url": image,
                    "chunk": chunk,
                    "position": position,
                },
            )
        await connection.execute(
            text("INSERT INTO chunk_claims (chunk_id, job_id) VALUES (:chunk, :job_id)"),
            {"chunk": chunk, "job_id": job_id},
        )

    async def show_finished(self, job_id: str, number: int) -> None:
        """Let the tracker show the round as finished."""
        async with self.engine.begin() as connection:
            await connection.execute(
                text("""
                    INSERT INTO job_progress (job_id, revision, progress)
                    VALUES (:job_id, CAST(:revision AS jsonb), '{}')
                    ON CONFLICT (job_id) DO UPDATE SET revision = CAST(:revision AS jsonb)"""),
                {"job_id": job_id, "revision": json.dumps([number, number, number, 0, 0])},
            )

    async def forget_progress(self, job_id: str) -> None:
        """Let the tracker erase its row."""
        async with self.engine.begin() as connection:
            await connection.execute(
                text("DELETE FROM job_progress WHERE job_id = :job_id"), {"job_id": job_id}
            )

    # ---- the planner

    async def handle(self, event: Event, replica: int = 0, signs: Signs | None = None) -> None:
        """Hand an event to one replica of the planner."""
        tools, context = self.tools[replica], RecordContext()
        match event:
            case JobCreated():
                answer = await handler.handle_job_created(event, context, tools=tools)
            case JobCancelled():
                answer = await handler.handle_job_cancelled(event, context, tools=tools)
            case ChunkUploaded():
                answer = await handler.handle_chunk_uploaded(event, context, tools=tools)
            case ChunkFailed():
                answer = await handler.handle_chunk_failed(event, context, tools=tools)
            case ChunkDownloaded():
                answer = await handler.handle_chunk_downloaded(event, context, tools=tools)
            case ChunkValidated():
                answer = await handler.handle_chunk_validated(event, context, tools=tools)
            case ChunkProgress():
                signs = signs or Signs(tools.engine)
                answer = await handler.handle_chunk_progress(event, context, signs=signs)
            case _:
                raise AssertionError(f"the planner does not read {event.topic}")
        assert list(answer) == []

    async def started(self, max_images: int, **options: Any) -> str:
        """A job that the planner has split."""
        job_id = await self.create(max_images, **options)
        await self.handle(JobCreated(job_id=job_id, round=1, reason="start"))
        return job_id

    async def admitted(self, max_images: int, **options: Any) -> str:
        """A job all of whose chunks hold a slot."""
        job_id = await self.started(max_images, **options)
        await admission.admit(self.tools[0])
        return job_id

    async def upload(self, chunk: str, valid: int, **options: Any) -> None:
        """Complete a chunk and tell the planner."""
        await self.complete(chunk, valid, **options)
        await self.handle(uploaded(chunk))

    # ---- looking

    async def rows(self, job_id: str) -> list[dict[str, Any]]:
        """`job_chunks` of a job by index."""
        async with self.engine.connect() as connection:
            found = await connection.execute(
                text("SELECT * FROM job_chunks WHERE job_id = :j ORDER BY chunk_index"),
                {"j": job_id},
            )
            return [dict(row) for row in found.mappings()]

    async def result_status(self, chunk: str) -> str:
        """What the chunk's result says."""
        result = await result_of(self.blobs, chunk)
        assert result is not None
        return result.status

    async def statuses(self, job_id: str) -> list[str]:
        """The statuses of a job's chunks by index."""
        return [row["status"] for row in await self.rows(job_id)]

    async def said(self, job_id: str, kind: type[Event] = JobPlanned) -> list[Event]:
        """The job's events of one kind, as they went into the outbox."""
        async with self.engine.connect() as connection:
            found = await connection.execute(
                text("SELECT topic, key, value FROM outbox WHERE topic = :t ORDER BY id"),
                {"t": kind.topic},
            )
            decoded = [events.decode(*row) for row in found]
        return [event for event in decoded if getattr(event, "job_id", "") == job_id]

    async def facts(self, job_id: str) -> JobFacts:
        """What was said of the job last."""
        last = (await self.said(job_id))[-1]
        assert isinstance(last, JobPlanned)
        return last.facts()

    async def book(self, job_id: str) -> store.Book:
        """The latest round's row."""
        async with self.engine.connect() as connection:
            found = await store.book(connection, job_id)
        assert found is not None
        return found

    async def column(self, statement: str, **values: Any) -> list[Any]:
        """The first column of a query's rows."""
        async with self.engine.connect() as connection:
            return list((await connection.execute(text(statement), values)).scalars())

    async def execute(self, statement: str, **values: Any) -> None:
        """One statement, committed."""
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), values)

    async def silence(self, chunk: str) -> None:
        """Let the chunk's last sign of life be long ago."""
        await self.execute(
            "UPDATE job_chunks SET last_seen_at = now() - interval '99 days' WHERE chunk_id = :c",
            c=chunk,
        )

    async def dump(self) -> list[tuple[Any, ...]]:
        """Everything that the planner owns, to compare."""
        async with self.engine.connect() as connection:
            found = [
                *await connection.execute(text("SELECT * FROM job_chunks ORDER BY chunk_id")),
                *await connection.execute(text("SELECT * FROM job_rounds ORDER BY job_id, round")),
            ]
        return [tuple(row) for row in found]


def uploaded(chunk: str, attempt: int = 1) -> ChunkUploaded:
    """The uploader's event."""
    return ChunkUploaded(chunk_id=chunk, attempt=attempt, images=ImageTotals())


def failed(
    chunk: str, attempt: int = 1, *, retriable: bool = True, error: str = "blob_store"
) -> ChunkFailed:
    """A stage's event."""
    return ChunkFailed(
        chunk_id=chunk,
        attempt=attempt,
        stage="downloader",
        retriable=retriable,
        error=error,
        message="it did not work",
    )


def verdict(position: int, image: str, outcome: Outcome, duplicate_of: str = "") -> Verdict:
    """A verdict about an image whose URL is its name."""
    return Verdict(
        position=position,
        url=image,
        outcome=outcome,
        sha256=hashlib.sha256(image.encode()).hexdigest(),
        duplicate_of=duplicate_of,
    )


def slices_of(row: dict[str, Any]) -> list[Slice]:
    """A row's slices."""
    return [Slice.model_validate(piece) for piece in row["slices"]]


@asynccontextmanager
async def open_desk(
    database: str, directory: Path, *, replicas: int = 1, policy: Policy = POLICY
) -> AsyncIterator[Desk]:
    """A desk with so many replicas of the planner, each with connections of its own."""
    engines = [connect(database, pool_size=4) for _ in range(replicas)]
    blobs = LocalBlobs(directory)
    desk = Desk([Tools(engine, blobs, policy) for engine in engines], blobs)
    try:
        await desk.execute("TRUNCATE crawl_jobs, outbox CASCADE")
        yield desk
    finally:
        await blobs.close()
        for engine in engines:
            await engine.dispose()
