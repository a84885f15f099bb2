"""Connections as every service makes them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.db.engine import connect

PING = ";"
"""What asyncpg's dialect asks to see whether a connection works."""


async def test_an_error_quotes_no_value(empty_database: str) -> None:
    """Errors are logged, and a value may be a secret: of a webhook, of a key."""
    engine = connect(empty_database)
    try:
        with pytest.raises(DBAPIError, match="division by zero") as raised:
            async with engine.connect() as connection:
                await connection.execute(
                    text("SELECT CAST(:secret AS text), 1 / CAST(:zero AS integer)"),
                    {"secret": "whsec-of-somebody", "zero": 0},
                )
    finally:
        await engine.dispose()
    assert "SELECT" in str(raised.value)
    assert "whsec-of-somebody" not in f"{raised.value} {raised.value!r}"


class Watched:
    """An engine, its connections, and what they ask beside the statements that are prepared."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.asked: list[str] = []
        self.drivers: list[asyncpg.Connection] = []

        @event.listens_for(engine.sync_engine, "connect")
        def watch(connection: object, _entry: object) -> None:
            driver = connection.driver_connection  # type: ignore[attr-defined]
            driver.add_query_logger(lambda query: self.asked.append(query.query))
            self.drivers.append(driver)

    async def pid(self) -> int:
        """The process of the server that a connection of the pool is served by."""
        async with self.engine.connect() as connection:
            return int(await connection.scalar(text("SELECT pg_backend_pid()")))


@asynccontextmanager
async def watched(url: str, *, ping_after_s: float) -> AsyncIterator[Watched]:
    engine = connect(url, ping_after_s=ping_after_s)
    try:
        yield Watched(engine)
    finally:
        await engine.dispose()


async def test_a_connection_in_use_is_not_tried_each_time(empty_database: str) -> None:
    async with watched(empty_database, ping_after_s=60.0) as watch:
        first = await watch.pid()
        assert [await watch.pid() for _ in range(5)] == [first] * 5
    assert PING not in watch.asked


async def test_one_that_rested_is_tried(empty_database: str) -> None:
    async with watched(empty_database, ping_after_s=0.0) as watch:
        first = await watch.pid()
        assert PING not in watch.asked  # it is new
        assert await watch.pid() == first
    assert watch.asked.count(PING) == 1


async def test_closed_ones_are_replaced_unseen(empty_database: str) -> None:
    """As after a restart of the server: nobody's statement fails for a connection that rested."""
    async with watched(empty_database, ping_after_s=60.0) as watch:
        async with watch.engine.connect(), watch.engine.connect():
            pass
        two = [driver.get_server_pid() for driver in watch.drivers]
        assert len(two) == 2
        other = await asyncpg.connect(empty_database.replace("+asyncpg", ""))
        try:
            for pid in two:
                assert await other.fetchval("SELECT pg_terminate_backend($1, 10_000)", pid)
        finally:
            await other.close()
        async with asyncio.timeout(10):
            while not all(driver.is_closed() for driver in watch.drivers):
                await asyncio.sleep(0.01)
        async with watch.engine.connect() as one, watch.engine.connect() as another:
            for connection in (one, another):
                assert await connection.scalar(text("SELECT pg_backend_pid()")) not in two
