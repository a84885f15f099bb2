"""Publishing to the real broker, and to none."""

import asyncio

import pytest

from pixcrawler.common import admin, ids, topics
from pixcrawler.common.errors import Retry
from pixcrawler.common.events import ChunkFailed, JobCancelled
from pixcrawler.common.publisher import Publisher
from pixcrawler.common.watchdog import Watchdog
from tests.integration.common.bench import soon
from tests.stack import ProcessStack


async def test_without_a_broker() -> None:
    """Everything says `Retry`, and stop works all the same."""
    publisher = Publisher("127.0.0.1:9", source="/test")
    with pytest.raises(Retry, match=r"127\.0\.0\.1:9"):
        await publisher.start()
    with pytest.raises(Retry):
        await publisher.check()
    with pytest.raises(Retry):
        await publisher.publish([JobCancelled(job_id="j")])
    assert not publisher.post(JobCancelled(job_id="j"))
    await publisher.stop()
    await publisher.stop()


async def test_start_and_stop_are_repeatable(kafka: str) -> None:
    """Twice started is once connected."""
    publisher = Publisher(kafka, source="/test")
    for _ in range(2):
        await publisher.start()
        await publisher.start()
        await publisher.check()
        await publisher.stop()
        await publisher.stop()


async def test_an_event_that_is_too_large_is_nobodys_outage(kafka: str) -> None:
    """It is not tried again for ever: the error names what is wrong."""
    await admin.apply_topics(kafka)
    publisher = Publisher(kafka, source="/test")
    await publisher.start()
    huge = ChunkFailed(
        chunk_id=ids.chunk_id(ids.new_job_id(), 0),
        attempt=1,
        stage="uploader",
        retriable=False,
        error="x",
        message="x" * 2_000_000,
    )
    with pytest.raises(Exception, match="bytes") as raised:
        await publisher.publish([huge])
    assert not isinstance(raised.value, Retry)
    await publisher.stop()


async def test_a_paused_process_publishes_nothing(kafka: str) -> None:
    """The watchdog is asked before the record leaves."""

    class Ended(Exception):
        """What stands for the end of the process."""

    def end(code: int) -> None:
        raise Ended(code)

    await admin.apply_topics(kafka)
    now = 0.0
    watchdog = Watchdog(10.0, clock=lambda: now, end=end)
    watchdog.beat()
    publisher = Publisher(kafka, source="/test", watchdog=watchdog)
    await publisher.start()
    job = ids.new_job_id()
    now = 11.0
    with pytest.raises(Ended):
        await publisher.publish([JobCancelled(job_id=job)])
    await publisher.stop()
    found = [each async for each in admin.tail(kafka, topics.JOB_CANCELLED, job_id=job)]
    assert found == []


async def test_posts_are_dropped_rather_than_piled_up(kafka: str) -> None:
    """What is forgotten when it is posted must not fill the memory."""
    await admin.apply_topics(kafka)
    publisher = Publisher(kafka, source="/test")
    await publisher.start()
    posted = [publisher.post(JobCancelled(job_id=ids.new_job_id())) for _ in range(200)]
    assert (posted.count(True), posted.count(False)) == (100, 100)
    await soon(lambda: not publisher._posts)
    await publisher.stop()


async def test_a_broker_that_is_away_for_a_moment_loses_nothing() -> None:
    """A publication that began during the outage is acknowledged after it, exactly once."""
    async with ProcessStack().cluster() as cluster:
        bootstrap = cluster.bootstrap_servers
        await admin.apply_topics(bootstrap, partitions=2)
        publisher = Publisher(bootstrap, source="/test", timeout_s=150)
        await publisher.start()
        await publisher.publish([JobCancelled(job_id="before")])
        [broker] = cluster.brokers
        await broker.kill()
        with pytest.raises(Retry):
            await publisher.check()
        during = asyncio.create_task(publisher.publish([JobCancelled(job_id="during")]))
        await broker.start()
        await during
        await publisher.check()
        found = [each async for each in admin.tail(bootstrap, topics.JOB_CANCELLED)]
        keys = sorted(each.key.decode() for each in found if each.key)
        assert keys == ["before", "during"]
        await publisher.stop()
