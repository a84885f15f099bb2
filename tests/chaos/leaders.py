"""Moving the leaders of partitions: another order of replicas, and the first of them elected."""

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import AlterPartitionReassignmentsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

TIMEOUT_MS = 20_000
HEARD_OF_TRIES = 20
HEARD_OF_S = 0.1
HARMLESS = frozenset({0, 84})
"""Done, and ELECTION_NOT_NEEDED: its leader was the first one already."""

Replicas = Mapping[tuple[str, int], list[int]]
"""The brokers of each partition, the preferred leader first."""


class _ElectedV0(Response):  # type: ignore[misc]
    API_KEY = 43
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            Array(
                ("topic", String("utf-8")),
                (
                    "partitions",
                    Array(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("error_message", String("utf-8")),
                    ),
                ),
            ),
        ),
    )


class _ElectV0(RequestStruct):  # type: ignore[misc]
    API_KEY = 43
    API_VERSION = 0
    RESPONSE_TYPE = _ElectedV0
    SCHEMA = Schema(
        ("partitions", Array(("topic", String("utf-8")), ("partitions", Array(Int32)))),
        ("timeout_ms", Int32),
    )


class ElectLeaders(Request[_ElectV0]):  # type: ignore[misc]
    """Kafka's ElectLeaders, version 0: the preferred ones."""

    API_KEY = 43

    def __init__(self, partitions: list[tuple[str, list[int]]]) -> None:
        self._partitions = partitions

    def build(self, request_struct_class: type[_ElectV0]) -> _ElectV0:
        """As the client asks for it."""
        return request_struct_class(self._partitions, TIMEOUT_MS)


async def move(servers: str) -> int:
    """Give every partition the next of its replicas as its leader; how many have moved."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers.split(","))
    try:
        await admin.start()
        before = await _leaders(admin)
        await _reorder(admin, await _replicas(admin))
        await _elect(admin, sorted(before))
        return await _moved(admin, before)
    finally:
        await admin.close()


async def _moved(admin: AIOKafkaAdminClient, before: Mapping[tuple[str, int], int]) -> int:
    """How many partitions have another leader now; who is asked hears of it a moment later."""
    for _ in range(HEARD_OF_TRIES):
        after = await _leaders(admin)
        moved = sum(before[key] != leader for key, leader in after.items() if key in before)
        if moved:
            return moved
        await asyncio.sleep(HEARD_OF_S)
    return 0


async def _replicas(admin: AIOKafkaAdminClient) -> Replicas:
    return {key: list(part["replicas"]) for key, part in (await _partitions(admin)).items()}


async def _leaders(admin: AIOKafkaAdminClient) -> dict[tuple[str, int], int]:
    return {key: int(part["leader"]) for key, part in (await _partitions(admin)).items()}


async def _partitions(admin: AIOKafkaAdminClient) -> dict[tuple[str, int], Any]:
    return {
        (topic["topic"], part["partition"]): part
        for topic in await admin.describe_topics()
        for part in topic["partitions"]
    }


async def _reorder(admin: AIOKafkaAdminClient, replicas: Replicas) -> None:
    """The first replica of each becomes the last."""
    topics: dict[str, list[Any]] = {}
    for (topic, number), brokers in replicas.items():
        topics.setdefault(topic, []).append((number, [*brokers[1:], brokers[0]], {}))
    wanted: Any = [(topic, parts, {}) for topic, parts in topics.items()]
    answer = await admin._send_request(
        AlterPartitionReassignmentsRequest(TIMEOUT_MS, wanted, {})  # type: ignore[arg-type, unused-ignore]
    )
    assert answer.error_code == 0, answer


async def _elect(admin: AIOKafkaAdminClient, partitions: list[tuple[str, int]]) -> None:
    topics: dict[str, list[int]] = {}
    for topic, number in partitions:
        topics.setdefault(topic, []).append(number)
    answer = await admin._send_request(ElectLeaders(list(topics.items())))
    said = {code for _, parts in answer.results for _, code, _ in parts}
    # Who is not in sync cannot lead: the others have moved.
    assert said & HARMLESS, answer
