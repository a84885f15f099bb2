"""Advisory locks: each a statement of its own, first in its transaction, gone with it.

A lock taken inside a larger statement, or in REPEATABLE READ, silently protects nothing: the
statement's snapshot is older than the lock. All transactions here are READ COMMITTED, so whatever
is read after the lock sees what its last holder wrote.

Order, to be free of deadlocks: an owner's lock, a job's, the admission lock; never the other way.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

JOB, ADMISSION, RELAY, HOST, MIGRATION, OWNER = 1, 2, 3, 4, 5, 6
"""The first half of a two-part advisory lock key; the second half says which one."""

_LOCK = text("SELECT pg_advisory_xact_lock(:kind, hashtext(:name))")
_TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(:kind, hashtext(:name))")


async def owner_lock(connection: AsyncConnection, owner: str) -> None:
    """Serialise what counts against an owner's quotas (api)."""
    await connection.execute(_LOCK, {"kind": OWNER, "name": owner})


async def job_lock(connection: AsyncConnection, job_id: str) -> None:
    """Serialise decisions about one job (planner) and its claims (validator)."""
    await connection.execute(_LOCK, {"kind": JOB, "name": job_id})


async def admission_lock(connection: AsyncConnection) -> None:
    """Serialise admission over the whole cluster."""
    await connection.execute(_LOCK, {"kind": ADMISSION, "name": ""})


async def host_lock(connection: AsyncConnection, host: str) -> None:
    """Serialise the leases of one host's budget."""
    await connection.execute(_LOCK, {"kind": HOST, "name": host})


async def try_relay_lock(connection: AsyncConnection) -> bool:
    """Become the active relay of the outbox for this transaction, if nobody is."""
    return bool(await connection.scalar(_TRY_LOCK, {"kind": RELAY, "name": ""}))
