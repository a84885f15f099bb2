"""Advisory locks: each a statement of its own, first in its transaction, gone with it.

A lock taken inside a larger statement, or in REPEATABLE READ, silently protects nothing: the
statement's snapshot is older than the lock. All transactions here are READ COMMITTED, so whatever
is read after the lock sees what its last holder wrote.

Order, to be free of deadlocks: an owner's lock, a job's, the admission lock; never the other way.
"""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

JOB, ADMISSION, RELAY, HOST, MIGRATION, OWNER = 1, 2, 3, 4, 5, 6
"""The first half of a two-part advisory lock key; the second half says which one."""

_LOCK = text("SELECT pg_advisory_xact_lock(:kind, hashtext(:name))")
_LOCK_ALL = text(
    """
    SELECT pg_advisory_xact_lock(:kind, key)
    FROM (SELECT DISTINCT hashtext(name) AS key FROM unnest(CAST(:names AS text[])) AS name
          ORDER BY key) AS keys
    """
)
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


async def host_locks(connection: AsyncConnection, hosts: Sequence[str]) -> None:
    """Serialise the leases of these hosts' budgets: one statement however many they are.

    They are taken in the order of their keys, not of their names: two names may have one key, and
    then the order of names could be a circle.
    """
    await connection.execute(_LOCK_ALL, {"kind": HOST, "names": list(hosts)})


async def try_relay_lock(connection: AsyncConnection) -> bool:
    """Become the active relay of the outbox for this transaction, if nobody is."""
    return bool(await connection.scalar(_TRY_LOCK, {"kind": RELAY, "name": ""}))
