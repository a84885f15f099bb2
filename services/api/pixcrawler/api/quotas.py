"""What an owner may have: jobs that are not finished, and images asked for in a day.

Both are counted from the jobs' rows, in the transaction that adds to them and under a lock of the
owner's own, so that two requests at once cannot both be the last one that fits.
"""

from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.api.problems import over_limit, wrong_value
from pixcrawler.common.db import locks

JOBS_AGAIN_S = 30
"""What `Retry-After` says where nobody knows when a job will be finished."""
IMAGES_AGAIN_S = 3600
"""Likewise for images of jobs that wait for their start."""


class Quotas(NamedTuple):
    """How much; 0 is without limit."""

    active_jobs: int = 0
    images_per_day: int = 0


async def lock(connection: AsyncConnection, owner: str, quotas: Quotas) -> None:
    """Let no other request of this owner's be counted meanwhile; first in the transaction."""
    if any(quotas):
        await locks.owner_lock(connection, owner)


async def check_jobs(connection: AsyncConnection, owner: str, quotas: Quotas) -> None:
    """After a job was added: whether it is one too many.

    Raises:
        Problem: 429.
    """
    most = quotas.active_jobs
    if not most:
        return
    active = await connection.scalar(
        text("""
            SELECT count(*) FROM crawl_jobs AS job
            WHERE owner = :owner AND deleted_at IS NULL
              AND NOT EXISTS (
                  SELECT FROM job_rounds AS round
                  WHERE round.job_id = job.job_id AND round.round >= greatest(job.round, 1)
                    AND closed_at IS NOT NULL)"""),
        {"owner": owner},
    )
    if int(active or 0) > most:
        jobs = "1 job at a time that is" if most == 1 else f"{most} jobs at a time that are"
        detail = f"you may have {jobs} not finished, and have as many"
        raise over_limit("active_jobs", most, detail, again_s=JOBS_AGAIN_S)


async def check_images(connection: AsyncConnection, owner: str, quotas: Quotas, asked: int) -> None:
    """After images were asked for: whether they are too many for a day.

    What counts are the images of jobs that were started in the last 24 hours, or wait for their
    start, and what older jobs were extended by; deleting a job gives nothing back.

    Args:
        connection: In the transaction that asks for them.
        owner: Whose.
        quotas: What may be.
        asked: How many this request adds.

    Raises:
        Problem: 429; 422, they are more than a day has.
    """
    most = quotas.images_per_day
    if not most:
        return
    if asked > most:
        raise wrong_value("max_images", f"max_images must be at most {most}, your images of a day")
    found = await connection.execute(
        text("""
            SELECT coalesce(sum(images), 0) AS images,
                   CAST(extract(epoch FROM min(since) + interval '1 day' - now()) AS float) AS s
            FROM (
                SELECT max_images AS images, started_at AS since FROM crawl_jobs
                WHERE owner = :owner
                  AND (started_at > now() - interval '1 day'
                       OR (started_at IS NULL AND deleted_at IS NULL))
                UNION ALL
                SELECT request.images, request.created_at
                FROM crawl_jobs AS job JOIN job_requests AS request USING (job_id)
                WHERE owner = :owner AND started_at <= now() - interval '1 day'
                  AND kind = 'extend' AND request.created_at > now() - interval '1 day'
            ) AS counted"""),
        {"owner": owner},
    )
    row = found.one()
    if row.images > most:
        detail = f"you may ask for {most} images in 24 hours; with these it would be {row.images}"
        again_s = IMAGES_AGAIN_S if row.s is None else row.s
        raise over_limit("images_per_day", most, detail, again_s=again_s)
