"""`job_progress`: the materialised view of every job, the greater revision winning."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.db.engine import transaction
from pixcrawler.common.events import JobProgress

# The statement that writes asks for the tombstone itself. A job that is deleted between that
# statement's snapshot and its commit leaves a row behind, until the planner's next
# `job.cancelled` has it erased.
_ALIVE = text("""
    SELECT job_id, traceparent FROM crawl_jobs
     WHERE job_id = ANY(:job_ids) AND deleted_at IS NULL
""")

# jsonb compares arrays of one length element by element, numbers as numbers.
_UPSERT = text("""
    INSERT INTO job_progress (job_id, revision, progress, updated_at)
    SELECT shown.job_id, shown.revision::jsonb, shown.progress::jsonb, now()
      FROM unnest(CAST(:job_ids AS text[]), CAST(:revisions AS text[]), CAST(:views AS text[]))
           AS shown (job_id, revision, progress)
      JOIN crawl_jobs USING (job_id)
     WHERE crawl_jobs.deleted_at IS NULL
     ORDER BY shown.job_id
    ON CONFLICT (job_id) DO UPDATE
       SET revision = excluded.revision, progress = excluded.progress, updated_at = now()
     WHERE job_progress.revision <= excluded.revision
    RETURNING job_id
""")

_ERASE = text("""
    DELETE FROM job_progress
     WHERE job_id = ANY(CAST(:job_ids AS text[]))
        OR job_id IN (SELECT job_id FROM crawl_jobs WHERE deleted_at IS NOT NULL)
""")


class Written(NamedTuple):
    """What became of a batch: written, or of a job that is deleted or unknown.

    In neither: a greater revision was there.
    """

    written: frozenset[str]
    gone: frozenset[str]
    traceparents: Mapping[str, str | None]
    """Of those that are not gone, as `crawl_jobs` has it."""


async def write(engine: AsyncEngine, batch: Sequence[JobProgress]) -> Written:
    """Write a batch in one statement whatever its size."""
    job_ids = [shown.job_id for shown in batch]
    async with transaction(engine, "show") as connection:
        alive = {
            row.job_id: row.traceparent
            for row in await connection.execute(_ALIVE, {"job_ids": job_ids})
        }
        written = await connection.execute(
            _UPSERT,
            {
                "job_ids": job_ids,
                "revisions": [json.dumps(shown.revision) for shown in batch],
                "views": [shown.progress.model_dump_json() for shown in batch],
            },
        )
        return Written(frozenset(written.scalars()), frozenset(job_ids) - alive.keys(), alive)


async def erase(engine: AsyncEngine, job_ids: Sequence[str] = ()) -> None:
    """Remove the rows of these jobs, and of every job that is deleted."""
    async with transaction(engine, "erase_shown") as connection:
        await connection.execute(_ERASE, {"job_ids": list(job_ids)})
