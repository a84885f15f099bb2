"""One database role per service: it reads all but secrets, and writes only its own tables.

Roles belong to the whole cluster, grants to one database; both are brought to the state described
here, however often it is asked for. The limits protect against a paused process, which would
otherwise hold its locks for ever; they belong to the role, since behind a transaction-mode pooler a
session has no settings of its own.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping

from sqlalchemy import func, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from pixcrawler.common.db import locks
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.sqlstate import sqlstate
from pixcrawler.common.db.tables import OUTBOX_WRITERS, OWNERS, REPLICA_WRITERS, SECRET

LIMITS: Mapping[str, str] = {
    "idle_in_transaction_session_timeout": "10s",
    "transaction_timeout": "60s",
    "lock_timeout": "30s",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
"""What each role's sessions start with. A server older than 17 lacks `transaction_timeout`."""

_SCRAM_ITERATIONS = 4096  # PostgreSQL's own default (scram_iterations)
_CONCURRENT_DDL = ("XX000", "23505", "42710")  # tuple concurrently updated; the role came to be


def role_name(service: str) -> str:
    """`pixcrawler_<service>`."""
    return f"pixcrawler_{service}"


def service_url(url: str, service: str, password: str) -> str:
    """The same database as the service's role."""
    return (
        make_url(url)
        .set(username=role_name(service), password=password)
        .render_as_string(hide_password=False)
    )


async def ensure_roles(
    url: str, passwords: Mapping[str, str], *, limits: Mapping[str, str] = LIMITS
) -> None:
    """Bring the services' roles, passwords, limits and grants up to date.

    Call it after each migration, so that new tables are granted too.

    Args:
        url: `postgresql+asyncpg://…` of a role that may create roles and owns the tables.
        passwords: By service, those of `OWNERS`; printable ASCII. A service left out is left alone.
        limits: Server settings that the roles' sessions start with.

    Raises:
        ValueError: a service is unknown, or a password is empty or not ASCII.
    """
    for service, password in passwords.items():
        if service not in OWNERS:
            raise ValueError(f"unknown service {service!r}; known are {', '.join(OWNERS)}")
        if not (password.isascii() and password.isprintable() and password):
            raise ValueError(f"the password of {service} has to be printable ASCII")
    engine = connect(url, pool_size=1, application="pixcrawler-roles")
    try:
        await _apply(engine, passwords, limits)
    finally:
        await engine.dispose()


def _raced(error: BaseException) -> bool:
    return isinstance(error, DBAPIError) and sqlstate(error) in _CONCURRENT_DDL


# Advisory locks end at the database, roles do not: two databases of one cluster may collide.
@retry(
    retry=retry_if_exception(_raced),
    stop=stop_after_attempt(8),
    wait=wait_random_exponential(multiplier=0.05, max=1),
    reraise=True,
)
async def _apply(
    engine: AsyncEngine, passwords: Mapping[str, str], limits: Mapping[str, str]
) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text("SELECT pg_advisory_xact_lock(:kind, 1)"), {"kind": locks.MIGRATION}
        )
        known = await _known_limits(connection, limits)
        for service, password in sorted(passwords.items()):
            await _ensure_role(connection, service, password)
            for statement in (*_limit_statements(service, known), *_grant_statements(service)):
                await connection.exec_driver_sql(statement)


async def _known_limits(
    connection: AsyncConnection, limits: Mapping[str, str]
) -> list[tuple[str, str]]:
    """The limits that this server knows, values quoted."""
    found = await connection.execute(
        text("SELECT name FROM pg_settings WHERE name = ANY(:names)"), {"names": list(limits)}
    )
    names = set(found.scalars())
    return [
        (name, str(await connection.scalar(select(func.quote_literal(value)))))
        for name, value in limits.items()
        if name in names
    ]


async def _ensure_role(connection: AsyncConnection, service: str, password: str) -> None:
    role = role_name(service)
    exists = await connection.scalar(
        text("SELECT true FROM pg_roles WHERE rolname = :role"), {"role": role}
    )
    verb = "ALTER" if exists else "CREATE"
    verifier = scram_verifier(password, secrets.token_bytes(16))
    await connection.exec_driver_sql(f"{verb} ROLE {role} LOGIN PASSWORD '{verifier}'")


def _limit_statements(service: str, limits: list[tuple[str, str]]) -> Iterator[str]:
    for name, quoted in limits:
        yield f"ALTER ROLE {role_name(service)} SET {name} = {quoted}"


def writes(service: str) -> tuple[str, ...]:
    """The tables that a service writes."""
    shared = {"outbox": OUTBOX_WRITERS, "replicas": REPLICA_WRITERS}
    return OWNERS[service] + tuple(table for table, who in shared.items() if service in who)


def _grant_statements(service: str) -> Iterator[str]:
    role = role_name(service)
    yield f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"
    yield f"GRANT USAGE ON SCHEMA public TO {role}"
    yield f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    own = writes(service)
    for table in SECRET:
        if table not in own:
            yield f"REVOKE ALL ON {table} FROM {role}"
    for table in own:
        yield f"GRANT INSERT, UPDATE, DELETE ON {table} TO {role}"


def scram_verifier(password: str, salt: bytes) -> str:
    """What PostgreSQL stores instead of a password (RFC 5803), so that no log ever has it."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, stored, server = (
        base64.b64encode(part).decode() for part in (salt, stored_key, server_key)
    )
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{salt_text}${stored}:{server}"
