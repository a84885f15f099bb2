"""A Faust transport whose consumer rewinds all that it has to, while nothing is under way.

At a rebalance Faust fetches while its flow is stopped, throws the records away and seeks back to
the committed offsets. aiokafka's `seek_to_committed` leaves a partition without one where it is, so
the records thrown away are never read (seen: ten records of `job.finished` that nobody got, in
about every second kill under load). Here such a partition goes back to its beginning, which is
where a group without an offset begins anyway.

And Faust seeks while records flow: at the end of a recovery (`faust/tables/recovery.py`) it resumes
the streams' partitions, seeks, then empties the streams' queues. What is delivered meanwhile is
emptied out. Fetched again it is dropped, where a batch from before the seek went on after it: the
offset up to which was read is beyond. And the partition stands still (seen at every tenth start on
records that nobody had committed). Here a seek stops the flow, and waits for the batch in hand.
Faust resumes the flow itself, right after it has emptied the queues.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

import aiokafka
from faust.transport.consumer import RecordMap
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import RecordMetadata
from mode import ServiceT

from pixcrawler.common import failpoints, topics


class RewindingThread(driver.AIOKafkaConsumerThread):
    """The thread that Faust's consumer lives in."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._moving = asyncio.Lock()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to its committed offset, or to its beginning."""
        found: Mapping[TP, int] = await self.call_thread(self._rewind, self._ensure_consumer())
        return found

    async def _rewind(self, consumer: aiokafka.AIOKafkaConsumer) -> Mapping[TP, int]:
        async with self._moving:
            return await _rewind(consumer)

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> RecordMap:
        """Records, and the positions are behind them: also if nobody waits for them any more.

        Whoever asked may have been cancelled by a rebalance, but not what runs in this thread: if
        a seek came meanwhile, the records behind it would be gone.
        """
        async with self._moving:
            found: RecordMap = await super()._fetch_records(*args, **kwargs)
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
    """Faust's consumer, in that thread.

    Its one reader (`_drain_messages`) fetches a batch, delivers it record by record, and takes note
    of the offset up to which it has read; then it asks for the next. It is at rest from there until
    it has a batch to deliver, and only then the offset is ours to put back.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    async def perform_seek(self) -> None:
        """Seek to the committed offsets; nothing is delivered before the flow is resumed."""
        self.stop_flow()
        await self._at_rest.wait()
        await super().perform_seek()

    async def _wait_next_records(self, timeout: float) -> tuple[RecordMap | None, set[TP] | None]:
        self._at_rest.set()
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        self._at_rest.clear()
        found = await super()._wait_next_records(timeout)
        if not self.flow_active:  # it throws them away, and seeks itself
            self._at_rest.set()
        return found

    async def _drain_messages(self, fetcher: ServiceT) -> None:
        try:
            await super()._drain_messages(fetcher)
        finally:
            self._at_rest.set()

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
