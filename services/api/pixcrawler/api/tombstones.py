"""What is remembered for a while only: deleted jobs, for replayed events; and the audit log."""

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.api import idempotency, store
from pixcrawler.api.lists import store as lists
from pixcrawler.common import audit, logs
from pixcrawler.common.db.engine import transaction
from pixcrawler.common.periodic import Periodic

log = logs.get(__name__)

EVERY_S = 3600.0


def tombstones(engine: AsyncEngine, days: int, audit_days: int) -> Periodic:
    """Removes, now and then, what is left of jobs that were deleted this many days ago.

    And lines of the audit log that are older than `audit_days`.
    """

    async def bury() -> None:
        async with transaction(engine, "bury") as connection:
            gone = await store.bury(connection, days)
            await lists.bury(connection, days)  # after them: no job may name a list that goes
            await idempotency.forget(connection, days)
            await audit.forget(connection, audit_days)
        if gone:
            log.info("removed tombstones", action="tombstones", jobs=gone)

    return Periodic("tombstones", bury, interval_s=EVERY_S)
