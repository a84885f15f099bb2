"""Capacity and fairness: three planners as programs, and jobs of many owners, on real parts."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from sqlalchemy import text

from pixcrawler.common import events
from pixcrawler.common.admin import apply_topics
from pixcrawler.common.db.roles import ensure_roles, service_url
from pixcrawler.common.events import ChunkPlanned
from pixcrawler.common.publisher import Publisher
from pixcrawler.planner import admission
from tests.integration.planner.desk import Desk, open_desk, uploaded
from tests.integration.planner.test_main import planner

CAPACITY = 8
INTERVAL_S = 0.03
JOBS = 40
OWNERS = ("ann", "bob", "cyd", "dan", "eve")
REPLICAS = 3
DEADLINE_S = 150.0

UNCERTAIN = timedelta(seconds=0.5)
"""A row says when a statement ran, not when its transaction was committed: within this time
nobody can tell whether an admission has seen a chunk that has come or gone."""


# ---- the stages behind


@dataclass
class Stages:
    """All three stages in one: each planned chunk is completed after a random while.

    Attributes:
        desk: Where results are written.
        publisher: For `chunk.uploaded`.
        rng: How long each takes, once every slot was taken for a while.
        working: The chunks in hand.
        most: The most that were in hand at a time.
        planned: Every event, in the order in which it came.
        full: Set once every slot was taken.
    """

    desk: Desk
    publisher: Publisher
    rng: random.Random
    working: set[str] = field(default_factory=set)
    most: int = 0
    planned: list[ChunkPlanned] = field(default_factory=list)
    full: asyncio.Event = field(default_factory=asyncio.Event)

    async def work(self, consumer: AIOKafkaConsumer) -> None:
        """Take what is planned until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            async for record in consumer:
                event = events.decode(record.topic, record.key, record.value, record.headers)
                assert isinstance(event, ChunkPlanned)
                self.planned.append(event)
                self.working.add(event.chunk_id)
                self.most = max(self.most, len(self.working))
                if self.most >= CAPACITY:
                    self.full.set()
                tasks.create_task(self._complete(event))

    async def _complete(self, event: ChunkPlanned) -> None:
        await self.full.wait()
        await asyncio.sleep(self.rng.uniform(0.1, 0.6))
        images = sum(piece.limit for piece in event.slices)
        self.working.discard(event.chunk_id)
        await self.desk.complete(event.chunk_id, images, candidates=images)
        await self.publisher.publish([uploaded(event.chunk_id, event.attempt)])


@asynccontextmanager
async def stages(kafka: str, desk: Desk) -> AsyncIterator[Stages]:
    """The stages, at work as long as the context lasts."""
    consumer = AIOKafkaConsumer(
        ChunkPlanned.topic, bootstrap_servers=kafka, auto_offset_reset="earliest"
    )
    publisher = Publisher(kafka, source="/uploader/test")
    await publisher.start()
    await consumer.start()
    behind = Stages(desk, publisher, random.Random(6))
    task = asyncio.create_task(behind.work(consumer))
    try:
        yield behind
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await consumer.stop()
        await publisher.stop()


# ---- the order, by the rows


class Row(NamedTuple):
    """A chunk's life, and what it waited with."""

    chunk_id: str
    owner: str
    priority: int
    job_created_at: datetime
    job_id: str
    place: int
    created_at: datetime
    admitted_at: datetime
    ended_at: datetime

    def rank(self, at: datetime, busy: Counter[str]) -> tuple[Any, ...]:
        """The design's order: effective priority, the owner's share, the job's age, the index."""
        waited = int((at - self.created_at).total_seconds() // 600)
        effective = min(10, self.priority + waited)
        return (-effective, busy[self.owner], self.job_created_at, self.job_id, self.place)


async def read_rows(desk: Desk) -> list[Row]:
    """Every chunk in the order of admission; all have ended."""
    async with desk.engine.connect() as connection:
        found = await connection.execute(
            text("""
                SELECT chunk_id, owner, chunk.priority, job.created_at, job_id, chunk_index,
                       chunk.created_at, admitted_at, ended_at
                FROM job_chunks AS chunk JOIN crawl_jobs AS job USING (job_id)
                ORDER BY admitted_at""")
        )
        return [Row(*row) for row in found]


def out_of_order(rows: Sequence[Row]) -> list[str]:
    """The chunks that were admitted while another was next, whatever the admission has seen."""
    return [row.chunk_id for row in rows if not _was_next(row, rows)]


def _was_next(row: Row, rows: Sequence[Row]) -> bool:
    at = row.admitted_at
    waiting = [r for r in rows if r.created_at < at - UNCERTAIN and r.admitted_at > at]
    held = [r for r in rows if r.admitted_at < at and r.ended_at > at]
    gone = [r for r in rows if at - UNCERTAIN < r.ended_at <= at]
    going = [r for r in held if r.ended_at < at + UNCERTAIN / 10]
    sure = Counter(r.owner for r in held if r not in going)
    return any(
        all(row.rank(at, busy) <= other.rank(at, busy) for other in waiting)
        for busy in (sure + Counter(r.owner for r in some) for some in _subsets([*gone, *going]))
    )


def _subsets(rows: Sequence[Row]) -> Iterator[tuple[Row, ...]]:
    """Every choice among them."""
    for count in range(len(rows) + 1):
        yield from combinations(rows, count)


# ---- the tests


async def sample_active(desk: Desk, seen: list[int]) -> None:
    """Count the rows that hold a slot, again and again."""
    async with desk.engine.connect() as connection:
        while True:
            count = await connection.scalar(
                text("SELECT count(*) FROM job_chunks WHERE status = 'processing'")
            )
            await connection.rollback()
            seen.append(int(count or 0))
            await asyncio.sleep(0.02)


async def create_jobs(desk: Desk, rng: random.Random, count: int) -> list[str]:
    """Jobs of mixed owners, priorities and sizes."""
    return [
        await desk.create(rng.randint(1, 12), owner=rng.choice(OWNERS), priority=rng.randint(3, 6))
        for _ in range(count)
    ]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for it."""
    async with asyncio.timeout(DEADLINE_S):
        while not await holds():
            await asyncio.sleep(0.05)


async def test_forty_jobs_of_five_owners(
    fresh_kafka: str, module_database: str, tmp_path: Path
) -> None:
    """Three planners hold 40 jobs of mixed priority to 8 slots, in the design's order, staggered;
    every job gets its turn, and every chunk is let through once."""
    await apply_topics(fresh_kafka, partitions=3)
    await ensure_roles(module_database, {"planner": "secret"})
    variables = {
        "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": fresh_kafka,
        "PIXCRAWLER_DATABASE_URL": service_url(module_database, "planner", "secret"),
        "PIXCRAWLER_BLOB_URL": f"file://{tmp_path}",
        "PIXCRAWLER_RESOURCE_MAX_CONCURRENT_CHUNKS": str(CAPACITY),
        "PIXCRAWLER_RESOURCE_RELEASE_INTERVAL_S": str(INTERVAL_S),
        "PIXCRAWLER_HTTP_PORT": "0",
    }
    rng, active = random.Random(5), list[int]()
    async with AsyncExitStack() as stack:
        desk = await stack.enter_async_context(open_desk(module_database, tmp_path))
        behind = await stack.enter_async_context(stages(fresh_kafka, desk))
        jobs = await create_jobs(desk, rng, JOBS // 2)
        sampling = asyncio.create_task(sample_active(desk, active))
        stack.callback(sampling.cancel)
        processes = [
            await stack.enter_async_context(planner(PIXCRAWLER_WORKER=f"planner-{n}", **variables))
            for n in range(REPLICAS)
        ]
        await asyncio.wait_for(behind.full.wait(), DEADLINE_S)
        jobs += await create_jobs(desk, rng, JOBS - len(jobs))
        await until(lambda: all_closed(desk, jobs))
        assert [process.returncode for process in processes] == [None] * REPLICAS
        assert not sampling.done()
        rows = await read_rows(desk)
        chunks = sorted(row.chunk_id for row in rows)
        assert sorted(event.chunk_id for event in behind.planned) == chunks
        workers = await desk_workers(desk)
    assert max(active) == behind.most == CAPACITY
    assert out_of_order(rows) == []
    assert min(b.admitted_at - a.admitted_at for a, b in pairwise(rows)) >= timedelta(
        seconds=INTERVAL_S
    )
    assert {row.job_id for row in rows} == set(jobs)
    assert len(workers) == REPLICAS


async def all_closed(desk: Desk, jobs: Sequence[str]) -> bool:
    """Whether every job's round is closed as completed."""
    async with desk.engine.connect() as connection:
        found = await connection.execute(
            text("SELECT facts->>'status' FROM job_rounds WHERE closed_at IS NOT NULL")
        )
        return Counter(found.scalars()) == {"completed": len(jobs)}


async def desk_workers(desk: Desk) -> set[str]:
    """The planners that let chunks through."""
    async with desk.engine.connect() as connection:
        found = await connection.execute(
            text("SELECT headers FROM outbox WHERE topic = :t"), {"t": ChunkPlanned.topic}
        )
        return {dict(headers)["ce_source"] for headers in found.scalars()}


async def test_nobody_starves(desk: Desk) -> None:
    """However many urgent jobs come, each step of priority is waited for ten minutes at most: then
    an old chunk's turn comes before those of fresh jobs of the highest priority."""
    for priority in (0, 5, 9):
        job = await desk.started(5, priority=priority)
        for minutes, admitted in ((10 * (10 - priority) - 1, False), (10 * (10 - priority), True)):
            await desk.execute(
                """
                UPDATE job_chunks SET created_at = now() - make_interval(mins => :minutes)
                WHERE job_id = :job""",
                job=job,
                minutes=minutes,
            )
            fresh = await desk.started(5, priority=10)
            await admission.admit_one(desk.tools[0])
            assert await desk.statuses(job) == ["processing" if admitted else "pending"]
            assert await desk.statuses(fresh) == ["pending" if admitted else "processing"]
            await desk.execute("DELETE FROM job_chunks WHERE job_id = :job", job=fresh)
            await desk.execute("UPDATE crawl_jobs SET round = 0 WHERE job_id = :job", job=fresh)
        await desk.execute("DELETE FROM job_chunks WHERE job_id = :job", job=job)


async def test_a_retry_waits_from_its_backoff_on(desk: Desk) -> None:
    """A chunk that failed did not wait while it was worked on: its priority grows from then on."""
    old = await desk.started(5, priority=4)
    await desk.execute(
        """
        UPDATE job_chunks SET created_at = now() - interval '1 day', not_before = now()
        WHERE job_id = :job""",
        job=old,
    )
    fresh = await desk.started(5, priority=5)
    await admission.admit_one(desk.tools[0])
    assert (await desk.statuses(old), await desk.statuses(fresh)) == (["pending"], ["processing"])
