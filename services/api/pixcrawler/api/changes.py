"""What changed since a moment: jobs, chunks, and what people did. From the rows that tell of it."""

from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.api.views import AuditLine, View
from pixcrawler.common import audit

LINES = 50
"""Lines of the audit log that are told, the latest."""
SHOWN = 10
"""Kinds of failures that are told, the most frequent."""


class Failure(View):
    """A way to fail, and how often it was so."""

    stage: str
    """Where; empty where no stage had the chunk."""
    error: str
    """A short word, such as `source_unavailable`."""
    count: int
    """How often."""


class JobChanges(View):
    """Jobs that began or ended."""

    created: int
    """Made."""
    ended: dict[str, int]
    """Rounds that were closed, by how they ended."""
    cancelled: int
    """Cancelled by somebody."""


class ChunkChanges(View):
    """Chunks that ended, and attempts that did not get so far."""

    completed: int
    """Have an archive, or nothing to put into one."""
    given_up: int
    """Have failed for good."""
    failures: tuple[Failure, ...]
    """Why those were given up, the most frequent first."""
    failed_attempts: int
    """Attempts that failed, whether or not another one followed."""
    lost_attempts: int
    """Attempts that were silent for too long, and planned again."""
    attempts: tuple[Failure, ...]
    """Why attempts failed, the most frequent first."""


class Changes(View):
    """What changed since a moment."""

    since: datetime
    """From when on."""
    as_of: datetime
    """When that was so, by the database's clock."""
    jobs: JobChanges
    """How many began, and how many ended how."""
    chunks: ChunkChanges
    """How many ended, how many attempts failed, and why."""
    acts: dict[str, int]
    """How often people did what, as the audit log has it: `key.create`, `schema.upgrade`, …."""
    lines: tuple[AuditLine, ...]
    """The latest lines of the audit log."""


_MINE = "(CAST(:owner AS text) IS NULL OR job.owner = :owner)"

_COUNTS = f"""
    SELECT clock_timestamp() AS as_of,
           (SELECT count(*) FROM crawl_jobs AS job
            WHERE created_at >= :since AND {_MINE}) AS created,
           (SELECT count(*) FROM crawl_jobs AS job
            WHERE cancelled_at >= :since AND {_MINE}) AS cancelled,
           (SELECT coalesce(jsonb_object_agg(status, count), '{{}}') FROM (
                SELECT coalesce(book.facts->>'status', 'unknown') AS status, count(*)
                FROM job_rounds AS book JOIN crawl_jobs AS job USING (job_id)
                WHERE closed_at >= :since AND {_MINE} GROUP BY 1) AS ended) AS ended"""  # noqa: S608 - constants

_CHUNKS = f"""
    SELECT chunk.status, chunk.stage, coalesce(chunk.error, '') AS error, count(*) AS count
    FROM job_chunks AS chunk JOIN crawl_jobs AS job USING (job_id)
    WHERE ended_at >= :since AND {_MINE} AND job.deleted_at IS NULL
    GROUP BY 1, 2, 3 ORDER BY count DESC, stage, error"""  # noqa: S608 - constants

_ATTEMPTS = f"""
    SELECT step->>'state' AS state, step->>'stage' AS stage, coalesce(step->>'error', '') AS error,
           count(*) AS count
    FROM job_chunks AS chunk JOIN crawl_jobs AS job USING (job_id)
    CROSS JOIN LATERAL jsonb_array_elements(attempts) AS step
    WHERE chunk.updated_at >= :since AND {_MINE} AND job.deleted_at IS NULL
      AND step->>'state' IN ('failed', 'lost') AND (step->>'ended_at')::timestamptz >= :since
    GROUP BY 1, 2, 3 ORDER BY count DESC, stage, error"""  # noqa: S608 - constants

_ACTS = """
    SELECT action, count(*) AS count FROM audit_log
    WHERE at >= :since AND (CAST(:owner AS text) IS NULL OR owner = :owner)
    GROUP BY action ORDER BY action"""


async def changes(connection: AsyncConnection, since: datetime, *, owner: str | None) -> Changes:
    """What changed since a moment.

    Args:
        connection: To read with.
        since: From when on.
        owner: Only what is this one's; None: everything.
    """
    given = {"since": since, "owner": owner}
    counts = (await connection.execute(text(_COUNTS), given)).one()
    chunks = (await connection.execute(text(_CHUNKS), given)).all()
    attempts = (await connection.execute(text(_ATTEMPTS), given)).all()
    acts = (await connection.execute(text(_ACTS), given)).all()
    lines = await audit.lines(connection, owner=owner, since=since, limit=LINES)
    failed = [row for row in attempts if row.state == "failed"]
    given_up = [row for row in chunks if row.status == "failed"]
    return Changes(
        since=since,
        as_of=counts.as_of,
        jobs=JobChanges(
            created=counts.created, ended=dict(counts.ended), cancelled=counts.cancelled
        ),
        chunks=ChunkChanges(
            completed=sum(row.count for row in chunks if row.status == "completed"),
            given_up=sum(row.count for row in given_up),
            failures=tuple(_failure(row) for row in given_up[:SHOWN]),
            failed_attempts=sum(row.count for row in failed),
            lost_attempts=sum(row.count for row in attempts if row.state == "lost"),
            attempts=tuple(_failure(row) for row in failed[:SHOWN]),
        ),
        acts={row.action: row.count for row in acts},
        lines=tuple(AuditLine.model_validate(line.model_dump()) for line in lines),
    )


def _failure(row: Row[Any]) -> Failure:
    return Failure(stage=row.stage, error=row.error, count=row.count)
