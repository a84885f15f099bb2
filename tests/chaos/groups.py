"""Consumer groups that begin at the beginning again."""

from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from pixcrawler.common import topics

OF_THE_TRACKER = ("tracker", topics.TABLE_GROUP)


def groups_of(service: str) -> Sequence[str]:
    """The consumer groups of a service."""
    return OF_THE_TRACKER if service == "tracker" else (service,)


async def reset(servers: str, group: str) -> int:
    """Commit the first offset of every partition that a group reads; how many.

    Raises:
        KafkaError: the group has members, or the broker is not there.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers.split(","), group_id=group, enable_auto_commit=False
    )
    try:
        await consumer.start()
        cluster = await consumer._client.fetch_all_metadata()
        parts = [
            TopicPartition(name, number)
            for name in topics.read_by(group)
            for number in sorted(cluster.partitions_for_topic(name) or ())
        ]
        consumer.assign(parts)
        first: dict[TopicPartition, int] = await consumer.beginning_offsets(parts)
        await consumer.commit(first)
    finally:
        await consumer.stop()
    return len(parts)
