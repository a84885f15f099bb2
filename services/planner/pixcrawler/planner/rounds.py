"""Looking at a job: the one place where the planner decides about rounds.

Everything is decided in one transaction that starts with the job's lock, so two replicas that each
end one of the last two chunks do not both look away. Nothing is read from or written to the blob
store meanwhile: results are read before (they never change, so an old reading is as good as a new
one), and when a decision needs more of it, the transaction ends, the objects are read or created,
and the look begins again.

Looking is idempotent: where nothing has changed it changes nothing and says nothing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common import logs, metrics, outbox, ranges
from pixcrawler.common.controls import paused_sources
from pixcrawler.common.db import locks
from pixcrawler.common.db.engine import transaction
from pixcrawler.common.documents import ChunkResult
from pixcrawler.common.events import JobFacts, JobPlanned
from pixcrawler.common.telemetry import sending
from pixcrawler.planner import endings, facts, plan, records, refill, store
from pixcrawler.planner.facts import Reason
from pixcrawler.planner.plan import Cursor
from pixcrawler.planner.records import JobRecord
from pixcrawler.planner.store import Book, ChunkRow, JobRow, NewChunk
from pixcrawler.planner.tools import Tools

log = logs.get(__name__)

CANCELLED = "cancelled"
"""The error of a chunk that was given up because nobody wants its job any more."""


class Case(NamedTuple):
    """A job as it stands, its latest round, and its chunks by index."""

    job: JobRow
    book: Book
    chunks: tuple[ChunkRow, ...]


@dataclass(frozen=True)
class Seen:
    """What one transaction found and did.

    Attributes:
        ended: Chunks that it marked as ended, with seconds since their last admission.
        made: How many chunks it made.
        closed: How the round ended that it closed.
        give_up: Open chunks of a job that nobody wants: give them up and look again.
        read: Chunks of which the decision needs to know what they have lost: count and look again.
        chunks: How many chunks the job had.
        record: What a round that is about to be opened asks for: keep it and look again.
    """

    ended: tuple[tuple[ChunkResult, float | None], ...] = ()
    made: int = 0
    closed: JobFacts | None = None
    give_up: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    chunks: int = 0
    record: JobRecord | None = None


@dataclass(frozen=True)
class Counted:
    """What is known of the blob store, found out without a lock.

    First, what completed chunks have lost.

    Claims change only while a chunk is open, and an ended chunk never opens again. So when every
    chunk had ended before it was counted, and there are as many chunks now and all of them have
    ended, this is how it stands now.

    Attributes:
        chunks: How many chunks the job had; all had ended.
        lost: How many images by chunk id, of those that have lost any.
        recorded: The latest round of which the blob store has what it asks for.
    """

    chunks: int = -1
    lost: Mapping[str, int] = field(default_factory=dict)
    recorded: int = 0


async def look(tools: Tools, job_id: str, results: Collection[ChunkResult] = ()) -> None:
    """Apply what ended, apply requests, refill, close: whatever is next for a job.

    Args:
        tools: Where things are.
        job_id: Which job; nothing happens if it is unknown.
        results: Of chunks of this job.
    """
    known = Counted()
    while True:
        async with tools.turns.turn(job_id), transaction(tools.engine, "look") as connection:
            await locks.job_lock(connection, job_id)
            seen = await _decide(connection, tools, job_id, results, known)
        _tell(tools, job_id, seen)
        if seen.give_up:
            results = await endings.give_up_all(
                tools.blobs, seen.give_up, error=CANCELLED, message="the job was cancelled"
            )
        elif seen.read:
            lost = await endings.count_lost(tools.engine, tools.blobs, job_id, seen.read)
            known = replace(known, chunks=seen.chunks, lost=lost)
        elif seen.record is not None:
            await records.keep(tools.blobs, job_id, seen.record)
            known = replace(known, recorded=seen.record.round)
        else:
            return


def _tell(tools: Tools, job_id: str, seen: Seen) -> None:
    """Metrics, logs and hints, after the commit."""
    tools.published()
    if seen.ended or seen.made:
        tools.released()
    for result, seconds in seen.ended:
        metrics.CHUNKS.labels(stage="planner", status=result.status).inc()
        if seconds is not None:
            metrics.CHUNK_DURATION.labels(stage="planner").observe(seconds)
        log.info(
            "chunk ended",
            action="end",
            chunk=result.chunk_id,
            status=result.status,
            error=result.error,
        )
    if seen.made:
        log.info("chunks planned", action="plan", job=job_id, chunks=seen.made)
    if seen.closed is not None:
        metrics.JOBS.labels(status=seen.closed.status).inc()
        log.info(
            "round closed",
            action="close",
            job=job_id,
            round=seen.closed.closed_round,
            status=seen.closed.status,
            reason=seen.closed.reason,
            kept=seen.closed.kept,
            requested=seen.closed.requested,
        )


async def _decide(
    connection: AsyncConnection,
    tools: Tools,
    job_id: str,
    results: Collection[ChunkResult],
    known: Counted,
) -> Seen:
    """One transaction's look, the job's lock being held."""
    job = await store.job(connection, job_id)
    if job is None:
        return Seen()
    ended = await _end(connection, results)
    chunks = await store.chunks(connection, job_id)
    working = tuple(chunk.chunk_id for chunk in chunks if chunk.open)
    if working and not job.wanted:
        return Seen(ended, give_up=working)
    if job.deleted:
        await store.erase(connection, job_id)
        return Seen(ended)
    if job.round == 0:
        return Seen(ended)  # not started
    seen = await _go_on(connection, tools, job, chunks, known)
    return replace(seen, ended=ended)


async def _end(
    connection: AsyncConnection, results: Collection[ChunkResult]
) -> tuple[tuple[ChunkResult, float | None], ...]:
    """Mark chunks as ended: those that were still open, with seconds since their admission."""
    if not results:
        return ()
    seconds = await store.end_chunks(connection, results)
    return tuple((r, seconds[r.chunk_id]) for r in results if r.chunk_id in seconds)


async def _go_on(
    connection: AsyncConnection,
    tools: Tools,
    job: JobRow,
    chunks: tuple[ChunkRow, ...],
    known: Counted,
) -> Seen:
    """Apply requests; then wait for open chunks, or refill, or close."""
    book = await store.book(connection, job.job_id)
    made = 0
    if book is None or book.round < job.round:
        if known.recorded < job.round:
            return Seen(record=await records.of(connection, job.job_id))
        book, made = await _open_rounds(connection, job, chunks, book)
        chunks = await store.chunks(connection, job.job_id)
    case = Case(job, book, chunks)
    if any(chunk.open for chunk in chunks):
        await _say(connection, tools, case)
        return Seen(made=made)
    if book.closed_round == job.round:
        return Seen()
    if not job.wanted:
        return await _close(connection, tools, case, "cancelled")
    return await _refill_or_close(connection, tools, case, known)


async def _open_rounds(
    connection: AsyncConnection, job: JobRow, chunks: tuple[ChunkRow, ...], before: Book | None
) -> tuple[Book, int]:
    """Apply the requests of the rounds that are new, in their order.

    An extension needs nothing here: `max_images` has grown, and the refill sees what is missing.

    Returns:
        The latest round's book, and how many chunks were made.
    """
    known = before.cursors if before is not None else ()
    cursors = plan.cursors_for(plan.streams(job.sources, job.keywords), known)
    new: tuple[NewChunk, ...] = ()
    if job.wanted and not chunks:
        new, cursors = split(job, cursors)
    elif job.wanted:
        new = await _retries(connection, job, chunks, after=before.round if before else 0)
    await store.open_rounds(
        connection, job.job_id, before.round if before else 0, job.round, cursors
    )
    made = await _insert(connection, job, chunks, new)
    book = await store.book(connection, job.job_id)
    assert book is not None, "a round was opened just now"
    return book, made


def split(
    job: JobRow, cursors: tuple[Cursor, ...]
) -> tuple[tuple[NewChunk, ...], tuple[Cursor, ...]]:
    """The chunks that a job starts with: as many candidates as images were asked for."""
    stretches = ranges.initial_ranges(
        job.max_images, job.chunk_size, ranges.supply(job.sources, job.urls)
    )
    count = sum(stretch.size for stretch in stretches)
    first = plan.plan_chunks(cursors, 0, count, job.chunk_size, job.urls)
    return tuple(NewChunk(*chunk) for chunk in first.chunks), first.cursors


async def _retries(
    connection: AsyncConnection, job: JobRow, chunks: tuple[ChunkRow, ...], after: int
) -> tuple[NewChunk, ...]:
    asked = await store.requests(connection, job.job_id, after)
    named = [request.chunk_ids for request in asked if request.kind == "retry"]
    if not named:
        return ()
    details = await store.details(connection, job.job_id)
    return refill.retries(chunks, details, named)


async def _insert(
    connection: AsyncConnection,
    job: JobRow,
    chunks: tuple[ChunkRow, ...],
    new: tuple[NewChunk, ...],
) -> int:
    if not new:
        return 0
    first = chunks[-1].index + 1 if chunks else 0
    return await store.insert_chunks(connection, job.job_id, job.priority, first, new)


async def _refill_or_close(
    connection: AsyncConnection,
    tools: Tools,
    case: Case,
    known: Counted,
) -> Seen:
    """Every chunk has ended: plan more, or close the round."""
    job, book, chunks = case
    if facts.kept(chunks) >= job.max_images:
        return await _close(connection, tools, case, "reached")
    details = await store.details(connection, job.job_id)
    suspects = refill.suspects(chunks, details)
    if suspects and known.chunks != len(chunks):
        return Seen(read=suspects, chunks=len(chunks))
    more = refill.plan_refill(
        job,
        chunks,
        book.cursors,
        details,
        known.lost,
        since=book.opened_at,
        rest_s=tools.policy.source_rest_s,
        paused=await paused_sources(connection),
    )
    if more.waits:
        await _say(connection, tools, Case(job, book, chunks))
        return Seen()
    if not more.chunks:
        return await _close(connection, tools, case, more.reason)
    made = await _insert(connection, job, chunks, more.chunks)
    chunks = await store.chunks(connection, job.job_id)
    book = book.model_copy(update={"cursors": more.cursors})
    await _say(connection, tools, Case(job, book, chunks))
    return Seen(made=made)


async def _say(connection: AsyncConnection, tools: Tools, case: Case) -> None:
    """Keep and publish the facts of an open round, if they have changed."""
    present = facts.present(case.job, case.book, case.chunks)
    if present != case.book.facts:
        await _write(connection, tools, case, present)


async def _close(connection: AsyncConnection, tools: Tools, case: Case, reason: Reason) -> Seen:
    """Close the round, once and for ever."""
    last = facts.closing(case.job, case.chunks, reason)
    await _write(connection, tools, case, last)
    return Seen(closed=last)


async def _write(connection: AsyncConnection, tools: Tools, case: Case, told: JobFacts) -> None:
    await store.write_round(
        connection,
        case.job.job_id,
        case.job.round,
        cursors=case.book.cursors,
        spent=facts.spent(case.chunks),
        facts=told,
    )
    await say_again(connection, tools, case.job.job_id, told, case.job.traceparent)


async def say_again(
    connection: AsyncConnection,
    tools: Tools,
    job_id: str,
    told: JobFacts,
    traceparent: str | None,
) -> None:
    """Publish the facts of a job, in the transaction that read or wrote them."""
    event = JobPlanned(job_id=job_id, **told.model_dump())
    trace = sending(event.topic, job_id, traceparent)
    await outbox.add(connection, event, source=tools.source, traceparent=str(trace))
