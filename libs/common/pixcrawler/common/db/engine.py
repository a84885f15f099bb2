"""Connections: asyncpg through SQLAlchemy, fit for a transaction-mode pooler.

No prepared statement outlives its transaction (unnamed ones only), nothing is set per session, and
there is no LISTEN: limits that protect against paused processes belong to the roles (`roles.py`).
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, PoolProxiedConnection

from pixcrawler.common import failpoints
from pixcrawler.common.db.address import arguments

PING_AFTER_S = 30.0
"""Seconds of rest after which a connection is tried before it is used: what stands between us and
the database may forget it, and tell nobody (a load balancer of Azure does after 4 minutes)."""


def connect(
    url: str,
    *,
    pool_size: int = 5,
    application: str = "pixcrawler",
    ping_after_s: float = PING_AFTER_S,
) -> AsyncEngine:
    """An engine; it connects when it is first used.

    Args:
        url: `postgresql+asyncpg://…`, with `sslmode` and `sslrootcert` where TLS is wanted.
        pool_size: Connections at most.
        application: Shown in `pg_stat_activity`.
        ping_after_s: A connection that rested for longer is tried first.
    """
    address, tls = arguments(url)
    engine = create_async_engine(
        address,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=30,
        pool_use_lifo=True,  # so that one connection does what one can do, and the others rest
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
    _give_out_living_ones(engine, ping_after_s)
    return engine


def _give_out_living_ones(engine: AsyncEngine, ping_after_s: float) -> None:
    """Replace a connection that has ended before anybody gets it.

    `pool_pre_ping` asks the server each time, within a transaction for the sake of poolers: four
    of the eight round trips of a statement. But the client knows of a connection that was closed,
    and one that worked a moment ago works most likely still.
    """
    dialect = engine.dialect

    @event.listens_for(engine.sync_engine, "checkin")
    def note(_raw: object, entry: ConnectionPoolEntry) -> None:
        entry.info["rests_since"] = time.monotonic()

    @event.listens_for(engine.sync_engine, "checkout")
    def look(_raw: object, entry: ConnectionPoolEntry, _proxy: PoolProxiedConnection) -> None:
        connection = entry.dbapi_connection
        assert connection is not None
        if connection.driver_connection.is_closed():
            raise DisconnectionError("closed while it rested")
        rests_since = entry.info.get("rests_since")
        if rests_since is None or time.monotonic() - rests_since < ping_after_s:
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            # Whatever made it useless has most likely done so to those that rest beside it.
            raise InvalidatePoolError("no answer after a rest") from error


@asynccontextmanager
async def transaction(engine: AsyncEngine, name: str) -> AsyncIterator[AsyncConnection]:
    """A transaction that has a name, and so fail points: before its commit, and after it."""
    async with engine.begin() as connection:
        yield connection
        failpoints.hit(f"before:{name}")
    failpoints.hit(f"after:{name}")
