"""Real parts for tests: Kafka, PostgreSQL and Azurite, each started once a session when first used.

By default they are child processes, started by the very code that standalone mode uses. With
``PIXCRAWLER_TEST_STACK=docker`` they are containers (testcontainers).
"""

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from pixcrawler.standalone.kafka import Kafka, KafkaSettings
from pixcrawler.standalone.paths import cache_dir
from pixcrawler.standalone.postgres import Postgres, PostgresSettings
from tests.azurite.server import Azurite

STACK_VARIABLE = "PIXCRAWLER_TEST_STACK"
BROKER_SESSION_TIMEOUT_MS = 3000  # a killed broker's partitions move within seconds


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


@asynccontextmanager
async def reachable_directory() -> AsyncIterator[Path]:
    """A temporary directory that any account can enter, as PostgreSQL's must be where we are root.

    (pytest's ``tmp_path`` is closed to others.)
    """
    directory = Path(tempfile.mkdtemp(prefix="pixcrawler-test-", dir="/tmp"))
    directory.chmod(0o755)  # noqa: ASYNC240 - one call on a local disk
    try:
        yield directory
    finally:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


class ProcessStack:
    """Child processes of the test run; they die with it."""

    @asynccontextmanager
    async def cluster(self, brokers: int = 1) -> AsyncIterator[Kafka]:
        """A running cluster whose brokers a test may kill and start again."""
        async with reachable_directory() as directory:
            settings = KafkaSettings(
                data_dir=directory / "kafka",
                cache_dir=cache_dir(os.environ),
                log_dir=directory / "logs",
                brokers=brokers,
                session_timeout_ms=BROKER_SESSION_TIMEOUT_MS,
            )
            kafka = Kafka(settings)
            await kafka.start()
            try:
                yield kafka
            finally:  # nobody needs the data any more, so there is nothing to flush
                await asyncio.gather(*(broker.kill() for broker in kafka.brokers))

    @asynccontextmanager
    async def kafka(self, brokers: int = 1) -> AsyncIterator[str]:
        async with self.cluster(brokers) as kafka:
            yield kafka.bootstrap_servers

    @asynccontextmanager
    async def postgres(self) -> AsyncIterator[str]:
        async with reachable_directory() as directory:
            postgres = Postgres(PostgresSettings(directory / "postgres", directory / "logs"))
            await postgres.start()
            try:
                yield postgres.url
            finally:
                await postgres.stop()

    @asynccontextmanager
    async def azurite(self) -> AsyncIterator[str]:
        async with reachable_directory() as directory:
            azurite = Azurite(cache_dir(os.environ), directory)
            await azurite.start()
            try:
                yield azurite.connection_string
            finally:
                await azurite.stop()


class ContainerStack:
    """Containers, the same versions; needs a Docker engine."""

    @asynccontextmanager
    async def kafka(self, brokers: int = 1) -> AsyncIterator[str]:
        from testcontainers.kafka import KafkaContainer

        if brokers != 1:
            import pytest

            pytest.skip("clusters of several brokers are tested with child processes only")
        container = KafkaContainer("apache/kafka:4.3.0").with_kraft()
        container.with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
        container.with_env("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
        container.with_env("KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS", "8")
        await asyncio.to_thread(container.start)
        try:
            yield str(container.get_bootstrap_server())
        finally:
            await asyncio.to_thread(container.stop)

    @asynccontextmanager
    async def postgres(self) -> AsyncIterator[str]:
        from testcontainers.postgres import PostgresContainer

        container = PostgresContainer("postgres:18", username="postgres", dbname="postgres")
        container.with_command("postgres -c max_connections=200")
        await asyncio.to_thread(container.start)
        try:
            yield str(container.get_connection_url(driver="asyncpg"))
        finally:
            await asyncio.to_thread(container.stop)

    @asynccontextmanager
    async def azurite(self) -> AsyncIterator[str]:
        from testcontainers.azurite import AzuriteContainer

        container = AzuriteContainer("mcr.microsoft.com/azure-storage/azurite:3.37.0")
        await asyncio.to_thread(container.start)
        try:
            yield str(container.get_connection_string())
        finally:
            await asyncio.to_thread(container.stop)


def url_of(superuser_url: str, database: str) -> str:
    """The superuser's URL of another database of the same server."""
    return urlunsplit(urlsplit(superuser_url)._replace(path=f"/{database}"))


@asynccontextmanager
async def new_database(superuser_url: str) -> AsyncIterator[str]:
    """URL of an empty database, dropped at the end together with whoever is connected to it."""
    import asyncpg

    plain = superuser_url.replace("+asyncpg", "")
    name = f"test_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(plain)
    try:
        # template0: nobody is ever connected to it, so copies never have to wait.
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            yield url_of(superuser_url, name)
        finally:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()
