"""What has to be there before the services: database, tables, roles, topics, an API key."""

from pixcrawler.common.db.migrate import upgrade
from pixcrawler.common.db.roles import ensure_roles, service_url
from pixcrawler.common.db.tables import OWNERS

from .kafka import Kafka
from .state import Kept

__all__ = ["DATABASE", "SERVICES_WITH_ROLE", "apply", "create_database", "service_url"]

DATABASE = "pixcrawler"
SERVICES_WITH_ROLE = tuple(OWNERS)
KEY_OWNER = "standalone"
KEY_SCOPE = "admin"


async def create_database(superuser_url: str) -> None:
    """Make the database if it is not there."""
    import asyncpg

    connection = await asyncpg.connect(superuser_url.replace("+asyncpg", "", 1), ssl=False)
    try:
        exists = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE)
        if not exists:
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()


async def apply(database_url: str, kafka: Kafka, kept: Kept) -> Kept:  # noqa: ARG001 - topics come next
    """Bring tables, roles and topics up to date; make an API key where none is kept.

    Returns:
        ``kept`` with the key.
    """
    await upgrade(database_url)
    await ensure_roles(database_url, kept.passwords)
    return kept
