"""What the tracker's table cannot read: kept with all that is known of it, within limits."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import psutil
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import admin, letters, topics
from pixcrawler.common.db.engine import connect
from pixcrawler.common.events import Event
from pixcrawler.common.publisher import Publisher
from pixcrawler.standalone.ports import free_ports
from pixcrawler.tracker.handler import TOPIC_HEADER
from tests.integration.common.bad import Bad, produce
from tests.integration.common.bench import soon_there
from tests.integration.tracker.test_tracker import (
    DEADLINE_S,
    PARTITIONS,
    add_job,
    renamed,
    tracker,
    truth,
    wait_until_shown,
)
from tests.unit.tracker.test_progress import history


@pytest.fixture
async def engine(database: str, fresh_kafka: str) -> AsyncIterator[AsyncEngine]:
    """A database of the test's own, and the topics on the module's broker."""
    await admin.apply_topics(fresh_kafka, partitions=PARTITIONS)
    engine = connect(database)
    yield engine
    await engine.dispose()


def spoilt(fact: Event, job: str) -> tuple[Bad, ...]:
    """Records as nothing of ours repartitions them."""
    value, header = fact.model_dump_json().encode(), (TOPIC_HEADER, fact.topic.encode())
    key = job.encode()
    return (
        Bad("no header", value, key, (), "Poison"),
        Bad("header not UTF-8", value, key, ((TOPIC_HEADER, b"\xff"),), "Poison"),
        Bad("unknown topic", value, key, ((TOPIC_HEADER, b"chunk.painted"),), "Poison"),
        Bad("not JSON", b"{", key, (header,)),
        Bad("null value", None, key, (header,), "Poison"),
        Bad("null key", value, None, (header,), "Poison"),
        Bad("wrong key", value, b"\xff", (header,), "Poison"),
        Bad("large", b"x" * 1_000_000, key, (header,), cut="value"),
    )


async def test_each_kind_is_a_letter_and_the_others_are_shown(
    fresh_kafka: str, database: str, engine: AsyncEngine
) -> None:
    """With full provenance, in their order; the job's events around them count."""
    job = await add_job(engine)
    facts = renamed(history(3), job)
    publisher = Publisher(fresh_kafka, source="/test")
    await publisher.start()
    with tracker(fresh_kafka, database):
        await publisher.publish(facts[:1])
        table = spoilt(facts[0], job)
        offsets = await produce(fresh_kafka, topics.TRACKER_EVENTS, table)
        await publisher.publish(facts[1:])
        await wait_until_shown(engine, job, truth(facts))
        await soon_there(lambda: _letters(fresh_kafka, len(table)))
        # The next table on this broker would meet them again, and count them against its limits.
        await soon_there(lambda: _committed(fresh_kafka))
    await publisher.stop()
    found = [each async for each in letters.read(fresh_kafka, "tracker")]
    for letter, each, offset in zip(found, table, offsets, strict=True):
        said = letter.provenance
        place = (topics.TRACKER_EVENTS, 0, offset)
        assert (said.topic, said.partition, said.offset) == place, each.name
        assert (said.group, said.stage) == (topics.TABLE_GROUP, "tracker")
        assert (said.exception, said.cut) == (each.exception, each.cut), each.name
        assert said.timestamp_ms > 1_600_000_000_000
        assert letter.key == each.key, each.name
        assert letter.headers == each.headers, each.name
        if not each.cut:
            assert letter.value == each.value, each.name


async def _letters(servers: str, count: int) -> bool:
    return len(await letters.standings(servers, "tracker")) >= count


async def _committed(servers: str) -> bool:
    """Whether the table has committed all that there is."""
    found = await admin.lag(servers, [topics.TABLE_GROUP])
    return not any(each.lag for each in found)


async def test_too_many_stop_the_table(
    fresh_kafka: str, database: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It turns unready and says why, leaves the rest where it is, and stops cleanly when told."""
    del engine
    [port] = free_ports(1)
    monkeypatch.setenv("PIXCRAWLER_DEAD_LETTERS_IN_A_ROW", "3")
    monkeypatch.setenv("PIXCRAWLER_HTTP_PORT", str(port))
    before = len(await letters.standings(fresh_kafka, "tracker"))
    junk = [Bad("junk", b"?", b"k") for _ in range(12)]
    await produce(fresh_kafka, topics.TRACKER_EVENTS, junk)
    with tracker(fresh_kafka, database) as shell:
        await soon_there(lambda: _says(port, "tracker-table has stopped: more than 3"))
        assert (await _asked(port, "healthz"))[0] == 200
        [process] = psutil.Process(shell.pid).children()
        process.terminate()
        assert await asyncio.to_thread(shell.wait, DEADLINE_S) == 0
    assert len(await letters.standings(fresh_kafka, "tracker")) - before == 4
    assert not await _committed(fresh_kafka)


async def _says(port: int, what: str) -> bool:
    return what in (await _asked(port, "readyz"))[1]


async def _asked(port: int, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{port}/{path}"
    try:
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return answer.status, await answer.text()
    except aiohttp.ClientError:
        return 0, ""
