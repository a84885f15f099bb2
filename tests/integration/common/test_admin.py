"""Topics as code, on a broker of the module's own."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pixcrawler.common import admin, ids, topics
from pixcrawler.common.admin import Tailed, TopicDrift
from pixcrawler.common.errors import PixCrawlerError
from pixcrawler.common.events import ChunkDownloaded, JobCancelled
from pixcrawler.common.publisher import Publisher
from pixcrawler.common.topics import Topic
from tests.integration.common.bench import DEADLINE_S


async def test_the_registry_becomes_the_cluster(fresh_kafka: str) -> None:
    """What is missing is made, once; then the cluster is what the registry says."""
    assert len(await admin.drift(fresh_kafka)) == len(topics.registry())
    applied = await admin.apply_topics(fresh_kafka)
    assert set(applied.created) == {topic.name for topic in topics.registry()}
    again = await admin.apply_topics(fresh_kafka)
    assert (again.created, again.altered) == ((), ())
    assert set(again.unchanged) == set(applied.created)
    assert await admin.drift(fresh_kafka) == ()
    assert await admin.list_topics(fresh_kafka) == tuple(sorted(applied.created))
    by_name = {state.name: state for state in await admin.describe_topics(fresh_kafka)}
    planned, progress = by_name[topics.CHUNK_PLANNED], by_name[topics.JOB_PROGRESS]
    assert (planned.partitions, planned.replication) == (12, 1)
    assert planned.configs == {"cleanup.policy": "delete", "retention.ms": str(7 * topics.DAY_MS)}
    assert progress.configs["cleanup.policy"] == "compact"


async def test_drift_is_refused_or_mended(fresh_kafka: str) -> None:
    """A topic with fewer partitions or another policy stops the start, unless told to alter it."""
    wanted = Topic("drifting", "chunk_id", 2, topics.DAY_MS, (), (), "of a test")
    await admin.apply_topics(fresh_kafka, wanted=[wanted])
    grown = replace(wanted, partitions=4, compacted=True, retention_ms=None)
    with pytest.raises(TopicDrift) as raised:
        await admin.apply_topics(fresh_kafka, wanted=[grown])
    assert "drifting has 2 partitions, not 4" in str(raised.value)
    assert "drifting has cleanup.policy delete, not compact" in str(raised.value)
    mended = await admin.apply_topics(fresh_kafka, wanted=[grown], alter=True)
    assert mended.altered == ("drifting",)
    assert (await admin.apply_topics(fresh_kafka, wanted=[grown])).unchanged == ("drifting",)
    # More partitions than wanted are somebody's choice.
    fewer = replace(grown, partitions=1)
    assert (await admin.apply_topics(fresh_kafka, wanted=[fewer])).unchanged == ("drifting",)


async def test_everybody_may_apply_at_once(fresh_kafka: str) -> None:
    """Programs that start together make each topic once."""
    wanted = [
        Topic(f"at-once-{number}", "chunk_id", 2, topics.DAY_MS, (), (), "of a test")
        for number in range(5)
    ]
    await asyncio.gather(*(admin.apply_topics(fresh_kafka, wanted=wanted) for _ in range(4)))
    states = await admin.describe_topics(fresh_kafka, [topic.name for topic in wanted])
    assert [state.partitions for state in states] == [2] * 5


async def test_lag_of_groups_that_never_committed(fresh_kafka: str) -> None:
    """A group without a commit is behind by everything."""
    await admin.apply_topics(fresh_kafka)
    publisher = Publisher(fresh_kafka, source="/test")
    await publisher.start()
    before = sum(each.lag for each in await admin.lag(fresh_kafka, ["tracker"]))
    await publisher.publish([JobCancelled(job_id=ids.new_job_id())])
    after = await admin.lag(fresh_kafka, ["tracker"])
    await publisher.stop()
    assert sum(each.lag for each in after) == before + 1
    assert {each.topic for each in after} == {
        topic.name for topic in topics.registry() if "tracker" in topic.readers
    }
    assert all(each.committed is None for each in after)


async def test_tail(fresh_kafka: str) -> None:
    """From the beginning, the end, an offset or a time; filtered; with what nobody can read."""
    await admin.apply_topics(fresh_kafka)
    publisher = Publisher(fresh_kafka, source="/test")
    await publisher.start()
    job, other = ids.new_job_id(), ids.new_job_id()
    facts = [
        ChunkDownloaded(
            chunk_id=ids.chunk_id(each, index), attempt=1, candidates=0, downloaded=0, bytes=0
        )
        for each in (job, other)
        for index in range(5)
    ]
    await publisher.publish(facts)
    later = datetime.now(UTC)
    again = facts[0].model_copy(update={"attempt": 2})
    await publisher.publish([again])
    topic = topics.CHUNK_DOWNLOADED

    assert len(await tailed(fresh_kafka, topic)) == 11
    assert len(await tailed(fresh_kafka, topic, job_id=job)) == 6
    chunk = facts[0].chunk_id
    ours = await tailed(fresh_kafka, topic, chunk_id=chunk)
    assert [record.event for record in ours] == [
        facts[0],
        facts[0].model_copy(update={"attempt": 2}),
    ]
    assert len(await tailed(fresh_kafka, topic, start=later)) == 1
    assert await tailed(fresh_kafka, topic, start="end") == []
    assert all(record.offset >= 1 for record in await tailed(fresh_kafka, topic, start=1))

    following = asyncio.create_task(next_record(fresh_kafka, topic, other))
    fresh = facts[-1].model_copy(update={"attempt": 7})
    while not following.done():  # the reader needs a moment to stand at the end
        await publisher.publish([fresh])
        await asyncio.wait([following], timeout=0.2)
    assert (await following).event == fresh
    await publisher.stop()


async def test_tail_shows_what_nobody_can_read(fresh_kafka: str) -> None:
    """With the reason, instead of failing."""
    await admin.apply_topics(fresh_kafka)
    from aiokafka import AIOKafkaProducer

    async with AIOKafkaProducer(bootstrap_servers=fresh_kafka) as producer:
        await producer.send_and_wait(topics.JOB_CANCELLED, b"junk", key=b"odd")
    [record] = [
        each for each in await tailed(fresh_kafka, topics.JOB_CANCELLED) if each.key == b"odd"
    ]
    assert (record.event, record.value) == (None, b"junk")
    assert "JSON" in record.problem


async def test_tail_of_no_topic(fresh_kafka: str) -> None:
    """One line, not a wait for ever."""
    with pytest.raises(PixCrawlerError, match="there is no topic"):
        await tailed(fresh_kafka, "no-such-topic")


async def tailed(bootstrap: str, topic: str, **how: object) -> list[Tailed]:
    async with asyncio.timeout(DEADLINE_S):
        return [record async for record in admin.tail(bootstrap, topic, **how)]  # type: ignore[arg-type]


async def next_record(bootstrap: str, topic: str, job_id: str) -> Tailed:
    async with asyncio.timeout(DEADLINE_S):
        async for record in admin.tail(bootstrap, topic, start="end", job_id=job_id, follow=True):
            return record
    raise AssertionError("a followed topic never ends")
