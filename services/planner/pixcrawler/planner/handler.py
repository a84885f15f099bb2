"""What the planner does with each event, in the order in which things happen.

No handler returns events: everything that the planner says leaves through the outbox, in the
transaction that decided it. Every event may come twice, late, or in any order: an event only makes
the planner look, and what it finds decides.
"""

from collections.abc import Sequence

from pixcrawler.common import logs
from pixcrawler.common.chunks import result_of
from pixcrawler.common.context import Context
from pixcrawler.common.controls import SOURCE_PAUSED
from pixcrawler.common.db.engine import transaction
from pixcrawler.common.events import (
    ChunkDownloaded,
    ChunkEvent,
    ChunkFailed,
    ChunkProgress,
    ChunkUploaded,
    ChunkValidated,
    Event,
    JobCancelled,
    JobCreated,
)
from pixcrawler.planner import endings, history, rounds, slots, store
from pixcrawler.planner.signs import Signs
from pixcrawler.planner.slots import Processing
from pixcrawler.planner.store import Sign
from pixcrawler.planner.tools import Tools

log = logs.get(__name__)


async def handle_job_created(
    event: JobCreated, context: Context, *, tools: Tools
) -> Sequence[Event]:
    """A round was asked for: split, retry, or refill, as its request says."""
    del context
    await rounds.look(tools, event.job_id)
    return ()


async def handle_job_cancelled(
    event: JobCancelled, context: Context, *, tools: Tools
) -> Sequence[Event]:
    """Nobody wants the job any more: give up its chunks and close its round, or erase its rows."""
    del context
    await rounds.look(tools, event.job_id)
    return ()


async def handle_chunk_uploaded(
    event: ChunkUploaded, context: Context, *, tools: Tools
) -> Sequence[Event]:
    """A chunk may have completed: its result says so. Then a slot is free, or the round is over."""
    del context
    result = await result_of(tools.blobs, event.chunk_id)
    await rounds.look(tools, event.job_id, [] if result is None else [result])
    return ()


async def handle_chunk_failed(
    event: ChunkFailed, context: Context, *, tools: Tools
) -> Sequence[Event]:
    """An attempt failed: again after a while, or give up.

    Only the attempt that holds the slot counts; a chunk that has a result has ended, whatever else
    is said of it.
    """
    result = await result_of(tools.blobs, event.chunk_id)
    if result is None:
        held = await _held(tools, event)
        if held is None:
            return ()
        wait_s = _pause(tools, event, held)
        await _remember(tools, event, context, wait_s)
        if wait_s is not None:
            return ()
        result = await endings.give_up(
            tools.blobs, event.chunk_id, error=event.error, message=event.message
        )
    await rounds.look(tools, event.job_id, [result])
    return ()


async def _held(tools: Tools, event: ChunkFailed) -> Processing | None:
    async with tools.engine.connect() as connection:
        return await slots.processing(connection, event.chunk_id, event.attempt)


def _pause(tools: Tools, event: ChunkFailed, held: Processing) -> float | None:
    """Seconds until the chunk is tried again; None if it is not."""
    if event.error == SOURCE_PAUSED:
        return tools.policy.backoff(0)  # and it is not let through before a source of it goes on
    if not event.retriable or held.retry_count >= tools.policy.max_retries:
        return None
    return tools.policy.backoff(held.retry_count)


async def _remember(
    tools: Tools, event: ChunkFailed, context: Context, wait_s: float | None
) -> None:
    """Keep why the attempt failed; and let the chunk wait, if there is to be another."""
    async with transaction(tools.engine, "wait_again") as connection:
        found = await store.steps(connection, event.chunk_id)
        if found is None:
            return  # it has ended
        steps, now = found
        steps = history.ended(
            steps,
            event.attempt,
            event.stage,
            now,
            state="failed",
            error=event.error,
            message=event.message,
            worker=_worker(context),
        )
        await store.write_steps(connection, event.chunk_id, steps)
        if wait_s is None:
            return
        await slots.wait_again(
            connection,
            event.chunk_id,
            event.attempt,
            wait_s=wait_s,
            error=event.error,
            message=event.message,
            counts=event.error != SOURCE_PAUSED,
        )
    tools.released()
    log.warning(
        "chunk waits for another attempt",
        action="retry",
        chunk=event.chunk_id,
        phase=event.stage,
        error=event.error,
        wait_s=round(wait_s, 1),
        record=context.record,
    )


async def handle_chunk_downloaded(
    event: ChunkDownloaded, context: Context, *, tools: Tools
) -> Sequence[Event]:
    """A sign of life: the validator has its input."""
    await _advance(event, context, tools, done="downloader", begun="validator")
    return ()


async def handle_chunk_validated(
    event: ChunkValidated, context: Context, *, tools: Tools
) -> Sequence[Event]:
    """A sign of life: the uploader has its input."""
    await _advance(event, context, tools, done="validator", begun="uploader")
    return ()


def _worker(context: Context) -> str:
    """The replica that published the event: the last part of its source."""
    return context.source.rpartition("/")[2]


async def _advance(
    event: ChunkEvent, context: Context, tools: Tools, *, done: str, begun: str
) -> None:
    """Remember that a stage is done with its attempt and the next one has begun."""
    async with transaction(tools.engine, "advance") as connection:
        found = await store.steps(connection, event.chunk_id)
        if found is None:
            return  # it does not hold a slot: an old record
        before, now = found
        worker = _worker(context)
        steps = history.ended(before, event.attempt, done, now, state="done", worker=worker)
        steps = history.begun(steps, event.attempt, begun, now, record=context.record)
        if steps != before:
            await store.write_steps(connection, event.chunk_id, steps)
        await store.seen(connection, {event.chunk_id: Sign(begun)})


async def handle_chunk_progress(
    event: ChunkProgress, context: Context, *, signs: Signs
) -> Sequence[Event]:
    """A sign of life, written with the next batch: which replica has the chunk in hand."""
    signs.saw(event.chunk_id, Sign(event.stage, event.attempt, _worker(context)))
    if signs.full:
        await signs.flush()
    return ()
