"""Records that nobody should ever write, and that somebody writes one day: one table of them."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from pixcrawler.common import events, ids
from pixcrawler.common.events import Event

LARGEST_TAKEN = 1_048_000
"""Bytes of a value that a broker with Kafka's defaults still takes (`message.max.bytes`)."""
IN_BATCH = 4
"""Records that `produce_unreadable` publishes."""
_CRC_AT = 17
_CRC_FROM = 21
"""Kafka's record batch, version 2: where the checksum is, and from where on it counts."""


class Bad(NamedTuple):
    """A record; `key` None: it has none."""

    name: str
    value: bytes | None
    key: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    exception: str = "ValidationError"
    cut: str = ""


def bomb(count: int, size: int) -> tuple[tuple[str, bytes], ...]:
    """So many headers of so many bytes each that are not UTF-8."""
    return tuple((f"bomb-{number}", b"\xff" * size) for number in range(count))


def table(fact: Event) -> tuple[Bad, ...]:
    """What can be wrong with the record of an event, one thing each.

    Args:
        fact: A good one; its record is spoilt.
    """
    key, value = fact.key.encode(), fact.model_dump_json().encode()
    kind = events.event_type(type(fact))
    other = ids.chunk_id(ids.new_job_id(), 0).encode()
    wrong = value.replace(b'"' + key + b'"', b"7")
    return (
        Bad("not JSON", b"{not json", key),
        Bad("not UTF-8", b'{"' + b"\xff\xfe" + b'": 1}', key),
        Bad("not an object", b"[1, 2, 3]", key),
        Bad("nested deeply", b"[" * 100_000, key),
        Bad("wrong type", wrong, key),
        Bad("missing field", b"{}", key),
        Bad("no possible id", value.replace(b'"' + key, b'"\\u0000' + key), key),
        Bad("unknown version", value, key, (("ce_type", f"{kind[:-1]}9".encode()),), "Poison"),
        Bad("other type", value, key, (("ce_type", b"org.example.thing"),), "Poison"),
        Bad("null value", None, key, (), "Poison"),
        Bad("null key", b"{}", None),
        Bad("wrong key", value, other, (), "Poison"),
        Bad("empty key", value, b"", (), "Poison"),
        Bad("large value", b"x" * LARGEST_TAKEN, key, cut="value"),
        Bad("large key", b"{}", b"k" * 1_000_000, cut="key"),
        Bad("many headers", b"{}", key, bomb(5_000, 3), cut="headers"),
        Bad("large headers", b"{}", key, (("a", b"b"), *bomb(3, 300_000)), cut="headers"),
        Bad("headers that lie", b"{}", key, (("dlq_topic", b"mine"), ("dlq_id", b"\xff"))),
    )


async def produce(
    bootstrap_servers: str, topic: str, records: Sequence[Bad], *, partition: int = 0
) -> list[int]:
    """Publish them in this order to one partition; their offsets."""
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, max_request_size=64 * 1024 * 1024
    ) as producer:
        acks = [
            await producer.send_and_wait(
                topic, each.value, key=each.key, headers=list(each.headers), partition=partition
            )
            for each in records
        ]
    return [ack.offset for ack in acks]


async def produce_unreadable(bootstrap_servers: str, topic: str, *, partition: int = 0) -> None:
    """A record with a header whose name is not UTF-8, between others, and one without anything.

    No Python client writes such things, but others do, and the broker takes them.
    """
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    builder.append(0, None, b"before", b"{}", [])
    builder.append(1, None, b"key", b"{}", [("NAME", b"value")])
    builder.append(2, None, b"after", b"{}", [])
    builder.append(3, None, None, None, [])
    batch = bytes(builder.build()).replace(b"NAME", b"\xff\xfe\xfd\xfc")
    crc = struct.pack(">I", calc_crc32c(batch[_CRC_FROM:]))
    batch = batch[:_CRC_AT] + crc + batch[_CRC_FROM:]
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers)
    await client.bootstrap()
    try:
        await client.force_metadata_update()
        [node] = {each.nodeId for each in client.cluster.brokers()}
        answer = await client.send(
            node, ProduceRequest(None, -1, 10_000, [(topic, [(partition, batch)])])
        )
        [(_, [(_, code, *_)])] = answer.topics
        assert code == 0
    finally:
        await client.close()
