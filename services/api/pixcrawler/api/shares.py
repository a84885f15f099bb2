"""Who uses the capacity: slots, the line and open jobs by owner.

Slots and the line are those of `pixcrawler.common.line`, so what is shown is what the planner does.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.api.views import Share
from pixcrawler.common import line


async def shares(
    connection: AsyncConnection, capacity: int, *, owner: str | None
) -> tuple[Share, ...]:
    """Who uses the capacity, most slots first.

    Args:
        connection: To read with.
        capacity: Slots that there are.
        owner: Only this one; None: everybody who has an open job.
    """
    found = await connection.execute(
        text(f"""
            WITH busy AS ({line.BUSY}), places AS (
                SELECT chunk_id, row_number() OVER (ORDER BY {line.ORDER}) AS place
                FROM {line.LINE}
            ), waits AS (
                SELECT job.owner, count(place) AS waiting, min(place) AS place,
                       count(*) FILTER (WHERE chunk.not_before > clock_timestamp()) AS resting,
                       max(extract(epoch FROM clock_timestamp()
                           - greatest(chunk.not_before, chunk.created_at)))
                           FILTER (WHERE place IS NOT NULL)::float AS oldest
                FROM job_chunks AS chunk
                JOIN crawl_jobs AS job USING (job_id) LEFT JOIN places USING (chunk_id)
                WHERE chunk.status = 'pending' GROUP BY job.owner
            ), open AS (
                SELECT owner, count(*) AS jobs FROM crawl_jobs AS job
                WHERE round > 0 AND deleted_at IS NULL
                  AND NOT EXISTS (
                      SELECT FROM job_rounds AS book
                      WHERE book.job_id = job.job_id AND book.round >= job.round
                        AND closed_at IS NOT NULL)
                GROUP BY owner
            ), slots AS (SELECT owner, count(*) AS active FROM busy GROUP BY owner)
            SELECT owner, coalesce(active, 0) AS active_chunks,
                   coalesce(waiting, 0) AS waiting_chunks, place AS next_place,
                   coalesce(resting, 0) AS resting_chunks, coalesce(jobs, 0) AS open_jobs,
                   oldest AS oldest_wait_s
            FROM open FULL JOIN slots USING (owner) FULL JOIN waits USING (owner)
            WHERE CAST(:owner AS text) IS NULL OR owner = :owner
            ORDER BY active_chunks DESC, waiting_chunks DESC, owner"""),  # noqa: S608 - constants
        {"owner": owner},
    )
    return tuple(
        Share(
            **{**row, "oldest_wait_s": _rounded(row["oldest_wait_s"])},
            share=round(100 * row["active_chunks"] / capacity, 1) if capacity else 0.0,
        )
        for row in found.mappings()
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(max(seconds, 0.0), 1)
