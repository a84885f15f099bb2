"""Deleted jobs are remembered for a while, so that a replayed event finds them deleted."""

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.api import idempotency, store
from pixcrawler.api.lists import store as lists
from pixcrawler.common import logs
from pixcrawler.common.db.engine import transaction
from pixcrawler.common.periodic import Periodic

log = logs.get(__name__)

EVERY_S = 3600.0


def tombstones(engine: AsyncEngine, days: int) -> Periodic:
    """Removes what is left of jobs that were deleted this many days ago, now and then."""

    async def bury() -> None:
        async with transaction(engine, "bury") as connection:
            gone = await store.bury(connection, days)
            await lists.bury(connection, days)  # after them: no job may name a list that goes
            await idempotency.forget(connection, days)
        if gone:
            log.info("removed tombstones", action="tombstones", jobs=gone)

    return Periodic("tombstones", bury, interval_s=EVERY_S)
