"""Migrations: Alembic in the process, no command line and no configuration file.

A database is brought up to date in one transaction that starts with an advisory lock, so that any
number of programs may try at once: one migrates, the others wait and find nothing to do. A
migration has to be safe while the previous version is serving: add first, remove one release later.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from pixcrawler.common import audit
from pixcrawler.common.db import locks
from pixcrawler.common.db.address import arguments
from pixcrawler.common.db.sqlstate import sqlstate

MIGRATIONS = Path(__file__).parent / "migrations"

_LOCK = text("SELECT pg_advisory_xact_lock(:kind, 0)")
# Whoever waits for a table's lock keeps everybody out who comes after: rather fail, and try again.
# (After the advisory lock, whose wait keeps out nobody but other migrations.)
_PATIENCE = text("SET LOCAL lock_timeout = '5s'")
_DEADLOCK = "40P01"


def _deadlocked(error: BaseException) -> bool:
    """Whether the database has ended this transaction, and not one of what serves."""
    return isinstance(error, DBAPIError) and sqlstate(error) == _DEADLOCK


@retry(
    retry=retry_if_exception(_deadlocked),
    stop=stop_after_attempt(5),
    wait=wait_random_exponential(max=2),
    reraise=True,
)
async def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema to a revision; does nothing where it is there already.

    It locks one table after the other, in another order perhaps than a transaction of what serves:
    where the two wait for each other and the database ends this one, it is tried again.

    Args:
        url: `postgresql+asyncpg://…` of a role that may create tables.
        revision: Which one, the latest if not given.
    """
    engine = _engine(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(_LOCK, {"kind": locks.MIGRATION})
            await connection.execute(_PATIENCE)
            before = await connection.run_sync(_current)
            await connection.run_sync(_upgrade, revision)
            await _write_down(connection, before, await connection.run_sync(_current))
    finally:
        await engine.dispose()


async def _write_down(connection: AsyncConnection, before: str | None, after: str | None) -> None:
    """A line of the audit log, in the same transaction, if a schema that was there has changed."""
    if before in {None, after} or after is None:
        return
    if await connection.scalar(text("SELECT to_regclass('audit_log')")) is not None:
        told = {"revision": (before, after)}
        await audit.write(connection, audit.DESK, "schema.upgrade", after, told, owner="")


async def current(url: str) -> str | None:
    """The schema's revision, None where there is no schema."""
    engine = _engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_current)
    finally:
        await engine.dispose()


def older_revisions() -> frozenset[str]:
    """The revisions that this program knows and that come before its latest."""
    scripts = ScriptDirectory.from_config(config())
    head = scripts.get_current_head()
    return frozenset(s.revision for s in scripts.walk_revisions() if s.revision != head)


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
    address, tls = arguments(url)
    return create_async_engine(
        address,
        poolclass=NullPool,
        connect_args={
            "timeout": 10,
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: "",
            "server_settings": {"application_name": "pixcrawler-migrate"},
            **tls,
        },
    )
