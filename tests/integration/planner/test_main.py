"""The program: started as users start it, on a real broker and a real database."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from pixcrawler.common import events, ids
from pixcrawler.common.admin import apply_topics
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.roles import ensure_roles, service_url
from pixcrawler.common.events import ChunkDownloaded, ChunkPlanned, Event, JobPlanned
from pixcrawler.planner import admission, handler, timer
from pixcrawler.planner.signs import Signs
from pixcrawler.planner.store import Sign
from pixcrawler.planner.tools import Tools
from tests.integration.planner.desk import (
    POLICY,
    Desk,
    RecordContext,
    failed,
    open_desk,
    uploaded,
)

DEADLINE_S = 60


@asynccontextmanager
async def planner(**variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A planner with these variables; ended in the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pixcrawler.planner",
        env={**os.environ, **variables},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def next_event(consumer: Any, kind: type[Event], job: str) -> Event:
    """The next event of a kind about a job, from all that the consumer is given."""
    async with asyncio.timeout(DEADLINE_S):
        async for record in consumer:
            event = events.decode(record.topic, record.key, record.value, record.headers)
            if isinstance(event, kind) and getattr(event, "job_id", "") == job:
                return event
    raise AssertionError("the consumer ended")


async def test_from_request_to_closed_round(
    fresh_kafka: str, module_database: str, tmp_path: Path
) -> None:
    """Events in, events out: a started job is split, let through, and closed; SIGTERM is exit 0."""
    await apply_topics(fresh_kafka, partitions=2)
    variables = {
        "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": fresh_kafka,
        "PIXCRAWLER_DATABASE_URL": module_database,
        "PIXCRAWLER_BLOB_URL": f"file://{tmp_path}",
    }
    async with open_desk(module_database, tmp_path) as desk, planner(**variables) as process:
        consumer = AIOKafkaConsumer(
            ChunkPlanned.topic,
            JobPlanned.topic,
            bootstrap_servers=fresh_kafka,
            auto_offset_reset="earliest",
        )
        producer = AIOKafkaProducer(bootstrap_servers=fresh_kafka)
        await consumer.start()
        await producer.start()
        try:
            await _play(desk, consumer, producer)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
        finally:
            await producer.stop()
            await consumer.stop()


async def _play(desk: Desk, consumer: Any, producer: Any) -> None:
    """The neighbours of the planner: the api's outbox row is relayed by the planner itself."""
    job = await desk.create(5)
    planned = await next_event(consumer, ChunkPlanned, job)
    assert planned.key == ids.chunk_id(job, 0)
    await desk.complete(planned.key, 5)
    record = events.encode(uploaded(planned.key), source="/uploader/test", traceparent="")
    await producer.send_and_wait(
        record.topic, record.value, key=record.key, headers=list(record.headers)
    )
    while True:
        said = await next_event(consumer, JobPlanned, job)
        assert isinstance(said, JobPlanned)
        if said.closed_round:
            break
    assert (said.status, said.reason, said.kept) == ("completed", "reached", 5)


async def test_no_capacity(tmp_path: Path) -> None:
    """Where not even one chunk fits, the program says so in one line and ends."""
    variables = {
        "PIXCRAWLER_DATABASE_URL": "postgresql+asyncpg://nobody@localhost:1/none",
        "PIXCRAWLER_BLOB_URL": f"file://{tmp_path}",
        "PIXCRAWLER_RESOURCE_MAX_TEMP_STORAGE_MB": "10",
    }
    async with planner(**variables) as process:
        _, stderr = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode == 2
    lines = stderr.decode().strip().splitlines()
    assert len(lines) == 1
    assert "PIXCRAWLER_RESOURCE_MAX_TEMP_STORAGE_MB" in lines[0]


async def test_as_its_own_role(module_database: str, tmp_path: Path) -> None:
    """Everything that the planner does it may do as the role that writes only its own tables."""
    await ensure_roles(module_database, {"planner": "secret"})
    async with open_desk(module_database, tmp_path) as desk:
        engine = connect(service_url(module_database, "planner", "secret"), pool_size=2)
        tools = Tools(engine, desk.blobs, POLICY)
        try:
            kept = await _live(desk, tools)
            await desk.delete(kept)
            await timer.review(tools)
            assert await desk.dump() == []
        finally:
            await engine.dispose()


async def _live(desk: Desk, tools: Tools) -> str:
    """A job's whole life in the hands of one planner."""
    job = await desk.create(5)
    await timer.review(tools)
    await admission.admit(tools)
    (row,) = await desk.rows(job)
    context = RecordContext()
    downloaded = ChunkDownloaded(
        chunk_id=row["chunk_id"], attempt=1, candidates=5, downloaded=5, bytes=1
    )
    await handler.handle_chunk_downloaded(downloaded, context, tools=tools)
    await handler.handle_chunk_failed(failed(row["chunk_id"]), context, tools=tools)
    await admission.admit(tools)
    await desk.silence(row["chunk_id"])
    signs = Signs(tools.engine)
    signs.saw(row["chunk_id"], Sign("uploader"))
    await timer.tick(tools, signs)
    await timer.measure(tools)
    await desk.complete(row["chunk_id"], 5)
    await handler.handle_chunk_uploaded(uploaded(row["chunk_id"], 2), context, tools=tools)
    assert (await desk.facts(job)).status == "completed"
    await timer.repeat(tools)
    return job
