"""Connections: asyncpg through SQLAlchemy, fit for a transaction-mode pooler.

No prepared statement outlives its transaction (unnamed ones only), nothing is set per session, and
there is no LISTEN: limits that protect against paused processes belong to the roles (`roles.py`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from pixcrawler.common import failpoints
from pixcrawler.common.db.address import arguments


def connect(url: str, *, pool_size: int = 5, application: str = "pixcrawler") -> AsyncEngine:
    """An engine; it connects when it is first used.

    Args:
        url: `postgresql+asyncpg://…`, with `sslmode` and `sslrootcert` where TLS is wanted.
        pool_size: Connections at most.
        application: Shown in `pg_stat_activity`.
    """
    address, tls = arguments(url)
    return create_async_engine(
        address,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        pool_pre_ping=True,
        hide_parameters=True,  # errors are logged, and a parameter may be a secret
        connect_args={
            "timeout": 10,
            "command_timeout": 30,
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            "prepared_statement_name_func": lambda: "",
            # asyncpg says 'utf-8', which a pooler takes for another encoding than the server's: it
            # would set it anew before every transaction. The last word counts.
            "server_settings": {"application_name": application, "client_encoding": "UTF8"},
            **tls,
        },
    )


@asynccontextmanager
async def transaction(engine: AsyncEngine, name: str) -> AsyncIterator[AsyncConnection]:
    """A transaction that has a name, and so fail points: before its commit, and after it."""
    async with engine.begin() as connection:
        yield connection
        failpoints.hit(f"before:{name}")
    failpoints.hit(f"after:{name}")
