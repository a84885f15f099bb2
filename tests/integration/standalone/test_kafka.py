"""Brokers as child processes: kept data, several brokers, a broken cache."""

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from pixcrawler.common.kafka import METADATA_MS, options
from pixcrawler.standalone import StandaloneError
from pixcrawler.standalone.jars import provide, read_lock
from pixcrawler.standalone.kafka import Kafka, KafkaSettings, View, ask
from pixcrawler.standalone.paths import cache_dir
from tests.chaos import leaders
from tests.scratch import reachable_folder
from tests.stack import ProcessStack


@pytest_asyncio.fixture
async def settings() -> AsyncIterator[KafkaSettings]:
    with reachable_folder() as directory:
        yield KafkaSettings(
            data_dir=directory / "kafka",
            cache_dir=cache_dir(os.environ),
            log_dir=directory / "logs",
            session_timeout_ms=3000,
        )


async def create_topic(kafka: Kafka, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, kafka.settings.replication)])
    await admin.close()


async def read_one(bootstrap_servers: str, topic: str) -> bytes | None:
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        async with asyncio.timeout(30):
            value: bytes | None = (await consumer.getone()).value
        return value


async def test_records_survive_a_kill_and_new_ports(settings: KafkaSettings) -> None:
    """What was acknowledged is there after SIGKILL, also when the broker gets other ports."""
    first = Kafka(settings)
    await first.start()
    await create_topic(first, "kept")
    async with AIOKafkaProducer(bootstrap_servers=first.bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait("kept", b"value")
    await first.brokers[0].kill()

    second = Kafka(settings)
    assert second.bootstrap_servers != first.bootstrap_servers
    await second.start()
    assert await read_one(second.bootstrap_servers, "kept") == b"value"
    await second.stop()
    await second.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def three() -> AsyncIterator[Kafka]:
    """Three brokers."""
    async with ProcessStack().cluster(brokers=3) as kafka:
        yield kafka


@pytest.mark.asyncio(loop_scope="module")
async def test_a_leader_that_moved_is_found(three: Kafka) -> None:
    """Nobody told the client, and it has no offset there yet: it reads on all the same."""
    await create_topic(three, "moved")
    place = TopicPartition("moved", 0)
    async with AIOKafkaConsumer(
        **options(three.bootstrap_servers), auto_offset_reset="earliest"
    ) as consumer:
        await consumer._client.add_topic("moved")
        believed = consumer._client.cluster.leader_for_partition(place)
        assert await leaders.move(three.bootstrap_servers) >= 1
        async with AIOKafkaProducer(**options(three.bootstrap_servers), acks="all") as producer:
            await producer.send_and_wait("moved", b"value")
            assert producer._metadata.leader_for_partition(place) != believed
        consumer.assign([place])
        async with asyncio.timeout(3 * METADATA_MS / 1000):
            assert (await consumer.getone()).value == b"value"


@pytest.mark.asyncio(loop_scope="module")
async def test_three_brokers_outlive_one(three: Kafka) -> None:
    """With one of three brokers killed, acknowledged records can still be written and read."""
    everybody = View(three.cluster_id, frozenset({1, 2, 3}))
    assert await ask(three.brokers[2].address) == everybody
    await create_topic(three, "safe")
    await three.brokers[0].kill()
    rest = ",".join(broker.address for broker in three.brokers[1:])
    async with (
        AIOKafkaProducer(bootstrap_servers=rest, acks="all", enable_idempotence=True) as producer,
        asyncio.timeout(60),
    ):
        await producer.send_and_wait("safe", b"value")
    assert await read_one(rest, "safe") == b"value"
    await three.brokers[0].start()
    assert await three.brokers[0].answers()


async def test_a_taken_port_is_one_line(settings: KafkaSettings) -> None:
    """The error says which, and nothing was started."""
    first = Kafka(settings)
    await first.start()
    other = Kafka(
        KafkaSettings(
            data_dir=settings.data_dir.with_name("other"),
            cache_dir=settings.cache_dir,
            log_dir=settings.log_dir.with_name("other-logs"),
            ports=first.ports,
        )
    )
    with pytest.raises(
        StandaloneError, match=r"kafka-1 cannot listen on port \d+, it is taken"
    ) as failure:
        await other.start()
    assert "\n" not in str(failure.value)
    assert other.brokers[0].child.pid is None
    await first.stop()


def test_a_damaged_cache_is_mended(tmp_path: Path) -> None:
    """A jar with other bytes is found by its hash and fetched again; the set is whole after it."""
    jars = tuple(jar for jar in read_lock() if jar.artifact == "slf4j-api")
    directory = provide(jars, tmp_path)
    jar = directory / jars[0].file_name
    whole = jar.read_bytes()
    jar.write_bytes(whole[:100])
    assert provide(jars, tmp_path) == directory
    assert jar.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == [directory.name]


def test_several_may_fill_the_cache_at_once(tmp_path: Path) -> None:
    """All of them end up with the same complete directory, and no scratch is left."""
    jars = tuple(jar for jar in read_lock() if jar.artifact == "slf4j-api")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: provide(jars, tmp_path), range(4)))
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [found[0].name]


def test_a_storage_is_as_kafka_s_tool_makes_it(settings: KafkaSettings, tmp_path: Path) -> None:
    """The tool runs for the first one; the others have its features, and are somebody's own."""
    jars = provide(read_lock(), settings.cache_dir)
    for path in (jars, jars.with_name(f"{jars.name}.aot")):
        (tmp_path / path.name).symlink_to(path)

    def made(number: int) -> tuple[bytes, dict[str, str]]:
        kafka = Kafka(replace(settings, cache_dir=tmp_path, data_dir=tmp_path / str(number)))
        kafka.prepare()
        data = kafka.brokers[0].directory / "data"
        assert {path.name for path in data.iterdir()} == {"bootstrap.checkpoint", "meta.properties"}
        lines = (data / "meta.properties").read_text().splitlines()
        whose = dict(line.split("=") for line in lines if not line.startswith("#"))
        assert whose.pop("cluster.id") == kafka.cluster_id
        assert len(whose["directory.id"]) == len(kafka.cluster_id)
        return (data / "bootstrap.checkpoint").read_bytes(), whose

    features, whose = made(0)
    [kept] = tmp_path.glob("*.features")
    again, other = made(1)
    assert again == features
    assert other.pop("directory.id") != whose.pop("directory.id")
    assert other == whose
    os.truncate(kept, 100)
    assert len(made(2)[0]) == len(features)
    assert len(list(tmp_path.glob("*.features"))) == 2
    assert made(3)[0] == made(2)[0]


async def test_classes_are_loaded_beforehand(settings: KafkaSettings, tmp_path: Path) -> None:
    """Brokers share the file of their classes; one that is damaged only takes longer to start."""
    jars = provide(read_lock(), settings.cache_dir)
    (tmp_path / jars.name).symlink_to(jars)
    first, second, third = (
        Kafka(replace(settings, cache_dir=tmp_path, data_dir=settings.data_dir / str(number)))
        for number in range(3)
    )
    await asyncio.gather(asyncio.to_thread(first.prepare), asyncio.to_thread(second.prepare))
    file = tmp_path / f"{jars.name}.aot"
    assert first.java_options == second.java_options
    await second.start()
    mapped = psutil.Process(second.brokers[0].child.pid).memory_maps()
    assert os.fspath(file) in {each.path for each in mapped}
    await second.stop()

    os.truncate(file, 1_000_000)
    await third.start()
    assert await third.brokers[0].answers()
    await third.stop()
    assert "aot" not in third.brokers[0].child.log.read_text()
