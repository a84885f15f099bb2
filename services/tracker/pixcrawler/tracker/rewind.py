"""A Faust transport whose consumer also rewinds partitions that have no committed offset yet.

At a rebalance Faust fetches while its flow is stopped, throws the records away and seeks back to
the committed offsets. aiokafka's `seek_to_committed` leaves a partition without one where it is, so
the records thrown away are never read (seen: ten records of `job.finished` that nobody got, in
about every second kill under load). Here such a partition goes back to its beginning, which is
where a group without an offset begins anyway.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import aiokafka
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import RecordMetadata

from pixcrawler.common import failpoints, topics


class RewindingThread(driver.AIOKafkaConsumerThread):
    """The thread that Faust's consumer lives in."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to its committed offset, or to its beginning."""
        found: Mapping[TP, int] = await self.call_thread(_rewind, self._ensure_consumer())
        return found

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Complain about a stream that stands still, but of the changelog, which is none.

        Nothing reads it once the table has recovered, and Faust said so of each partition every few
        seconds for ever, as an error.
        """
        if tp.topic == topics.TRACKER_CHANGELOG:
            self.verify_recovery_event_path(now, tp)
        else:
            super().verify_event_path(now, tp)

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit offsets; where tests want it, die just before or after."""
        failpoints.hit("before:table_commit")
        done: bool = await super().commit(offsets)
        failpoints.hit("after:table_commit")
        return done


class RewindingConsumer(driver.Consumer):
    """Faust's consumer, in that thread."""

    def _new_consumer_thread(self) -> RewindingThread:
        return RewindingThread(self, loop=self.loop, beacon=self.beacon)


class FailingProducer(driver.Producer):
    """Faust's producer; where tests want it, it dies around the acknowledgement of a record."""

    async def send(self, topic: str, *args: Any, **kwargs: Any) -> Awaitable[RecordMetadata]:
        """Hand a record over; what is returned waits for its acknowledgement."""
        failpoints.hit(f"before:{topic}")
        acknowledged: Awaitable[RecordMetadata] = await super().send(topic, *args, **kwargs)
        if failpoints.enabled() and isinstance(acknowledged, asyncio.Future):
            acknowledged.add_done_callback(lambda _: failpoints.hit(f"after:{topic}"))
        return acknowledged


class RewindingTransport(driver.Transport):
    """Faust's transport with these."""

    Consumer = RewindingConsumer
    Producer = FailingProducer


async def _rewind(consumer: aiokafka.AIOKafkaConsumer) -> Mapping[TP, int]:
    committed: Mapping[TP, int] = await consumer.seek_to_committed()
    unread = [partition for partition, offset in committed.items() if not offset]
    if unread:
        await consumer.seek_to_beginning(*unread)
    return committed
