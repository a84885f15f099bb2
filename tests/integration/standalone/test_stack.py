"""The shared fixtures give real parts that answer."""

import uuid

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from azure.storage.blob.aio import BlobServiceClient


async def test_kafka_keeps_a_record(fresh_kafka: str) -> None:
    """A record written to a new topic is read back."""
    topic = f"test-{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=fresh_kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=fresh_kafka, enable_idempotence=True) as producer:
        await producer.send_and_wait(topic, b"value", key=b"key")
    async with AIOKafkaConsumer(
        topic, bootstrap_servers=fresh_kafka, auto_offset_reset="earliest"
    ) as consumer:
        record = await consumer.getone()
    assert (record.key, record.value) == (b"key", b"value")


async def test_each_test_has_a_database_of_its_own(empty_database: str) -> None:
    """The database is empty and accepts tables."""
    connection = await asyncpg.connect(empty_database.replace("+asyncpg", ""))
    await connection.execute("CREATE TABLE mine (n int)")
    assert await connection.fetchval("SELECT count(*) FROM mine") == 0
    await connection.close()


async def test_azurite_keeps_a_blob(azurite: str) -> None:
    """A blob written to a new container is read back."""
    async with BlobServiceClient.from_connection_string(azurite) as service:
        container = await service.create_container(f"test-{uuid.uuid4().hex}")
        await container.upload_blob("name", b"bytes")
        assert await (await container.download_blob("name")).readall() == b"bytes"


async def test_services_have_roles_of_their_own(service_urls: dict[str, str]) -> None:
    """A service reads every table and writes only its own."""
    connection = await asyncpg.connect(service_urls["uploader"].replace("+asyncpg", ""))
    assert await connection.fetchval("SELECT count(*) FROM job_chunks") == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("DELETE FROM job_chunks")
    await connection.close()
