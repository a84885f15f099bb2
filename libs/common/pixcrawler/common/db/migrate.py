"""Migrations: Alembic in the process, no command line and no configuration file.

A database is brought up to date in one transaction that starts with an advisory lock, so that any
number of programs may try at once: one migrates, the others wait and find nothing to do. A
migration has to be safe while the previous version is serving: add first, remove one release later.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from pixcrawler.common.db import locks

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK = text("SELECT pg_advisory_xact_lock(:kind, 0)")


async def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema to a revision; does nothing where it is there already.

    Args:
        url: `postgresql+asyncpg://…` of a role that may create tables.
        revision: Which one, the latest if not given.
    """
    engine = _engine(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(_LOCK, {"kind": locks.MIGRATION})
            await connection.run_sync(_upgrade, revision)
    finally:
        await engine.dispose()


async def current(url: str) -> str | None:
    """The schema's revision, None where there is no schema."""
    engine = _engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_current)
    finally:
        await engine.dispose()


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration; `connection` is the one to migrate on."""
    settings = Config(attributes={"connection": connection})
    settings.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings


def _upgrade(connection: Connection, revision: str) -> None:
    command.upgrade(config(connection), revision)


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _engine(url: str) -> AsyncEngine:
    # Unlike `engine.connect`: no limit on a statement's time, since building an index takes long.
    return create_async_engine(
        url,
        poolclass=NullPool,
        connect_args={
            "timeout": 10,
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: "",
            "server_settings": {"application_name": "pixcrawler-migrate"},
        },
    )
