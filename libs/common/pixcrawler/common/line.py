"""Who waits for a slot, in which order, and when a silent chunk is planned again.

The planner lets chunks through by this, and the api says by it how long the line is: one text for
both, so that what is said is what happens. All of it is SQL over `job_chunks`, `crawl_jobs` and the
database's clock.
"""

from pydantic import BaseModel, Field

from pixcrawler.common import controls

BUSY = """
    SELECT job.owner
    FROM job_chunks AS chunk JOIN crawl_jobs AS job USING (job_id)
    WHERE chunk.status = 'processing'"""
"""The slots in use: whose."""

_ASKED = f"""(
    NOT EXISTS ({controls.PAUSED_SOURCES}) OR chunk.slices = '[]'
    OR EXISTS (SELECT FROM jsonb_array_elements(chunk.slices) AS slice
               WHERE slice->>'source' NOT IN ({controls.PAUSED_SOURCES})))"""
"""Whether any search of a chunk may be asked: one all of whose sources are paused waits."""

LINE = f"""(
    SELECT chunk.chunk_id, chunk.job_id, chunk.chunk_index, job.created_at AS job_created_at,
           least(10, chunk.priority + floor(extract(epoch FROM
               now() - coalesce(chunk.not_before, chunk.created_at)) / 600)) AS urgency,
           coalesce(owners.chunks, 0) AS held
    FROM job_chunks AS chunk JOIN crawl_jobs AS job USING (job_id)
    LEFT JOIN (SELECT owner, count(*) AS chunks FROM busy GROUP BY owner) AS owners
        ON owners.owner = job.owner
    WHERE chunk.status = 'pending'
      AND (chunk.not_before IS NULL OR chunk.not_before <= clock_timestamp())
      AND job.cancelled_at IS NULL AND job.deleted_at IS NULL
      AND {_ASKED}
) AS line"""  # noqa: S608 - constants
"""The chunks that a slot is for, where `busy` is a query by the name of `BUSY`.

`urgency` is the effective priority: one more for every ten minutes waited, at most 10. `held` is
how many slots the chunk's owner has.
"""

ORDER = "urgency DESC, held, job_created_at, job_id, chunk_index"
"""Next is who has the highest effective priority, then whose owner has fewer chunks in progress,
then the oldest job's lowest index."""

DEADLINE = f"""
    greatest(last_seen_at, {controls.RESUMED})
        + make_interval(secs => :deadline_s * 2.0 ^ takebacks)"""
"""When a chunk without a sign of life is planned again; it doubles with each take-back.

`infinity` while its stage is paused, and counted from its resumption at the earliest: who stands
in front of a paused stage cannot give a sign. Planning it again would only add to what waits there,
until it is given up with nothing wrong with it.
"""


class DeadlineSettings(BaseModel):
    """Mix into a service's settings: how long a chunk may be silent."""

    chunk_deadline_s: float = Field(default=900.0, gt=0)
    """Seconds without a sign of life after which a chunk is planned again; doubles each time, so
    that an outage does not fail healthy jobs. The planner acts on it, the api says when."""
