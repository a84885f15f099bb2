"""What has to be there before the services: database, tables, roles, topics, an API key."""

import secrets

from pixcrawler.common import keys
from pixcrawler.common.admin import apply_topics
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.migrate import upgrade
from pixcrawler.common.db.roles import ensure_roles, service_url
from pixcrawler.common.db.tables import OWNERS
from pixcrawler.common.errors import PixCrawlerError

from .errors import StandaloneError
from .kafka import Kafka
from .state import Kept

__all__ = ["apply", "create_database", "service_url"]

KEY_OWNER = "standalone"


async def create_database(superuser_url: str, name: str) -> None:
    """Make the database if it is not there. The name is our own, not a user's."""
    import asyncpg

    connection = await asyncpg.connect(superuser_url.replace("+asyncpg", "", 1), ssl=False)
    try:
        exists = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name)
        if not exists:
            await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()


async def apply(database_url: str, kafka: Kafka, kept: Kept) -> Kept:
    """Bring tables, roles and topics up to date; make an API key where none is kept.

    Returns:
        ``kept`` with a password for every service, and a key that is valid.

    Raises:
        StandaloneError: The broker or the database refused.
    """
    from aiokafka.errors import KafkaError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        await upgrade(database_url)
        passwords = {service: secrets.token_hex(16) for service in OWNERS} | kept.passwords
        await ensure_roles(database_url, passwords)
        # The cluster is ours alone, so what differs from the registry is from an older version.
        await apply_topics(
            kafka.bootstrap_servers,
            kept.partitions,
            kafka.settings.replication,
            alter=True,
        )
        api_key = await _api_key(database_url, kept.api_key)
    except (KafkaError, PixCrawlerError, SQLAlchemyError) as error:
        said = (str(error) or repr(error)).splitlines()[0]
        raise StandaloneError(f"cannot prepare topics and schema: {said}") from error
    return kept.model_copy(update={"api_key": api_key, "passwords": passwords})


async def _api_key(database_url: str, kept: str | None) -> str:
    """The key that was kept if it is still good, else a new one."""
    engine = connect(database_url, pool_size=1, application="pixcrawler-standalone")
    try:
        async with engine.begin() as connection:
            if kept is not None and await keys.verify(connection, kept) is not None:
                return kept
            return (await keys.create(connection, KEY_OWNER, keys.Scope.ADMIN)).text
    finally:
        await engine.dispose()
