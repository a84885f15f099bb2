"""The outbox: what is committed is published, in order; what is rolled back never is."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import events, metrics, outbox
from pixcrawler.common.admin import Tailed
from pixcrawler.common.db import locks
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.tables import outbox as table
from pixcrawler.common.errors import Retry
from pixcrawler.common.events import ChunkEvent, Record
from pixcrawler.common.outbox import Relay
from pixcrawler.common.publisher import Publisher
from tests.integration.common.bench import DEADLINE_S, Bench, soon_there

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest_asyncio.fixture
async def engine(database: str) -> AsyncIterator[AsyncEngine]:
    made = connect(database)
    yield made
    await made.dispose()


def fact(bench: Bench, index: int, attempt: int = 1) -> ChunkEvent:
    return bench.model(chunk_id=bench.chunk(index), attempt=attempt)


async def add(engine: AsyncEngine, facts: Sequence[ChunkEvent]) -> None:
    """One transaction."""
    async with engine.begin() as connection:
        for each in facts:
            await outbox.add(connection, each, source="/planner/me", traceparent=TRACE)


async def unsent(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        rows = select(func.count()).select_from(table).where(~table.c.sent)
        return await connection.scalar(rows) or 0


class Unreliable(Publisher):
    """A real publisher that crashes right after Kafka has acknowledged."""

    crashes = True

    async def send(self, records: Sequence[Record]) -> None:
        await super().send(records)
        if self.crashes:
            raise KeyboardInterrupt


async def test_what_is_committed_is_published_as_it_was(bench: Bench, engine: AsyncEngine) -> None:
    """Key, value, headers and trace arrive as `add` was told; the row is marked."""
    await add(engine, [fact(bench, 1)])
    assert await Relay(engine, bench.publisher).relay_once() == 1
    [record] = await bench.records(bench.topic, 1)
    assert record.event == fact(bench, 1)
    assert record.key == bench.chunk(1).encode()
    assert events.header(record.headers, "traceparent") == TRACE
    assert events.header(record.headers, "ce_source") == "/planner/me"
    assert events.header(record.headers, "ce_id") == fact(bench, 1).event_id
    assert await unsent(engine) == 0


async def test_what_is_rolled_back_is_never_published(bench: Bench, engine: AsyncEngine) -> None:
    """The event is part of the transaction."""
    async with engine.connect() as connection:
        await outbox.add(connection, fact(bench, 1), source="/x", traceparent=TRACE)
        await connection.rollback()
    assert await Relay(engine, bench.publisher).relay_once() == 0


async def test_order_is_kept_within_a_key(bench: Bench, engine: AsyncEngine) -> None:
    """Events of one chunk arrive in the order in which they were added, over several batches."""
    facts = [fact(bench, index, attempt) for attempt in range(200) for index in range(3)]
    async with engine.begin() as connection:
        await outbox.add_all(connection, facts, source="/x", traceparent=TRACE)
    times = itertools.count(step=60)
    relay = Relay(engine, bench.publisher, clock=lambda: float(next(times)))
    await relay.relay_all()
    await relay.measure()
    assert (metrics.OUTBOX_PENDING._value.get(), metrics.OUTBOX_AGE._value.get()) == (0, 0)
    records = await bench.records(bench.topic, 600)
    for index in range(3):
        key = bench.chunk(index).encode()
        assert [attempt(record) for record in records if record.key == key] == list(range(200))


async def test_a_crash_after_publishing_only_duplicates(bench: Bench, engine: AsyncEngine) -> None:
    """Not marked, so it is published again, with the same id."""
    await add(engine, [fact(bench, 1)])
    crashing = Unreliable(bench.bootstrap, source="/test/crashing")
    await crashing.start()
    with pytest.raises(KeyboardInterrupt):
        await Relay(engine, crashing).relay_once()
    await crashing.stop()
    assert await unsent(engine) == 1
    assert await Relay(engine, bench.publisher).relay_once() == 1
    first, second = await bench.records(bench.topic, 2)
    assert first.event == second.event


async def test_one_relay_is_active_at_a_time(bench: Bench, engine: AsyncEngine) -> None:
    """While another holds the lock there is nothing to do."""
    await add(engine, [fact(bench, 1)])
    relay = Relay(engine, bench.publisher)
    async with engine.begin() as other:
        assert await locks.try_relay_lock(other)
        assert await relay.relay_once() == 0
    assert await relay.relay_once() == 1


async def test_what_an_active_relay_leaves_does_not_wait(bench: Bench, engine: AsyncEngine) -> None:
    """It had read its rows before the last was committed: whoever was hinted at that one stays."""
    relay = Relay(engine, bench.publisher, interval_s=3600)
    async with engine.begin() as other:
        assert await locks.try_relay_lock(other)
        await add(engine, [fact(bench, 1)])
        task = asyncio.create_task(relay.run())
        await asyncio.sleep(0.5)  # it has looked, and found the other one
        assert await unsent(engine) == 1
    await bench.records(bench.topic, 1)
    await stop([relay], [task])


async def test_three_relays_publish_each_row_once(bench: Bench, engine: AsyncEngine) -> None:
    """Without crashes there are no duplicates, however many relays run."""
    relays = [Relay(engine, bench.publisher, interval_s=0.01) for _ in range(3)]
    tasks = [asyncio.create_task(relay.run()) for relay in relays]
    for index in range(50):
        await add(engine, [fact(bench, index)])
    records = await bench.records(bench.topic, 50)
    await soon_there(lambda: _all_sent(engine))
    await stop(relays, tasks)
    assert len({record.event for record in records}) == 50
    assert await bench.lag() == 50  # nobody reads here: the lag is the length of the topic


async def test_a_hint_wakes_the_relay(bench: Bench, engine: AsyncEngine) -> None:
    """With an hour between polls, what is hinted at is published at once."""
    relay = Relay(engine, bench.publisher, interval_s=3600)
    task = asyncio.create_task(relay.run())
    await add(engine, [fact(bench, 1)])
    relay.hint()
    await bench.records(bench.topic, 1)
    await stop([relay], [task])


async def test_without_kafka_rows_wait(bench: Bench, engine: AsyncEngine) -> None:
    """An outage opens no transaction and loses nothing."""
    await add(engine, [fact(bench, 1)])
    with pytest.raises(Retry):
        await Relay(engine, Publisher("127.0.0.1:9", source="/x")).relay_once()
    assert await unsent(engine) == 1


async def test_what_waits_shows_also_while_nothing_leaves(
    bench: Bench, engine: AsyncEngine
) -> None:
    """Without a broker the gauges say how many events wait, and since when."""
    async with engine.begin() as connection:
        await outbox.add(connection, fact(bench, 1), source="/x", traceparent=TRACE)
        await connection.execute(update(table).values(created_at=func.now() - timedelta(minutes=7)))
    with pytest.raises(Retry):
        await Relay(engine, Publisher("127.0.0.1:9", source="/x")).relay_all()
    assert metrics.OUTBOX_PENDING._value.get() == 1
    assert 420 <= metrics.OUTBOX_AGE._value.get() < 480


async def test_old_rows_are_deleted(bench: Bench, engine: AsyncEngine) -> None:
    """Sent rows go after an hour; what was not sent stays, however old."""
    await add(engine, [fact(bench, index) for index in range(3)])
    await Relay(engine, bench.publisher).relay_once()
    await add(engine, [fact(bench, 3)])
    async with engine.begin() as connection:
        an_hour_ago = func.now() - outbox.KEEP
        first = select(func.min(table.c.id)).scalar_subquery()
        await connection.execute(
            update(table).where(table.c.id != first).values(created_at=an_hour_ago)
        )
    assert await Relay(engine, bench.publisher).prune() == 2
    assert await unsent(engine) == 1


async def test_stop_before_start(bench: Bench, engine: AsyncEngine) -> None:
    """`stop` may come at any time and any number of times."""
    relay = Relay(engine, bench.publisher)
    await relay.stop()
    await relay.stop()
    async with asyncio.timeout(5):
        await relay.run()


def attempt(record: Tailed) -> int:
    assert isinstance(record.event, ChunkEvent)
    return record.event.attempt


async def stop(relays: Sequence[Relay], tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.gather(*(relay.stop() for relay in relays))
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(*tasks)


async def _all_sent(engine: AsyncEngine) -> bool:
    return await unsent(engine) == 0
