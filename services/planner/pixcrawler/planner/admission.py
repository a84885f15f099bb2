"""Admission: letting waiting chunks through within the capacity of the whole cluster.

A slot is a row that is `processing`. Whoever admits takes the cluster's admission lock, counts the
rows after it, and changes one that is still `pending`; the event leaves in the same transaction. A
job's lock is never asked for under the admission lock.
"""

import asyncio
from enum import Enum, auto
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common import logs, outbox
from pixcrawler.common.chunks import result_of
from pixcrawler.common.db import locks
from pixcrawler.common.db.engine import transaction
from pixcrawler.common.events import ChunkPlanned
from pixcrawler.common.telemetry import sending
from pixcrawler.planner import rounds, slots
from pixcrawler.planner.slots import Admitted, Waiting
from pixcrawler.planner.tools import Tools

log = logs.get(__name__)


PASS = 20
"""Tries in one pass."""


class Answer(Enum):
    """What became of one try to admit."""

    ADMITTED = auto()
    AGAIN = auto()
    """The queue changed meanwhile."""
    LATER = auto()
    """Nobody waits, or every slot is taken."""


class Try(NamedTuple):
    """What became of it, and the seconds to wait before the next release is due."""

    answer: Answer
    wait_s: float = 0.0


async def admit(tools: Tools) -> int:
    """Let through what fits, staggered over all replicas; how many chunks it were.

    After `PASS` tries it asks to be called again, so that its liveness can be seen.
    """
    admitted = 0
    for _ in range(PASS):
        answer, wait_s = await admit_one(tools)
        admitted += answer is Answer.ADMITTED
        if answer is Answer.LATER:
            return admitted
        await asyncio.sleep(wait_s)
    tools.released()
    return admitted


async def admit_one(tools: Tools) -> Try:
    """Let the next chunk through, if there is a slot for it and a release is due."""
    async with tools.engine.connect() as connection:
        active, _, head = await slots.queue(connection)
    if head is None or active >= tools.policy.capacity:
        return Try(Answer.LATER)
    # Only the result says how a chunk ended, and it may have ended while it waited for a retry.
    # Reading it before the lock is enough: whoever writes it later is told by `chunk.uploaded`.
    result = await result_of(tools.blobs, head.chunk_id)
    if result is not None:
        await rounds.look(tools, head.job_id, [result])
        return Try(Answer.AGAIN)
    done = await _admit(tools, head)
    if done.answer is Answer.ADMITTED:
        tools.published()
        if head.unannounced:
            await rounds.look(tools, head.job_id)  # the job is running now
    return done


async def _admit(tools: Tools, head: Waiting) -> Try:
    """Admit this chunk if it is still the next: one transaction under the admission lock."""
    async with transaction(tools.engine, "admit") as connection:
        await locks.admission_lock(connection)
        active, since_s, chosen = await slots.queue(connection)
        if active >= tools.policy.capacity:
            return Try(Answer.LATER)
        if since_s is not None and since_s < tools.policy.release_interval_s:
            return Try(Answer.AGAIN, tools.policy.release_interval_s - since_s)
        if chosen is None or chosen.chunk_id != head.chunk_id:
            return Try(Answer.AGAIN)
        admitted = await slots.admit(connection, head.chunk_id)
        if admitted is None:
            return Try(Answer.AGAIN)
        await _say(connection, tools, admitted)
    log.info("chunk admitted", action="admit", chunk=head.chunk_id, attempt=admitted.attempt)
    return Try(Answer.ADMITTED, tools.policy.release_interval_s)


async def _say(connection: AsyncConnection, tools: Tools, admitted: Admitted) -> None:
    """The event of an admission, in its transaction."""
    chunk_id, attempt, slices, traceparent = admitted
    event = ChunkPlanned(chunk_id=chunk_id, attempt=attempt, slices=slices)
    trace = sending(event.topic, event.job_id, traceparent, chunk=chunk_id)
    await outbox.add(connection, event, source=tools.source, traceparent=str(trace))


async def take_back(tools: Tools, chunk_id: str, attempt: int) -> bool:
    """Plan a chunk again that has been silent for too long, in the slot that it holds.

    Not a retry: nothing failed that anyone knows of. False if it gave a sign of life meanwhile.
    """
    async with transaction(tools.engine, "take_back") as connection:
        again = await slots.take_back(connection, chunk_id, attempt, tools.policy.deadline_s)
        if again is None:
            return False
        await _say(connection, tools, again)
    tools.published()
    log.warning("chunk taken back", action="take_back", chunk=chunk_id, attempt=again.attempt)
    return True
