"""The downloader as it is started: one process between the real broker, database and store."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka import AIOKafkaConsumer
from sqlalchemy import insert, text

from pixcrawler.common import events, names, topics
from pixcrawler.common.admin import apply_topics
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.tables import crawl_jobs
from pixcrawler.common.events import ChunkDownloaded, ChunkPlanned, Slice
from pixcrawler.common.ids import chunk_id, new_job_id
from pixcrawler.common.jobs import Options
from pixcrawler.common.publisher import Publisher
from tests.integration.downloader.harness import HOME
from tests.integration.downloader.web import Web, hang, serving

DEADLINE_S = 60.0
CANDIDATES = 160


@asynccontextmanager
async def running(
    kafka: str, database: str, root: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m pixcrawler.downloader` until the end of the context, at the latest."""
    environment = {
        **{name: value for name, value in os.environ.items() if "PIXCRAWLER" not in name},
        "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "PIXCRAWLER_DATABASE_URL": database,
        "PIXCRAWLER_BLOB_URL": f"file://{root}",
        "PIXCRAWLER_SESSION_TIMEOUT_S": "6",
        "PIXCRAWLER_FETCH_ALLOW_NETWORKS": f"{HOME}/32",
        "PIXCRAWLER_FETCH_TIMEOUT_S": "30",
        "PIXCRAWLER_FETCH_DEADLINE_S": "40",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pixcrawler.downloader", env=environment
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def new_job(database: str, urls: list[str]) -> str:
    """A job that was started, with a list of its own."""
    job = new_job_id()
    engine = connect(database)
    row = {
        "job_id": job,
        "owner": "tests",
        "keywords": [],
        "sources": ["urls"],
        "urls": urls,
        "max_images": 500,
        "chunk_size": 500,
        "options": Options().model_dump(mode="json"),
        "round": 1,
    }
    async with engine.begin() as connection:
        await connection.execute(insert(crawl_jobs).values(row))
    await engine.dispose()
    return job


async def leases(database: str) -> int:
    """Rows of `host_budgets`."""
    engine = connect(database)
    async with engine.connect() as connection:
        found = await connection.execute(text("SELECT count(*) FROM host_budgets"))
        number = int(found.scalar_one())
    await engine.dispose()
    return number


async def parts(blobs: LocalBlobs, chunk: str) -> dict[str, bytes]:
    prefix = names.staging_prefix(chunk)
    return {info.name: await blobs.read(info.name) async for info in blobs.list(prefix)}


def fill(site: Web) -> list[str]:
    for n in range(CANDIDATES):
        site.page(f"/{n}", b"\xff\xd8\xff" + str(n).encode() * 10)
    return [site.url(f"/{n}") for n in range(CANDIDATES)]


async def test_a_killed_downloader_is_succeeded_without_loss(
    fresh_kafka: str, database: str, service_urls: dict[str, str], tmp_path: Path
) -> None:
    """Killed in the middle of a chunk, another one goes on where it stopped and answers; told to
    stop, that one gives its budgets back and exits 0. As the role that owns one table."""
    await apply_topics(fresh_kafka, partitions=2)
    role = service_urls["downloader"]
    blobs = LocalBlobs(tmp_path)
    publisher = Publisher(fresh_kafka, source="/test")
    await publisher.start()
    answers = AIOKafkaConsumer(
        topics.CHUNK_DOWNLOADED,
        topics.CHUNK_FAILED,
        bootstrap_servers=fresh_kafka,
        auto_offset_reset="earliest",
    )
    await answers.start()
    try:
        async with serving() as site, asyncio.timeout(3 * DEADLINE_S):
            urls = fill(site)
            site.pages["/120"] = hang
            job = await new_job(database, urls)
            chunk = chunk_id(job, 0)
            whole = Slice(source="urls", keyword="", offset=0, limit=CANDIDATES)
            planned = ChunkPlanned(chunk_id=chunk, attempt=1, slices=(whole,))
            await publisher.publish([planned])
            async with running(fresh_kafka, role, tmp_path) as first:
                while len(await parts(blobs, chunk)) < 3:
                    await asyncio.sleep(0.05)
                first.kill()
            stored = await parts(blobs, chunk)
            hits = site.hits.copy()
            fill(site)
            async with running(fresh_kafka, role, tmp_path) as second:
                record = await answers.getone()
                second.send_signal(signal.SIGTERM)
                assert await second.wait() == 0
            finished = await parts(blobs, chunk)
    finally:
        await answers.stop()
        await publisher.stop()
    event = events.decode(record.topic, record.key, record.value, record.headers)
    assert isinstance(event, ChunkDownloaded)
    assert (event.candidates, event.downloaded) == (CANDIDATES, CANDIDATES)
    assert {name: finished[name] for name in stored} == stored
    assert len(finished) == 4
    again = {path for path in site.hits - hits if path != "/robots.txt"}
    assert again == {f"/{n}" for n in range(100, 150)}
    # What the killed one held ends by itself; the other has given everything back.
    assert await leases(database) <= 1
