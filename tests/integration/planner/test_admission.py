"""Admission: the queue, the slots, the stagger."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from pixcrawler.common import ids
from pixcrawler.common.events import ChunkPlanned, Event, JobCancelled
from pixcrawler.planner import admission
from pixcrawler.planner.admission import Answer
from tests.integration.planner.desk import Desk, failed


async def planned(desk: Desk) -> list[str]:
    """The chunks that were let through, in order, as `<owner or name>` of the test."""
    async with desk.engine.connect() as connection:
        found = await connection.execute(
            text("SELECT convert_from(key, 'UTF8') FROM outbox WHERE topic = :t ORDER BY id"),
            {"t": ChunkPlanned.topic},
        )
        return list(found.scalars())


def with_policy(desk: Desk, **changes: Any) -> None:
    """Change every replica's policy."""
    desk.tools = [replace(t, policy=replace(t.policy, **changes)) for t in desk.tools]


async def test_admitted_within_capacity(desk: Desk) -> None:
    """No more chunks are let through than there are slots; one that ends makes room."""
    with_policy(desk, capacity=2)
    job = await desk.started(20)
    assert await admission.admit(desk.tools[0]) == 2
    assert await desk.statuses(job) == ["processing", "processing", "pending", "pending"]
    await desk.upload((await desk.rows(job))[0]["chunk_id"], 5)
    assert await admission.admit(desk.tools[0]) == 1


async def test_an_admission_is_an_attempt(desk: Desk) -> None:
    """Row and event agree on the attempt, and the event carries the slices."""
    job = await desk.admitted(5)
    row = (await desk.rows(job))[0]
    (said,) = await desk.said(job, ChunkPlanned)
    assert isinstance(said, ChunkPlanned)
    assert (said.attempt, row["attempt"], row["task_id"]) == (
        1,
        1,
        ids.task_id(row["chunk_id"], 1),
    )
    assert [piece.model_dump() for piece in said.slices] == row["slices"]
    assert (await desk.facts(job)).status == "running"


async def test_order(desk: Desk) -> None:
    """Priority first, then the owner with fewer chunks in progress, then age, then index."""
    old = await desk.started(10, owner="ann")
    young = await desk.started(5, owner="ann")
    other = await desk.started(5, owner="bob")
    urgent = await desk.started(5, owner="ann", priority=6)
    await admission.admit(desk.tools[0])
    assert await planned(desk) == [
        ids.chunk_id(urgent, 0),
        ids.chunk_id(other, 0),
        ids.chunk_id(old, 0),
        ids.chunk_id(old, 1),
        ids.chunk_id(young, 0),
    ]


async def test_waiting_raises_the_priority(desk: Desk) -> None:
    """Ten minutes of waiting count as one step, ten steps at most."""
    patient = await desk.started(5, priority=3)
    eager = await desk.started(5, priority=5)
    await desk.execute(
        "UPDATE job_chunks SET created_at = now() - interval '31 minutes' WHERE job_id = :j",
        j=patient,
    )
    await admission.admit(desk.tools[0])
    assert await planned(desk) == [ids.chunk_id(patient, 0), ids.chunk_id(eager, 0)]


async def test_releases_are_staggered(desk: Desk) -> None:
    """A second chunk is let through only when the interval since the first is over."""
    with_policy(desk, release_interval_s=60.0)
    job = await desk.started(10)
    assert (await admission.admit_one(desk.tools[0])).answer is Answer.ADMITTED
    answer, wait_s = await admission.admit_one(desk.tools[0])
    assert answer is Answer.AGAIN
    assert 50 < wait_s <= 60
    assert await desk.statuses(job) == ["processing", "pending"]


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled"])
async def test_a_chunk_that_stops_at_once_delays_the_next_all_the_same(
    desk: Desk, how: str
) -> None:
    """Chunks that end as soon as they are let through do not let the others through in a burst."""
    with_policy(desk, release_interval_s=60.0, backoff_s=1000.0, backoff_max_s=1000.0)
    job = await desk.started(10)
    next_job = await desk.started(10)
    assert (await admission.admit_one(desk.tools[0])).answer is Answer.ADMITTED
    chunk = ids.chunk_id(job, 0)
    if how == "completed":
        await desk.upload(chunk, 5)
    elif how == "failed":
        await desk.handle(failed(chunk))
    else:
        await desk.cancel(job)
        await desk.handle(JobCancelled(job_id=job))
    assert "processing" not in await desk.statuses(job)
    answer, wait_s = await admission.admit_one(desk.tools[0])
    assert answer is Answer.AGAIN
    assert 50 < wait_s <= 60
    assert await desk.statuses(next_job) == ["pending", "pending"]


async def test_a_retry_waits_its_time(desk: Desk) -> None:
    """A chunk that failed is not let through before its backoff is over."""
    with_policy(desk, backoff_s=1000.0, backoff_max_s=1000.0)
    job = await desk.admitted(5)
    await desk.handle(failed((await desk.rows(job))[0]["chunk_id"]))
    assert await admission.admit(desk.tools[0]) == 0
    await desk.execute("UPDATE job_chunks SET not_before = now() - interval '1 s'")
    assert await admission.admit(desk.tools[0]) == 1


async def test_a_waiting_chunk_that_has_ended(desk: Desk) -> None:
    """A chunk whose result appeared while it waited is ended, not let through."""
    job = await desk.admitted(5)
    chunk = (await desk.rows(job))[0]["chunk_id"]
    await desk.handle(failed(chunk))
    await desk.complete(chunk, 5)
    assert await admission.admit(desk.tools[0]) == 0
    assert await desk.statuses(job) == ["completed"]
    assert (await desk.facts(job)).status == "completed"
    assert len(await desk.said(job, ChunkPlanned)) == 1


async def test_cancelled_jobs_wait_for_ever(desk: Desk) -> None:
    """Chunks of a job that nobody wants are not let through."""
    job = await desk.started(5)
    await desk.cancel(job)
    assert await admission.admit(desk.tools[0]) == 0
    assert await desk.statuses(job) == ["pending"]


async def test_three_replicas_keep_to_the_capacity(replicas: Desk) -> None:
    """Admitting at the same time, three replicas never hold more than the capacity."""
    with_policy(replicas, capacity=7)
    for _ in range(4):
        await replicas.started(50)
    stop = asyncio.Event()

    async def admit(replica: int) -> None:
        while not stop.is_set():
            await admission.admit(replicas.tools[replica])

    async def work() -> None:
        done = 0
        while done < 40:
            async with replicas.engine.connect() as connection:
                found = await connection.execute(
                    text("SELECT chunk_id FROM job_chunks WHERE status = 'processing'")
                )
                busy = list(found.scalars())
            assert len(busy) <= 7
            if len(busy) == 7 or done + len(busy) == 40:
                await asyncio.gather(*(replicas.upload(chunk, 5) for chunk in busy[:3]))
                done += len(busy[:3])
        stop.set()

    await asyncio.wait_for(asyncio.gather(*map(admit, range(3)), work()), 120)
    said = await planned(replicas)
    assert len(said) == len(set(said)) == 40


async def test_owners_share(desk: Desk) -> None:
    """With slots for four, an owner with one chunk does not wait behind another's hundred."""
    with_policy(desk, capacity=4)
    await desk.started(500, owner="ann")
    small = await desk.started(5, owner="bob")
    await admission.admit(desk.tools[0])
    assert await desk.statuses(small) == ["processing"]


async def test_events_leave_with_the_admission(desk: Desk) -> None:
    """An admission that is rolled back leaves no event, and the chunk waits."""
    job = await desk.started(5)
    chunk = (await desk.rows(job))[0]["chunk_id"]
    await desk.execute("ALTER TABLE outbox ADD CONSTRAINT closed CHECK (topic <> 'chunk.planned')")
    try:
        failures = await asyncio.gather(admission.admit(desk.tools[0]), return_exceptions=True)
    finally:
        await desk.execute("ALTER TABLE outbox DROP CONSTRAINT closed")
    assert isinstance(failures[0], Exception)
    assert await desk.statuses(job) == ["pending"]
    assert (await desk.rows(job))[0]["attempt"] == 0
    assert await admission.admit(desk.tools[0]) == 1
    said: list[Event] = await desk.said(job, ChunkPlanned)
    assert [event.key for event in said] == [chunk]
