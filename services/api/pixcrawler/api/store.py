"""The api's SQL: `crawl_jobs` and `job_requests` are its own, the rest is read."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import RowMapping, func, insert, null, select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_or
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common.db.tables import crawl_jobs, given_up_chunks, job_requests
from pixcrawler.common.documents import StoredFile, Unanswered
from pixcrawler.common.events import ImageTotals, JobStatus, ProgressView, Revision, Value
from pixcrawler.common.jobs import Options

ChunkStatus = Literal["pending", "processing", "completed", "failed"]


class ChunkCounts(Value):
    """A job's chunks that are not superseded, by status."""

    total: int
    pending: int
    processing: int
    completed: int
    failed: int


class JobRecord(Value):
    """A job with everything that is shown of it.

    `status` is that of the latest round: the tracker's, unless that still shows an earlier round as
    finished. `finished_round` is the last one whose dataset the tracker has shown, 0 for none.
    """

    job_id: str
    owner: str
    name: str
    project_id: str | None
    keywords: tuple[str, ...]
    sources: tuple[str, ...]
    url_list_id: str | None
    max_images: int
    chunk_size: int
    priority: int
    options: Options
    webhook_url: str | None
    round: int
    created_at: datetime
    started_at: datetime | None
    cancelled: bool
    status: JobStatus
    finished_round: int
    revision: Revision | None
    progress: ProgressView | None
    chunks: ChunkCounts


class LockedJob(Value):
    """A job's row while it is locked; `urls` is how many the caller brought along."""

    job_id: str
    name: str
    priority: int
    keywords: tuple[str, ...]
    sources: tuple[str, ...]
    urls: int
    max_images: int
    chunk_size: int
    round: int
    cancelled: bool
    traceparent: str | None


class ChunkRecord(Value):
    """A row of `job_chunks`; `superseded`: another chunk retries it."""

    chunk_id: str
    job_id: str
    chunk_index: int
    status: ChunkStatus
    stage: str
    priority: int
    image_range: Mapping[str, int]
    attempt: int
    retry_count: int
    retry_of: str | None
    superseded: bool
    error: str | None
    error_message: str | None
    images: ImageTotals | None
    archive: StoredFile | None
    unanswered: tuple[Unanswered, ...] = ()
    attempts: tuple[Mapping[str, Any], ...]
    created_at: datetime
    updated_at: datetime


class ChunkState(Value):
    """A chunk as far as outcomes need it."""

    chunk_id: str
    index: int
    status: str
    stage: str


RequestKind = Literal["start", "extend", "retry", "cancel"]

_JOB = """
    SELECT job_id, owner, name, project_id, keywords, sources, url_list_id, max_images, chunk_size,
           priority, options, round, created_at, started_at, cancelled, status, finished_round,
           revision, webhook_url,
           progress, total, pending, processing, completed, failed
    FROM (
        SELECT job.*, job.cancelled_at IS NOT NULL AS cancelled, counted.*, shown.progress,
               shown.revision,
               coalesce((shown.revision->>0)::int, 0) AS finished_round,
               CASE
                   WHEN shown.progress->>'status' IN
                            ('completed', 'incomplete', 'failed', 'cancelled')
                        AND (shown.revision->>0)::int >= job.round
                       THEN shown.progress->>'status'
                   WHEN counted.processing > 0 OR shown.progress->>'status' = 'running'
                       THEN 'running'
                   ELSE 'pending'
               END AS status
        FROM crawl_jobs AS job
        LEFT JOIN job_progress AS shown USING (job_id)
        CROSS JOIN LATERAL (
            SELECT count(*) AS total,
                   count(*) FILTER (WHERE chunk.status = 'pending') AS pending,
                   count(*) FILTER (WHERE chunk.status = 'processing') AS processing,
                   count(*) FILTER (WHERE chunk.status = 'completed') AS completed,
                   count(*) FILTER (WHERE chunk.status = 'failed') AS failed
            FROM job_chunks AS chunk
            WHERE chunk.job_id = job.job_id
              AND NOT EXISTS (SELECT FROM job_chunks AS r WHERE r.retry_of = chunk.chunk_id)
        ) AS counted
        WHERE job.owner = :owner AND job.deleted_at IS NULL
    ) AS job
"""

_CHUNK = """
    SELECT chunk_id, job_id, chunk_index, status, stage, priority, image_range, attempt,
           retry_count, retry_of, error, error_message,
           CASE jsonb_typeof(images) WHEN 'object' THEN images END AS images,
           CASE jsonb_typeof(archive) WHEN 'object' THEN archive END AS archive,
           CASE jsonb_typeof(unanswered) WHEN 'array' THEN unanswered ELSE '[]' END AS unanswered,
           attempts, created_at, updated_at,
           EXISTS (SELECT FROM job_chunks AS r WHERE r.retry_of = chunk.chunk_id) AS superseded
    FROM job_chunks AS chunk
"""


# ---- reading


async def job(connection: AsyncConnection, owner: str, job_id: str) -> JobRecord | None:
    """The owner's job; None if there is none such, or it is deleted."""
    found = await connection.execute(
        text(f"{_JOB} WHERE job_id = :job_id"), {"owner": owner, "job_id": job_id}
    )
    row = found.mappings().one_or_none()
    return None if row is None else _job(row)


async def jobs(
    connection: AsyncConnection,
    owner: str,
    *,
    status: str | None,
    project_id: str | None,
    before: str | None,
    limit: int,
) -> list[JobRecord]:
    """The owner's jobs, the latest first.

    Args:
        connection: To read with.
        owner: Whose.
        status: Only these.
        project_id: Only these.
        before: Only those made before this one.
        limit: How many at most.
    """
    found = await connection.execute(
        text(f"""{_JOB}
            WHERE (CAST(:status AS text) IS NULL OR status = :status)
              AND (CAST(:project_id AS text) IS NULL OR project_id = :project_id)
              AND (CAST(:before AS text) IS NULL OR job_id < :before)
            ORDER BY job_id DESC LIMIT :limit"""),
        {
            "owner": owner,
            "status": status,
            "project_id": project_id,
            "before": before,
            "limit": limit,
        },
    )
    return [_job(row) for row in found.mappings()]


def _job(row: RowMapping) -> JobRecord:
    return JobRecord.model_validate({**row, "chunks": {**row}})


async def chunks(
    connection: AsyncConnection, job_id: str, *, status: str | None, after: int, limit: int
) -> list[ChunkRecord]:
    """Chunks of a job by index, those after `after`."""
    found = await connection.execute(
        text(f"""{_CHUNK}
            WHERE job_id = :job_id AND chunk_index > :after
              AND (CAST(:status AS text) IS NULL OR status = :status)
            ORDER BY chunk_index LIMIT :limit"""),
        {"job_id": job_id, "status": status, "after": after, "limit": limit},
    )
    return [ChunkRecord.model_validate(dict(row)) for row in found.mappings()]


async def chunk(connection: AsyncConnection, job_id: str, index: int) -> ChunkRecord | None:
    """One chunk; None if there is none such."""
    found = await connection.execute(
        text(f"{_CHUNK} WHERE job_id = :job_id AND chunk_index = :index"),
        {"job_id": job_id, "index": index},
    )
    row = found.mappings().one_or_none()
    return None if row is None else ChunkRecord.model_validate(dict(row))


async def chunk_states(connection: AsyncConnection, job_id: str) -> list[ChunkState]:
    """All chunks of a job by index, in short."""
    found = await connection.execute(
        text("""
            SELECT chunk_id, chunk_index AS index, status, stage FROM job_chunks
            WHERE job_id = :job_id ORDER BY chunk_index"""),
        {"job_id": job_id},
    )
    return [ChunkState.model_validate(dict(row)) for row in found.mappings()]


async def active_chunks(connection: AsyncConnection) -> int:
    """Slots in use, over the whole cluster."""
    count = await connection.scalar(
        text("SELECT count(*) FROM job_chunks WHERE status = 'processing'")
    )
    return int(count or 0)


async def open_chunks(connection: AsyncConnection) -> int:
    """Slots in use, and chunks that wait for one."""
    count = await connection.scalar(
        text("SELECT count(*) FROM job_chunks WHERE status IN ('pending', 'processing')")
    )
    return int(count or 0)


async def now(connection: AsyncConnection) -> datetime:
    """The database's clock, which rows go by."""
    moment: datetime = (await connection.execute(select(func.clock_timestamp()))).scalar_one()
    return moment


async def is_deleted(connection: AsyncConnection, job_id: str) -> bool:
    """Whether a job is deleted, or unknown."""
    alive = await connection.scalar(
        text("SELECT true FROM crawl_jobs WHERE job_id = :job_id AND deleted_at IS NULL"),
        {"job_id": job_id},
    )
    return not alive


# ---- writing


async def insert_job(connection: AsyncConnection, row: Mapping[str, Any]) -> bool:
    """Store a job; False if its owner has used its idempotency key before.

    Args:
        connection: In the transaction of its first event.
        row: Columns of `crawl_jobs`; None is stored as SQL's NULL.
    """
    values = {name: null() if value is None else value for name, value in row.items()}
    made = await connection.execute(
        insert_or(crawl_jobs)
        .values(values)
        .on_conflict_do_nothing(index_elements=["owner", "idempotency_key"])
        .returning(crawl_jobs.c.job_id)
    )
    return made.scalar_one_or_none() is not None


async def lock_job(connection: AsyncConnection, owner: str, job_id: str) -> LockedJob | None:
    """The owner's job, its row locked until the transaction ends; None if it is not there.

    Not against foreign keys (NO KEY), so that the planner's and the tracker's inserts never wait.
    """
    found = await connection.execute(
        text("""
            SELECT job_id, name, priority, keywords, sources, max_images, chunk_size, round,
                   CASE jsonb_typeof(urls) WHEN 'array' THEN jsonb_array_length(urls) ELSE
                       coalesce((SELECT rows FROM url_lists AS l
                                  WHERE l.list_id = url_list_id AND l.deleted_at IS NULL), 0) END
                       AS urls,
                   cancelled_at IS NOT NULL AS cancelled, traceparent
            FROM crawl_jobs
            WHERE job_id = :job_id AND owner = :owner AND deleted_at IS NULL
            FOR NO KEY UPDATE"""),
        {"owner": owner, "job_id": job_id},
    )
    row = found.mappings().one_or_none()
    return None if row is None else LockedJob.model_validate(dict(row))


async def add_round(
    connection: AsyncConnection,
    job_id: str,
    number: int,
    kind: RequestKind,
    *,
    images: int = 0,
    chunk_ids: Sequence[str] | None = None,
) -> None:
    """Store what a round asks for, and make it the job's latest. The job's row is locked."""
    await connection.execute(
        insert(job_requests).values(
            job_id=job_id,
            round=number,
            kind=kind,
            images=images,
            chunk_ids=null() if chunk_ids is None else list(chunk_ids),
        )
    )
    await connection.execute(
        update(crawl_jobs)
        .where(crawl_jobs.c.job_id == job_id)
        .values(round=number, started_at=func.coalesce(crawl_jobs.c.started_at, func.now()))
    )


async def update_job(connection: AsyncConnection, job_id: str, **values: object) -> None:
    """Change columns of a job. Its row is locked."""
    await connection.execute(
        update(crawl_jobs).where(crawl_jobs.c.job_id == job_id).values(**values)
    )


async def extended_by(connection: AsyncConnection, job_id: str) -> int:
    """By how many images a job has grown since it was started."""
    total = await connection.scalar(
        text("SELECT coalesce(sum(images), 0) FROM job_requests WHERE job_id = :job_id"),
        {"job_id": job_id},
    )
    return int(total or 0)


async def has_failed_chunks(connection: AsyncConnection, job_id: str) -> bool:
    """Whether a chunk has failed and was not retried, or has searches that could not be asked."""
    found = await connection.scalar(
        text("""
            SELECT EXISTS (
                SELECT FROM job_chunks AS chunk
                WHERE job_id = :job_id
                  AND (status = 'failed' OR jsonb_typeof(unanswered) = 'array')
                  AND NOT EXISTS (SELECT FROM job_chunks AS r WHERE r.retry_of = chunk.chunk_id))
        """),
        {"job_id": job_id},
    )
    return bool(found)


async def waits_for_retry(connection: AsyncConnection, job_id: str, chunk_id: str | None) -> bool:
    """Whether a retry of this chunk, or of all failed ones, is asked for and not yet applied.

    The planner opens a round when it applies it. Whatever fails before that is retried with it, so
    asking once more would open a round that has nothing to do.

    Args:
        connection: With the job's row locked.
        job_id: The job.
        chunk_id: The chunk; None: all failed ones.
    """
    found = await connection.scalar(
        text("""
            SELECT EXISTS (
                SELECT FROM job_requests AS asked
                WHERE job_id = :job_id AND kind = 'retry'
                  AND (coalesce(jsonb_typeof(chunk_ids), 'null') = 'null'
                       OR chunk_ids ? CAST(:chunk_id AS text))
                  AND NOT EXISTS (
                      SELECT FROM job_rounds AS applied
                      WHERE applied.job_id = asked.job_id AND applied.round >= asked.round))"""),
        {"job_id": job_id, "chunk_id": chunk_id},
    )
    return bool(found)


async def is_closed(connection: AsyncConnection, job_id: str, number: int) -> bool:
    """Whether the planner has closed this round."""
    closed = await connection.scalar(
        text("""
            SELECT EXISTS (
                SELECT FROM job_rounds
                WHERE job_id = :job_id AND round >= :number AND closed_at IS NOT NULL)"""),
        {"job_id": job_id, "number": number},
    )
    return bool(closed)


async def give_up(connection: AsyncConnection, job_id: str, chunk_id: str, reason: str) -> bool:
    """Ask the planner to give a chunk up; False if that is asked for already."""
    asked = await connection.execute(
        insert_or(given_up_chunks)
        .values(job_id=job_id, chunk_id=chunk_id, reason=reason)
        .on_conflict_do_nothing()
    )
    return bool(asked.rowcount)


async def bury(connection: AsyncConnection, days: int) -> int:
    """Remove the tombstones of jobs that were deleted longer ago than this; how many."""
    gone = await connection.execute(
        text("""
            DELETE FROM crawl_jobs
            WHERE deleted_at < now() - make_interval(days => :days)"""),
        {"days": days},
    )
    return gone.rowcount
