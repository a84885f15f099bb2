"""What is in Kafka, byte for byte, and publishing it again."""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from pixcrawler.common import topics
from pixcrawler.common.events import header

EVENTS = tuple(
    topic.name
    for topic in topics.registry()
    if topic.key in {"job_id", "chunk_id"} and not topic.name.startswith("tracker.")
)
"""Every topic that carries what happened (the tracker's own two are parts of it)."""


class Raw(NamedTuple):
    """A record as it is."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def event_id(self) -> str:
        """Equal for repetitions of the same fact."""
        return header(self.headers, "ce_id")


async def read(servers: str, names: Sequence[str], job_id: str = "") -> list[Raw]:
    """All records of these topics, those of one job if it is given, up to where they end now."""
    async with _consumer(servers) as consumer:
        cluster = await consumer._client.fetch_all_metadata()
        parts = [
            TopicPartition(name, number)
            for name in names
            for number in sorted(cluster.partitions_for_topic(name) or ())
        ]
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        found: list[Raw] = []
        left = {part for part in parts if await consumer.position(part) < ends[part]}
        while left:
            batches = await consumer.getmany(timeout_ms=200)
            found += [
                Raw(r.topic, r.partition, r.offset, r.key or b"", r.value, tuple(r.headers))
                for batch in batches.values()
                for r in batch
                if (r.key or b"").startswith(job_id.encode())
            ]
            left = {part for part in left if await consumer.position(part) < ends[part]}
    return found


async def publish(servers: str, records: Sequence[Raw], *, spread: bool = False) -> None:
    """Publish records as they are.

    Args:
        servers: The broker.
        records: In this order.
        spread: Each of them to every partition of its topic instead of its own, so that replicas
            that share the topic have them in hand at the same time.
    """
    producer = AIOKafkaProducer(bootstrap_servers=servers.split(","), acks="all", linger_ms=0)
    await producer.start()
    try:
        sent = []
        for record in records:
            numbers: Sequence[int | None] = [None]
            if spread:
                numbers = sorted(await producer.partitions_for(record.topic))
            sent += [
                await producer.send(
                    record.topic,
                    record.value,
                    key=record.key,
                    headers=list(record.headers),
                    partition=number,
                )
                for number in numbers
            ]
        for ack in sent:
            await ack
    finally:
        await producer.stop()


async def forget(servers: str, names: Sequence[str]) -> None:
    """Remove all records of these topics."""
    async with _consumer(servers) as consumer:
        cluster = await consumer._client.fetch_all_metadata()
        parts = [
            TopicPartition(name, number)
            for name in names
            for number in cluster.partitions_for_topic(name) or ()
        ]
        ends = await consumer.end_offsets(parts)
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.split(","))
    await admin.start()
    try:
        await admin.delete_records({part: RecordsToDelete(end) for part, end in ends.items()})
    finally:
        await admin.close()


def shuffled(records: Sequence[Raw], seed: int = 1) -> list[Raw]:
    """In another order."""
    order = list(records)
    random.Random(seed).shuffle(order)
    return order


@asynccontextmanager
async def _consumer(servers: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers.split(","),
        group_id=None,
        enable_auto_commit=False,
        # Not seek_to_beginning: a reset to the end that is on its way may come after it.
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()
