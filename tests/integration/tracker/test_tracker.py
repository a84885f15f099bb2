"""The tracker as a process, on a real broker and database."""

import asyncio
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import admin, topics
from pixcrawler.common.db.engine import connect
from pixcrawler.common.events import Event, JobCancelled, ProgressView
from pixcrawler.common.ids import new_job_id
from pixcrawler.common.publisher import Publisher
from pixcrawler.tracker import progress
from tests.unit.tracker.test_progress import JOB, history

PARTITIONS = 4
DEADLINE_S = 60
VOLATILE = {"updated_at", "eta_s", "job_id"}


@pytest.fixture
async def engine(database: str, fresh_kafka: str) -> AsyncIterator[AsyncEngine]:
    """A database of the test's own, and the topics on the module's broker."""
    await admin.apply_topics(fresh_kafka, partitions=PARTITIONS)
    engine = connect(database)
    yield engine
    await engine.dispose()


@pytest.fixture
async def publisher(fresh_kafka: str) -> AsyncIterator[Publisher]:
    """Publishes as the stages do."""
    publisher = Publisher(fresh_kafka, source="/test")
    await publisher.start()
    yield publisher
    await publisher.stop()


@contextmanager
def tracker(
    bootstrap: str, database: str, *, supervised: bool = True
) -> Iterator[subprocess.Popen[bytes]]:
    """A tracker process in a group of its own, killed at the end if it still runs.

    Supervised, one that ends by itself is started again. It leaves nothing where it was started.
    """
    env = {
        **os.environ,
        "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
        "PIXCRAWLER_DATABASE_URL": database,
        "PIXCRAWLER_TRACKER_PARTITIONS": str(PARTITIONS),
        "PIXCRAWLER_SESSION_TIMEOUT_S": "6",
        "PIXCRAWLER_TRACKER_STALL_S": "8",
    }
    command = [sys.executable, "-m", "pixcrawler.tracker"]
    if supervised:
        command = ["sh", "-c", f"while ! {shlex.join(command)}; do :; done"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, env=env, start_new_session=True, cwd=folder)
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert not list(Path(folder).iterdir())


async def add_job(engine: AsyncEngine) -> str:
    """A job's row, which `job_progress` refers to."""
    job_id = new_job_id()
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO crawl_jobs (job_id, owner, keywords, sources, max_images, chunk_size,"
                " options, round) VALUES (:job, 'o', '[]', '[]', 100, 9, '{}', 1)"
            ),
            {"job": job_id},
        )
    return job_id


def renamed(events: list[Event], job_id: str) -> list[Event]:
    """The same history of another job."""
    return [
        type(event).model_validate_json(event.model_dump_json().replace(JOB, job_id))
        for event in events
    ]


async def shown(engine: AsyncEngine, job_id: str) -> dict[str, object] | None:
    """What `job_progress` shows, without the clock."""
    async with engine.connect() as connection:
        row = await connection.scalar(
            text("SELECT progress FROM job_progress WHERE job_id = :job"), {"job": job_id}
        )
    return None if row is None else {k: v for k, v in row.items() if k not in VOLATILE}


def truth(events: list[Event]) -> dict[str, object]:
    """What must be shown after these events, without the clock."""
    state = progress.EMPTY
    for event in events:
        state = progress.merge(state, event)
    view: ProgressView = progress.view("", state, datetime.now(UTC))
    return view.model_dump(mode="json", exclude=VOLATILE)


async def wait_until_shown(engine: AsyncEngine, job_id: str, wanted: dict[str, object]) -> None:
    """Wait until the job shows this."""
    seen: dict[str, object] | None = None
    try:
        async with asyncio.timeout(DEADLINE_S):
            while (seen := await shown(engine, job_id)) != wanted:
                await asyncio.sleep(0.1)
    except TimeoutError:
        assert seen == wanted


async def test_killed_under_load_it_shows_the_truth(
    fresh_kafka: str, database: str, engine: AsyncEngine, publisher: Publisher
) -> None:
    """Two trackers, one killed (SIGKILL) in the middle: every job ends as its events say."""
    histories = {await add_job(engine): history(seed) for seed in range(30)}
    streams = [renamed(events, job) for job, events in histories.items()]
    with tracker(fresh_kafka, database) as first, tracker(fresh_kafka, database):
        await publisher.publish([stream.pop(0) for stream in streams])
        await wait_until_shown(
            engine, next(iter(histories)), truth(next(iter(histories.values()))[:1])
        )
        while any(streams):
            await publisher.publish([stream.pop(0) for stream in streams if stream])
            if first.poll() is None and random.Random(len(streams[0])).random() < 0.2:
                os.killpg(first.pid, signal.SIGKILL)
        for job, events in histories.items():
            await wait_until_shown(engine, job, truth(events))
        await _delete(engine, publisher, next(iter(histories)))


async def _delete(engine: AsyncEngine, publisher: Publisher, job_id: str) -> None:
    """A deleted job is not shown any more, whatever comes late."""
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE crawl_jobs SET deleted_at = now() WHERE job_id = :job"), {"job": job_id}
        )
    await publisher.publish([JobCancelled(job_id=job_id, deleted=True)])
    async with asyncio.timeout(DEADLINE_S):
        while await shown(engine, job_id) is not None:
            await asyncio.sleep(0.1)
    await publisher.publish(renamed(history(0), job_id))
    other = await add_job(engine)
    await publisher.publish(renamed(history(1), other))
    await wait_until_shown(engine, other, truth(history(1)))
    assert await shown(engine, job_id) is None


async def test_it_recovers_its_table_and_stops_cleanly(
    fresh_kafka: str, database: str, engine: AsyncEngine, publisher: Publisher
) -> None:
    """Half of a history, a new process, the other half: the table is recovered; SIGTERM exits 0."""
    job = await add_job(engine)
    events = renamed(history(5), job)
    half = len(events) // 2
    with tracker(fresh_kafka, database, supervised=False) as process:
        await publisher.publish(events[:half])
        await wait_until_shown(engine, job, truth(events[:half]))
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 30) == 0
    with tracker(fresh_kafka, database):
        await publisher.publish(events[half:])
        await wait_until_shown(engine, job, truth(events))


async def test_what_nobody_can_read_goes_to_the_dead_letters(
    fresh_kafka: str, database: str, engine: AsyncEngine, publisher: Publisher
) -> None:
    """Junk lands in tracker.dlq with where it came from; the events around it are shown."""
    job = await add_job(engine)
    events = renamed(history(7), job)
    junk = events[0].model_dump_json().encode()[:-5]
    from pixcrawler.common.events import Record

    with tracker(fresh_kafka, database):
        await publisher.publish(events[:1])
        await publisher.send([Record(topics.CHUNK_FAILED, b"junk", junk, ())])
        await publisher.publish(events[1:])
        await wait_until_shown(engine, job, truth(events))
        async with asyncio.timeout(DEADLINE_S):
            async for letter in admin.tail(fresh_kafka, "tracker.dlq", follow=True):
                if letter.key == b"junk":
                    break
    assert letter.value == junk
    assert topics.CHUNK_FAILED.encode() in dict(letter.headers).values()
