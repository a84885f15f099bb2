"""Whether the jobs in hand are still wanted: cancel and delete are states of the job.

An event would wake one replica only, and the chunk may be on another; so every stage asks the
database.
"""

from collections.abc import Collection
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import jobs
from pixcrawler.common.errors import Stopped


class JobWatch(Protocol):
    """Who knows which jobs are wanted."""

    async def unwanted(self, job_ids: Collection[str]) -> set[str]:
        """Those of the jobs that are cancelled, deleted or unknown; one query."""
        ...


class DatabaseWatch:
    """Asks `crawl_jobs`.

    Every question goes to the database. A remembered answer would save a primary-key lookup of a
    tenth of a millisecond before an object of megabytes, and make every cancellation slower by the
    time that it is remembered.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def unwanted(self, job_ids: Collection[str]) -> set[str]:
        """Those of the jobs that are cancelled, deleted or unknown."""
        if not job_ids:
            return set()
        async with self._engine.connect() as connection:
            return await jobs.unwanted(connection, job_ids)


class NoWatch:
    """For stages that have to act on cancelled jobs as well: every job is wanted."""

    async def unwanted(self, job_ids: Collection[str]) -> set[str]:  # noqa: ARG002 - the port's
        """None of them."""
        return set()


async def ensure_wanted(watch: JobWatch, job_id: str) -> None:
    """Ask for one job.

    Raises:
        Stopped: it is cancelled, deleted or unknown.
    """
    if await watch.unwanted([job_id]):
        raise Stopped(f"job {job_id} is not wanted any more")
