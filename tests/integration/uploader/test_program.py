"""The uploader as it is started: one process between the real broker, database and store."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest_asyncio
from aiokafka import AIOKafkaConsumer

from pixcrawler.common import events, names, topics
from pixcrawler.common.admin import apply_topics
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.events import ChunkUploaded, ChunkValidated, Event, JobFinished
from pixcrawler.common.outcomes import Outcome
from pixcrawler.common.publisher import Publisher
from pixcrawler.standalone.ports import free_ports
from tests.integration.uploader.world import World, sha256
from tests.unit.uploader.made import Made, make_chunk, picture, store_chunk

DEADLINE_S = 120


@pytest_asyncio.fixture
async def publisher(fresh_kafka: str) -> AsyncIterator[Publisher]:
    """Publishes what other stages would."""
    await apply_topics(fresh_kafka, partitions=2)
    made = Publisher(fresh_kafka, source="/test")
    await made.start()
    yield made
    await made.stop()


@asynccontextmanager
async def answers(bootstrap_servers: str) -> AsyncIterator[Callable[[], "asyncio.Future[Event]"]]:
    """What the uploader publishes, one event after the other."""
    consumer = AIOKafkaConsumer(
        topics.CHUNK_UPLOADED,
        topics.JOB_FINISHED,
        topics.CHUNK_FAILED,
        bootstrap_servers=bootstrap_servers,
        auto_offset_reset="earliest",
    )
    await consumer.start()

    async def following() -> Event:
        async with asyncio.timeout(DEADLINE_S):
            record = await consumer.getone()
        return events.decode(record.topic, record.key, record.value, record.headers)

    try:
        yield lambda: asyncio.ensure_future(following())
    finally:
        await consumer.stop()


@asynccontextmanager
async def running(
    kafka: str, database: str, root: Path, port: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m pixcrawler.uploader` until the end of the context, at the latest."""
    environment = {
        **{name: value for name, value in os.environ.items() if "PIXCRAWLER" not in name},
        "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "PIXCRAWLER_DATABASE_URL": database,
        "PIXCRAWLER_BLOB_URL": f"file://{root}",
        "PIXCRAWLER_HTTP_PORT": str(port),
        "PIXCRAWLER_SWEEP_INTERVAL_S": "0.2",
        "PIXCRAWLER_SESSION_TIMEOUT_S": "6",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pixcrawler.uploader", env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until_empty(blobs: BlobStore, prefix: str) -> None:
    """Wait until nothing is stored below a prefix."""
    async with asyncio.timeout(DEADLINE_S):
        # A store tells nobody what it removes.
        while [blob async for blob in blobs.list(prefix)]:
            await asyncio.sleep(0.05)


async def a_chunk(world: World, index: int) -> tuple[Made, ChunkValidated]:
    made = make_chunk(
        world.chunk(index), [picture(10 * index + s) for s in range(5)], dropped=[Outcome.TIMEOUT]
    )
    await store_chunk(world.blobs, made)
    images = made.verdicts.head.images
    return made, ChunkValidated(chunk_id=made.chunk, attempt=1, images=images)


async def test_from_event_to_event(
    fresh_kafka: str,
    publisher: Publisher,
    module_database: str,
    local_world: World,
    tmp_path: Path,
) -> None:
    """Packs, finishes a cancelled job too, survives a kill, sweeps, counts, erases, stops."""
    world = local_world
    (first, validated), (second, validated_too) = await a_chunk(world, 0), await a_chunk(world, 1)
    [port] = free_ports(1)
    async with answers(fresh_kafka) as following:
        async with running(fresh_kafka, module_database, tmp_path, port) as process:
            await publisher.publish([validated, validated])
            uploaded = await following()
            assert isinstance(uploaded, ChunkUploaded)
            assert uploaded.images == validated.images
            await until_empty(world.blobs, names.staging_prefix(first.chunk))
            process.send_signal(signal.SIGKILL)
        async with running(fresh_kafka, module_database, tmp_path, port) as process:
            await publisher.publish([validated_too])
            while (event := await following()).key != second.chunk:
                assert event == uploaded  # the killed one had not committed
            async with aiohttp.ClientSession() as session:
                metrics = await (await session.get(f"http://127.0.0.1:{port}/metrics")).text()
            assert 'pixcrawler_images_total{outcome="kept"} 5.0' in metrics
            assert 'pixcrawler_images_total{outcome="timeout"} 1.0' in metrics
            await world.change_job(cancelled_at=datetime.now(UTC))
            await publisher.publish([world.planned(completed=(0, 1), status="cancelled", kept=10)])
            finished = await following()
            assert isinstance(finished, JobFinished)
            assert (finished.status, finished.images.valid) == ("cancelled", 10)
            archive = await world.blobs.read(uploaded.archive)
            assert sha256(archive) in (await world.blobs.read(finished.dataset)).decode()
            await world.change_job(deleted_at=datetime.now(UTC))
            await until_empty(world.blobs, names.dataset_prefix(world.job_id))
            await until_empty(world.blobs, names.job_prefix(world.job_id))
            process.terminate()
            assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0
