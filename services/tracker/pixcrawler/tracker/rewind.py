"""A Faust transport whose consumer also rewinds partitions that have no committed offset yet.

At a rebalance Faust fetches while its flow is stopped, throws the records away and seeks back to
the committed offsets. aiokafka's `seek_to_committed` leaves a partition without one where it is, so
the records thrown away are never read (seen: ten records of `job.finished` that nobody got, in
about every second kill under load). Here such a partition goes back to its beginning, which is
where a group without an offset begins anyway.
"""

from collections.abc import Mapping

import aiokafka
from faust.transport.drivers import aiokafka as driver
from faust.types import TP


class RewindingThread(driver.AIOKafkaConsumerThread):
    """The thread that Faust's consumer lives in."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek every assigned partition to its committed offset, or to its beginning."""
        found: Mapping[TP, int] = await self.call_thread(_rewind, self._ensure_consumer())
        return found


class RewindingConsumer(driver.Consumer):
    """Faust's consumer, in that thread."""

    def _new_consumer_thread(self) -> RewindingThread:
        return RewindingThread(self, loop=self.loop, beacon=self.beacon)


class RewindingTransport(driver.Transport):
    """Faust's transport with that consumer."""

    Consumer = RewindingConsumer


async def _rewind(consumer: aiokafka.AIOKafkaConsumer) -> Mapping[TP, int]:
    committed: Mapping[TP, int] = await consumer.seek_to_committed()
    unread = [partition for partition, offset in committed.items() if not offset]
    if unread:
        await consumer.seek_to_beginning(*unread)
    return committed
