"""What the planner does because time passes: deadlines, and looking at jobs again."""

from collections.abc import Awaitable, Callable

from pixcrawler.common import jobs, logs, metrics, outbox
from pixcrawler.common.chunks import result_of
from pixcrawler.common.db.engine import transaction
from pixcrawler.common.events import JobCancelled
from pixcrawler.common.ids import parse_chunk_id
from pixcrawler.common.periodic import beat
from pixcrawler.common.telemetry import sending
from pixcrawler.planner import admission, endings, rounds, slots, store
from pixcrawler.planner.signs import Signs
from pixcrawler.planner.slots import Processing
from pixcrawler.planner.tools import TAKEBACKS, Tools

log = logs.get(__name__)

DEADLINE = "deadline"
"""The error of a chunk that was silent for too long, again and again."""


GIVEN_UP = "given_up"
"""The error of a chunk that an operator gave up."""

MEASURE_S = 5.0
"""Seconds; nobody scrapes more often (Prometheus: 15 to 60 s)."""


async def tick(tools: Tools, signs: Signs) -> None:
    """Every second: signs of life, then deadlines (in this order), then operators' wishes."""
    await signs.flush()
    await watch_deadlines(tools)
    await obey(tools)


async def watch_deadlines(tools: Tools) -> None:
    """Plan silent chunks again, or give them up."""
    async with tools.engine.connect() as connection:
        silent = await slots.silent(connection, tools.policy.deadline_s)
        unwanted = await jobs.unwanted(
            connection, {parse_chunk_id(chunk.chunk_id).job_id for chunk in silent}
        )
    for chunk in silent:
        wanted = parse_chunk_id(chunk.chunk_id).job_id not in unwanted
        await _attempt("deadline", chunk.chunk_id, _overdue, tools, chunk, wanted)


async def _overdue(tools: Tools, chunk: Processing, wanted: bool) -> None:
    """One silent chunk: only its result says whether it has ended."""
    job_id = parse_chunk_id(chunk.chunk_id).job_id
    result = await result_of(tools.blobs, chunk.chunk_id)
    if result is None and wanted:
        if chunk.takebacks < TAKEBACKS:
            await admission.take_back(tools, chunk.chunk_id, chunk.attempt)
            return
        result = await endings.give_up(
            tools.blobs,
            chunk.chunk_id,
            error=DEADLINE,
            message=f"no sign of life after {chunk.takebacks + 1} tries",
        )
    await rounds.look(tools, job_id, [] if result is None else [result])


async def obey(tools: Tools) -> None:
    """Do what operators want: chunks given up by hand, and priorities that have changed.

    What they want is a row, which stays as long as its job: nothing is lost, whoever is away.
    """
    async with transaction(tools.engine, "reprioritize") as connection:
        moved = await slots.reprioritize(connection)
        asked = await slots.given_up(connection)
    if moved:
        log.info("chunks have another priority", action="reprioritize", chunks=moved)
    for chunk_id, reason in asked.items():
        await _attempt("give-up", chunk_id, _give_up, tools, chunk_id, reason)


async def _give_up(tools: Tools, chunk_id: str, reason: str) -> None:
    message = "an operator gave it up" + (f": {reason}" if reason else "")
    result = await endings.give_up(tools.blobs, chunk_id, error=GIVEN_UP, message=message)
    await rounds.look(tools, parse_chunk_id(chunk_id).job_id, [result])


async def measure(tools: Tools) -> None:
    """The gauges that autoscaling goes by, every `MEASURE_S`."""
    async with tools.engine.connect() as connection:
        waiting = await slots.pending_by_priority(connection)
        active = await slots.active(connection)
    for priority in range(11):
        metrics.CHUNKS_PENDING.labels(priority=str(priority)).set(waiting.get(priority, 0))
    metrics.CHUNKS_ACTIVE.set(active)
    metrics.CHUNKS_MAX.set(tools.policy.capacity)


async def review(tools: Tools) -> None:
    """Every half minute: look at every open job, and repeat what has not been heard yet."""
    async with tools.engine.connect() as connection:
        opened = await store.open_jobs(connection)
    for job_id in opened:
        await _attempt("review", job_id, rounds.look, tools, job_id)
    await repeat(tools)


async def repeat(tools: Tools) -> None:
    """Repeat facts until the shown progress agrees, and deletions until nothing is shown."""
    async with transaction(tools.engine, "repeat") as connection:
        for job_id, told, traceparent in await store.unshown(connection):
            await rounds.say_again(connection, tools, job_id, told, traceparent)
        for job_id, traceparent in await store.deleted_but_shown(connection):
            event = JobCancelled(job_id=job_id, deleted=True)
            trace = sending(event.topic, job_id, traceparent)
            await outbox.add(connection, event, source=tools.source, traceparent=str(trace))
    tools.published()


async def _attempt(
    action: str, what: str, do: Callable[..., Awaitable[object]], *args: object
) -> None:
    """One of several pieces of work: its failure must not keep the others from being done."""
    beat()
    try:
        await do(*args)
    except Exception as error:  # noqa: BLE001 - it comes again with the next pass
        log.warning("failed", action=action, of=what, error=str(error) or repr(error))
