"""Real parts for tests: Kafka, PostgreSQL and Azurite, each started once a session when first used.

By default they are child processes, started by the very code that standalone mode uses. With
``PIXCRAWLER_TEST_STACK=docker`` they are containers (testcontainers).
"""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import pytest

from pixcrawler.standalone.kafka import Kafka, KafkaSettings, ask
from pixcrawler.standalone.paths import cache_dir
from pixcrawler.standalone.ports import free_ports
from pixcrawler.standalone.postgres import Postgres, PostgresSettings
from tests.azurite.server import Azurite
from tests.scratch import in_memory, reachable_folder

STACK_VARIABLE = "PIXCRAWLER_TEST_STACK"
SESSION_TIMEOUT_MS = 9000  # as it comes
KILLED_SESSION_TIMEOUT_MS = 3000  # a killed broker's partitions move within seconds
CONTAINER_TIMEOUT_S = 120.0


class Stack(Protocol):
    """Where the parts come from. Each call starts a part of its own, which lives in the context."""

    def kafka(self, brokers: int = 1) -> AbstractAsyncContextManager[str]:
        """Bootstrap servers of an empty cluster."""

    def postgres(self) -> AbstractAsyncContextManager[str]:
        """URL of the superuser, ``postgresql+asyncpg://…/postgres``."""

    def azurite(self) -> AbstractAsyncContextManager[str]:
        """Connection string."""


def make_stack() -> Stack:
    """The stack that the environment asks for: ours, or ``docker``."""
    chosen = os.environ.get(STACK_VARIABLE, "")
    if chosen == "docker":
        return ContainerStack()
    if chosen:
        raise ValueError(f"{STACK_VARIABLE} is empty or docker, not {chosen!r}")
    return ProcessStack()


class ProcessStack:
    """Child processes of the test run; they die with it."""

    @asynccontextmanager
    async def cluster(
        self, brokers: int = 1, *, session_timeout_ms: int = KILLED_SESSION_TIMEOUT_MS
    ) -> AsyncIterator[Kafka]:
        """A running cluster whose brokers a test may kill and start again."""
        with reachable_folder() as directory:
            settings = KafkaSettings(
                data_dir=directory / "kafka",
                cache_dir=cache_dir(os.environ),
                log_dir=directory / "logs",
                brokers=brokers,
                session_timeout_ms=session_timeout_ms,
            )
            kafka = Kafka(settings)
            await kafka.start()
            try:
                yield kafka
            finally:  # nobody needs the data any more, so there is nothing to flush
                await asyncio.gather(*(broker.kill() for broker in kafka.brokers))

    @asynccontextmanager
    async def kafka(self, brokers: int = 1) -> AsyncIterator[str]:
        # Nobody can kill these: they need not notice soon that one is gone, and are quieter so.
        async with self.cluster(brokers, session_timeout_ms=SESSION_TIMEOUT_MS) as kafka:
            yield kafka.bootstrap_servers

    @asynccontextmanager
    async def postgres(self) -> AsyncIterator[str]:
        with reachable_folder() as directory:
            postgres = Postgres(PostgresSettings(directory / "postgres", directory / "logs"))
            await postgres.start()
            try:
                yield postgres.url
            finally:
                await postgres.stop()

    @asynccontextmanager
    async def azurite(self) -> AsyncIterator[str]:
        with reachable_folder() as directory:
            azurite = Azurite(cache_dir(os.environ), directory)
            await azurite.start()
            try:
                yield azurite.connection_string
            finally:
                await azurite.stop()


class ContainerStack:
    """Containers of the same versions; needs a Docker engine."""

    @asynccontextmanager
    async def kafka(self, brokers: int = 1) -> AsyncIterator[str]:
        from testcontainers.core.container import DockerContainer

        if brokers != 1:
            pytest.skip("clusters of several brokers are tested with child processes only")
        # The address that a broker tells its clients must be known before it starts.
        (port,) = free_ports(1)
        container = DockerContainer("apache/kafka:4.3.0").with_bind_ports(port, port)
        address = f"{container.get_docker_client().host()}:{port}"
        for name, value in _broker_environment(port, address).items():
            container.with_env(name, value)
        async with _started(container):
            await _until_answers(address)
            yield address

    @asynccontextmanager
    async def postgres(self) -> AsyncIterator[str]:
        from testcontainers.community.postgres import PostgresContainer

        container = PostgresContainer("postgres:18", username="postgres", dbname="postgres")
        container.with_command("postgres -c max_connections=200")
        async with _started(container):
            yield str(container.get_connection_url(driver="asyncpg"))

    @asynccontextmanager
    async def azurite(self) -> AsyncIterator[str]:
        from testcontainers.community.azurite import AzuriteContainer

        container = AzuriteContainer("mcr.microsoft.com/azure-storage/azurite:3.37.0")
        container.with_command(
            "azurite --blobHost 0.0.0.0 --queueHost 0.0.0.0 --tableHost 0.0.0.0 "
            "--inMemoryPersistence --skipApiVersionCheck --disableTelemetry"
        )
        async with _started(container):
            yield str(container.get_connection_string())


@asynccontextmanager
async def _started(container: Any) -> AsyncIterator[None]:
    await asyncio.to_thread(container.start)
    try:
        yield
    finally:
        await asyncio.to_thread(container.stop)


async def _until_answers(address: str) -> None:
    async with asyncio.timeout(CONTAINER_TIMEOUT_S):
        while await ask(address) is None:
            await asyncio.sleep(0.1)


def _broker_environment(port: int, address: str) -> dict[str, str]:
    """The broker's properties as its image takes them: `a.b` is `KAFKA_A_B`."""
    properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": "1@localhost:9093",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"CLIENT://:{port},CONTROLLER://:9093",
        "advertised.listeners": f"CLIENT://{address}",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "8",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
    }
    return {f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in properties.items()}


def url_of(superuser_url: str, database: str) -> str:
    """The superuser's URL of another database of the same server."""
    return urlunsplit(urlsplit(superuser_url)._replace(path=f"/{database}"))


@asynccontextmanager
async def new_database(superuser_url: str, template: str = "template0") -> AsyncIterator[str]:
    """URL of a copy of a database, dropped at the end together with whoever is connected to it.

    The template is an empty one if none is given; nobody may be connected to it.
    """
    import asyncpg

    plain = superuser_url.replace("+asyncpg", "")
    name = f"test_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(plain)
    try:
        # Otherwise every page goes through the log, which spares a disk two checkpoints.
        strategy = "STRATEGY FILE_COPY" if in_memory() else ""
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} {strategy}")
        try:
            yield url_of(superuser_url, name)
        finally:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()
