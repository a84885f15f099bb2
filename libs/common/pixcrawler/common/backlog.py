"""What waits in the log before a consumer loop: how much, and since when.

The loop itself sees only what it fetched. Of a partition that it paused because its hands are full,
or that it has not come to, it knows neither the end nor the age of what stands there; so the log is
asked now and then, by a reader of its own that belongs to no group.
"""

import asyncio
from collections.abc import Collection, Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from pixcrawler.common.kafka import Servers, options

ASK_S = 10.0
_FETCH_BYTES = 64 * 1024
"""Of a partition at a time: one record is wanted, and a batch is seldom larger."""


class Backlog:
    """Asks where partitions end, and when a record was written.

    Args:
        bootstrap_servers: `host:port`, comma-separated, or a cluster.
        client_id: As the broker's logs name it.
    """

    def __init__(self, bootstrap_servers: Servers, client_id: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._client_id = client_id
        self._reader: AIOKafkaConsumer | None = None

    async def ends(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset after the last record of each partition.

        Raises:
            KafkaError, TimeoutError: the broker does not answer.
        """
        if not partitions:
            return {}
        async with asyncio.timeout(ASK_S):
            reader = await self._connected()
            found: dict[TopicPartition, int] = await reader.end_offsets(list(partitions))
        return found

    async def written_at(
        self, positions: Mapping[TopicPartition, int]
    ) -> Mapping[TopicPartition, int]:
        """When the first record at or after each position was written, in ms since the epoch.

        Those that do not come in time are missing: they are asked for again the next time.

        Raises:
            KafkaError, TimeoutError: the broker does not answer.
        """
        found: dict[TopicPartition, int] = {}
        if not positions:
            return found
        async with asyncio.timeout(ASK_S):
            reader = await self._connected()
        reader.assign(list(positions))
        for partition, position in positions.items():
            reader.seek(partition, position)
        try:
            async with asyncio.timeout(ASK_S):
                while left := [each for each in positions if each not in found]:
                    batches = await reader.getmany(*left, timeout_ms=200)
                    found |= {each: batch[0].timestamp for each, batch in batches.items()}
        except TimeoutError:
            pass
        finally:
            reader.unsubscribe()
        return found

    async def close(self) -> None:
        """Let go of the broker; may be called at any time, also twice."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.stop()

    async def _connected(self) -> AIOKafkaConsumer:
        if self._reader is None:
            reader = AIOKafkaConsumer(
                **options(self._bootstrap_servers),
                client_id=self._client_id,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                max_partition_fetch_bytes=_FETCH_BYTES,
            )
            try:
                await reader.start()
            except BaseException:
                await reader.stop()
                raise
            self._reader = reader
        return self._reader
