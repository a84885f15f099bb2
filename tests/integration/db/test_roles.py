"""Roles against a real PostgreSQL."""

import asyncio
import re

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.roles import LIMITS, ensure_roles, service_url
from pixcrawler.common.db.tables import (
    OUTBOX_WRITERS,
    OWNERS,
    REPLICA_WRITERS,
    SECRET,
    metadata,
)

PASSWORDS = {service: f"secret of {service} '%:@/" for service in OWNERS}
READ, INSERT, UPDATE, DELETE = (
    "SELECT 1 FROM {} LIMIT 1",
    "INSERT INTO {} DEFAULT VALUES",
    "UPDATE {} SET {} = {}",
    "DELETE FROM {} WHERE false",
)


async def denied(engine: AsyncEngine, statement: str) -> bool:
    """Whether the statement fails for lack of a privilege, and for no other reason."""
    try:
        async with engine.begin() as connection:
            await connection.execute(text(statement))
    except DBAPIError as error:
        return bool(re.search("permission denied", str(error)))
    return False


def writable(service: str) -> set[str]:
    shared = {"outbox": OUTBOX_WRITERS, "replicas": REPLICA_WRITERS}
    return {*OWNERS[service], *(table for table, who in shared.items() if service in who)}


@pytest.mark.parametrize("service", sorted(OWNERS))
async def test_a_service_writes_only_its_own_tables(module_database: str, service: str) -> None:
    """Each role reads every table but others' secrets, writes its own, and is denied the rest."""
    await ensure_roles(module_database, PASSWORDS)
    engine = connect(service_url(module_database, service, PASSWORDS[service]))
    for name, table in metadata.tables.items():
        column = list(table.columns)[-1].name  # the first may be generated
        hidden = name in SECRET and name not in writable(service)
        assert await denied(engine, READ.format(name)) is hidden
        for statement in (INSERT.format(name), UPDATE.format(name, column, column)):
            expected = name not in writable(service)
            assert await denied(engine, statement) is expected, (service, statement)
        assert await denied(engine, DELETE.format(name)) is (name not in writable(service))
    assert await denied(engine, "CREATE TABLE mine (id int)")
    await engine.dispose()


async def test_sessions_start_with_the_limits(module_database: str) -> None:
    """A session of a service's role has every limit, with nothing set by the client."""
    await ensure_roles(module_database, PASSWORDS)
    engine = connect(service_url(module_database, "planner", PASSWORDS["planner"]))
    async with engine.connect() as connection:
        shown = {
            name: await connection.scalar(select(func.current_setting(name))) for name in LIMITS
        }
    await engine.dispose()
    assert shown == {**LIMITS, "transaction_timeout": "1min"}


async def test_ensuring_again_changes_the_password(module_database: str) -> None:
    """Roles can be ensured again and at the same time; the last password holds."""
    await asyncio.gather(*(ensure_roles(module_database, PASSWORDS) for _ in range(4)))
    await ensure_roles(module_database, {"uploader": "another one"})
    engine = connect(service_url(module_database, "uploader", "another one"))
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT current_user")) == "pixcrawler_uploader"
    await engine.dispose()


async def test_what_cannot_be_a_role_is_refused() -> None:
    """An unknown service or an empty password is an error before anything is connected to."""
    with pytest.raises(ValueError, match="unknown service"):
        await ensure_roles("postgresql+asyncpg://nowhere/x", {"nobody": "x"})
    with pytest.raises(ValueError, match="printable ASCII"):
        await ensure_roles("postgresql+asyncpg://nowhere/x", {"api": ""})
