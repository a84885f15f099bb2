"""Work for jobs that nobody wants any more is cancelled, and acknowledged."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest_asyncio
from sqlalchemy import func, insert, update
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.context import Context, decide
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.tables import crawl_jobs
from pixcrawler.common.events import ChunkEvent, Event
from tests.integration.common.bench import Bench, Gate, soon


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    made = connect(database)
    yield made
    await made.dispose()


async def add_job(engine: AsyncEngine, job_id: str) -> None:
    """A job that is wanted."""
    row = {
        "job_id": job_id,
        "owner": "me",
        "keywords": ["cat"],
        "sources": ["openverse"],
        "max_images": 10,
        "chunk_size": 10,
        "options": {},
    }
    async with engine.begin() as connection:
        await connection.execute(insert(crawl_jobs).values(**row))


async def change_job(engine: AsyncEngine, job_id: str, **values: Any) -> None:
    """Update a job's row."""
    async with engine.begin() as connection:
        await connection.execute(
            update(crawl_jobs).where(crawl_jobs.c.job_id == job_id).values(**values)
        )


async def test_cancelling_a_job_cancels_its_work(bench: Bench, engine: AsyncEngine) -> None:
    """Work in hand ends within a moment of the cancellation, and its record is committed."""
    await add_job(engine, bench.job_id)
    gate = Gate(shut=True)
    await bench.send(1)
    async with bench.running(bench.stage(gate, engine=engine)):
        await soon(lambda: len(gate.calls) == 1)
        await change_job(engine, bench.job_id, cancelled_at=func.now())
        await soon(lambda: len(gate.cancelled) == 1)
        await bench.until_committed()


async def test_nothing_is_created_for_an_unwanted_job(bench: Bench, engine: AsyncEngine) -> None:
    """`context.check` asks for real, right before each object."""
    await add_job(engine, bench.job_id)
    reached: list[str] = []

    async def handle(_event: ChunkEvent, context: Context) -> Sequence[Event]:
        await context.check()
        reached.append("wanted")
        await change_job(engine, bench.job_id, deleted_at=func.now())
        await decide(context, None, "name", b"")  # type: ignore[arg-type]
        reached.append("created")
        return ()

    await bench.send(1)
    async with bench.running(bench.stage(handle, engine=engine)):
        await bench.until_committed()
    assert reached == ["wanted"]


async def test_work_goes_on_while_the_database_is_away(bench: Bench) -> None:
    """The watch shrugs off a database that does not answer."""
    engine = connect("postgresql+asyncpg://nobody:nothing@127.0.0.1:9/none")
    gate = Gate(shut=True)
    await bench.send(1)
    stage = bench.stage(gate, engine=engine)
    async with bench.running(stage):
        await soon(lambda: len(gate.calls) == 1)
        asked = stage.clock()
        await soon(lambda: stage.clock() - asked > 3 * stage.limits.watch_s)
        gate.open()
        await bench.until_committed()
    await engine.dispose()
    assert gate.finished == [bench.chunk(1)]
