"""The validator as it is started: one process between the real broker, database and store."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiokafka import AIOKafkaConsumer
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import events, names, topics
from pixcrawler.common.admin import apply_topics
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.documents import Verdicts
from pixcrawler.common.events import ChunkDownloaded, ChunkFailed, ChunkValidated, Event
from pixcrawler.common.publisher import Publisher
from pixcrawler.standalone.ports import free_ports
from tests.integration.validator.ledger import Ledger
from tests.unit.validator.files import photographs
from tests.unit.validator.made import store_chunk

DEADLINE_S = 60


@asynccontextmanager
async def running(
    kafka: str, database: str, root: Path, port: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m pixcrawler.validator` until the end of the context, at the latest."""
    environment = {
        **{name: value for name, value in os.environ.items() if "PIXCRAWLER" not in name},
        "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "PIXCRAWLER_DATABASE_URL": database,
        "PIXCRAWLER_BLOB_URL": f"file://{root}",
        "PIXCRAWLER_HTTP_PORT": str(port),
        "PIXCRAWLER_ERASE_INTERVAL_S": "0.2",
        "PIXCRAWLER_SESSION_TIMEOUT_S": "6",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pixcrawler.validator", env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def following(consumer: AIOKafkaConsumer) -> Event:
    """The next event that the validator publishes."""
    async with asyncio.timeout(DEADLINE_S):
        record = await consumer.getone()
    return events.decode(record.topic, record.key, record.value, record.headers)


def downloaded(ledger: Ledger, index: int) -> ChunkDownloaded:
    return ChunkDownloaded(
        chunk_id=ledger.chunk(index), attempt=1, candidates=0, downloaded=0, bytes=0
    )


async def test_from_event_to_event(
    fresh_kafka: str, module_database: str, engine: AsyncEngine, tmp_path: Path
) -> None:
    """Decides, fails a hopeless chunk, survives a kill, erases a deleted job, stops when asked."""
    await apply_topics(fresh_kafka, partitions=2)
    blobs = LocalBlobs(tmp_path)
    ledger = await Ledger.open(engine, chunks=3, max_images=500)
    await store_chunk(blobs, ledger.chunk(0), list(photographs()[:60]))
    await store_chunk(blobs, ledger.chunk(1), [b"text", b""])
    await store_chunk(blobs, ledger.chunk(2), list(photographs()[30:90]))
    publisher = Publisher(fresh_kafka, source="/test")
    await publisher.start()
    consumer = AIOKafkaConsumer(
        topics.CHUNK_VALIDATED,
        topics.CHUNK_FAILED,
        bootstrap_servers=fresh_kafka,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    [port] = free_ports(1)
    try:
        async with running(fresh_kafka, module_database, tmp_path, port):
            await publisher.publish([downloaded(ledger, 0)])
            first = await following(consumer)
            assert isinstance(first, ChunkValidated)
            assert first.images.valid == 60
            await publisher.publish([downloaded(ledger, 1)])
            hopeless = await following(consumer)
            assert isinstance(hopeless, ChunkFailed)
            assert (hopeless.error, hopeless.retriable) == ("no_valid_images", False)
        async with running(fresh_kafka, module_database, tmp_path, port) as process:
            await publisher.publish([downloaded(ledger, 2)])
            while (again := await following(consumer)).key != ledger.chunk(2):
                # What was not committed before the kill comes again, and is answered the same.
                assert again in (first, hopeless)
            assert isinstance(again, ChunkValidated)
            assert again.images.valid == 30
            assert again.images.dropped == {"duplicate": 30}
            verdicts = Verdicts.parse(await blobs.read(names.verdicts(ledger.chunk(2))))
            assert verdicts.head.images == again.images
            await health(port)
            await ledger.delete()
            async with asyncio.timeout(DEADLINE_S):
                # A database tells nobody what was removed.
                while await ledger.marks():
                    await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(DEADLINE_S):
                assert await process.wait() == 0
    finally:
        await consumer.stop()
        await publisher.stop()


async def health(port: int) -> None:
    """It says that it is alive and ready."""
    async with aiohttp.ClientSession() as session:
        for path in ("/healthz", "/readyz", "/metrics"):
            async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                assert answer.status == 200
