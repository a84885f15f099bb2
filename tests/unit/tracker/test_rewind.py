"""What the tracker's Faust consumer watches over, and how it seeks."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import faust
import pytest
from aiokafka.structs import ConsumerRecord
from faust.transport.consumer import Fetcher
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, Message

from pixcrawler.common import topics
from pixcrawler.tracker.rewind import RewindingConsumer, RewindingThread, RewindingTransport

PARTITION = TP(topics.TRACKER_EVENTS, 0)
RECORDS = 10
COMMITTED = 2
IN_HAND = 5
DEADLINE_S = 10.0


class Scripted(RewindingConsumer):
    """Of a partition with ten records, of which two are committed: the log is a position here."""

    at = COMMITTED

    async def seek_to_committed(self) -> Mapping[TP, int]:
        self.at = COMMITTED
        return {PARTITION: COMMITTED}

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        del active_partitions, timeout
        found = [_record(offset) for offset in range(self.at, RECORDS)]
        self.at = RECORDS
        if not found:
            await asyncio.sleep(0)
        return {PARTITION: found}

    def highwater(self, tp: TP) -> int:
        del tp
        return RECORDS


def _record(offset: int) -> Any:
    return ConsumerRecord(*PARTITION, offset, 0, 0, b"k", b"v", None, 1, 1, ())


class Reading:
    """A consumer and who reads it; each record that is delivered is taken note of.

    Delivering the one at `IN_HAND` takes until the test allows it.
    """

    def __init__(self) -> None:
        app = faust.App("x", broker="kafka://127.0.0.1:1", store="memory://", web_enabled=False)
        self.delivered: list[int] = []
        self.held, self.allowed = asyncio.Event(), asyncio.Event()
        self.consumer = Scripted(
            RewindingTransport(app.conf.broker_consumer, app=app), self._take, _none, _none
        )
        self.consumer.resume_partitions({PARTITION})
        self._fetcher = Fetcher(app)

    async def _take(self, message: Message) -> None:
        if message.offset == IN_HAND:
            self.held.set()
            await self.allowed.wait()
        self.delivered.append(message.offset)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read until the end."""
        task = asyncio.create_task(self.consumer._drain_messages(self._fetcher))
        try:
            async with asyncio.timeout(DEADLINE_S):
                yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _none(*_: object) -> None:
    pass


async def test_nothing_from_before_a_seek_is_delivered_after_it() -> None:
    """Faust empties its queues after a seek: what is behind it is delivered again, all of it.

    A batch that went on meanwhile put the offset up to which was read beyond that: the records were
    dropped, and the partition stood still.
    """
    reading = Reading()
    async with reading.running():
        await reading.held.wait()
        await reading.consumer.perform_seek()
        reading.delivered.clear()  # Faust empties the queues
        reading.allowed.set()
        reading.consumer.resume_flow()
        while RECORDS - 1 not in reading.delivered:
            await asyncio.sleep(0)
    assert reading.delivered == list(range(COMMITTED, RECORDS))


async def test_a_seek_does_not_wait_for_a_reader_that_is_gone() -> None:
    """A rebalance ends the reader in the middle of a batch: the next one begins behind a seek."""
    reading = Reading()
    async with reading.running():
        await reading.held.wait()
    await asyncio.wait_for(reading.consumer.perform_seek(), DEADLINE_S)
    reading.delivered.clear()
    reading.allowed.set()
    reading.consumer.resume_flow()
    async with reading.running():
        while RECORDS - 1 not in reading.delivered:
            await asyncio.sleep(0)
    assert reading.delivered == list(range(COMMITTED, RECORDS))


async def test_records_that_come_while_the_flow_is_stopped_are_fetched_again() -> None:
    """They are thrown away, as a rebalance wants it, and the reader seeks back by itself."""
    reading = Reading()
    reading.allowed.set()
    reading.consumer.stop_flow()
    async with reading.running():
        await asyncio.sleep(0)
        await reading.consumer.perform_seek()
        assert reading.delivered == []
        reading.consumer.resume_flow()
        while RECORDS - 1 not in reading.delivered:
            await asyncio.sleep(0)
    assert reading.delivered == list(range(COMMITTED, RECORDS))


def test_the_changelog_is_no_stream_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads it once the table has recovered: only its connection is watched."""
    watched: list[tuple[str, str]] = []
    for name in ("verify_event_path", "verify_recovery_event_path"):

        def watch(_thread: object, _now: float, tp: TP, name: str = name) -> None:
            watched.append((name, tp.topic))

        monkeypatch.setattr(driver.AIOKafkaConsumerThread, name, watch)
    thread = object.__new__(RewindingThread)
    for topic in (topics.TRACKER_CHANGELOG, topics.TRACKER_EVENTS):
        thread.verify_event_path(0.0, TP(topic, 0))
    assert watched == [
        ("verify_recovery_event_path", topics.TRACKER_CHANGELOG),
        ("verify_event_path", topics.TRACKER_EVENTS),
    ]
