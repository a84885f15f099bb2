"""The SQL behind "why is it not done" and "who has what": rows of the planner, only read.

Times are the database's, as the planner's are.
"""

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.api.store import JobRecord
from pixcrawler.common import controls, line
from pixcrawler.common.controls import Control
from pixcrawler.common.events import JobFacts, Value

SHOWN = 20
"""Chunks of one kind that are looked at, the most urgent ones; the others are counted."""


class Held(Value):
    """A chunk that holds a slot.

    Attributes:
        stage: The last one reached.
        worker: Which replica told of it last in this stage; empty while none has.
        since: When its stage had its input.
        deadline_at: When it is planned again if there is no further sign of life; None while its
            stage is paused.
        takebacks: How often that has happened.
    """

    chunk_id: str
    job_id: str
    index: int
    stage: str
    worker: str
    attempt: int
    takebacks: int
    since: datetime
    last_seen_at: datetime
    deadline_at: datetime | None


class Delayed(Value):
    """A chunk that waits after a failure, and what failed: the stage, the replica, why."""

    chunk_id: str
    index: int
    not_before: datetime
    attempt: int
    stage: str
    worker: str
    error: str
    message: str


class Place(Value):
    """The job's chunks in the line for slots: how many, and which place the first has of `total`.

    `place` counts from 1; None where none of them waits. `active` is how many slots are in use.
    """

    place: int | None
    chunks: int
    total: int
    active: int


class Owed(Value):
    """A search that could not be asked in this round, as the last chunk that tried has said."""

    source: str
    keyword: str
    reason: str


class Situation(Value):
    """A job as the database has it, as far as that says why it is not done.

    Attributes:
        now: The database's clock.
        asked_at: When its latest round was asked for; None before the first.
        book_round: The latest round that the planner has taken up, 0 for none.
        facts: The planner's, of that round; None before it has stated any.
        closed_at: When that round was closed.
        unsent: Whether an event about the job still waits in the outbox, and since when.
        held: Chunks that hold slots, those that are silent for longest first; at most `SHOWN`.
        delayed: Chunks that wait after a failure, the next one first; at most `SHOWN`.
        delayed_chunks: How many those are in all.
        line: Where its other waiting chunks stand.
        owed: Searches that could not be asked.
        stopped: What operators have stopped.
        failure: Why the last chunk failed that is not retried.
        ended_at: When a chunk ended last.
    """

    job: JobRecord
    now: datetime
    asked_at: datetime | None
    book_round: int
    facts: JobFacts | None
    closed_at: datetime | None
    unsent: datetime | None
    held: tuple[Held, ...]
    delayed: tuple[Delayed, ...]
    delayed_chunks: int
    line: Place
    owed: tuple[Owed, ...]
    stopped: tuple[Control, ...]
    failure: str | None
    ended_at: datetime | None


async def situation(connection: AsyncConnection, job: JobRecord, deadline_s: float) -> Situation:
    """What the database has about a job.

    Args:
        connection: To read with; what it reads is of one moment if it is REPEATABLE READ.
        job: Which.
        deadline_s: Seconds without a sign of life after which a chunk is planned again.
    """
    delayed, delayed_chunks = await _delayed(connection, job.job_id)
    return Situation(
        job=job,
        **await _round(connection, job.job_id),
        held=await held(connection, deadline_s, job_id=job.job_id, limit=SHOWN, silent_first=True),
        delayed=delayed,
        delayed_chunks=delayed_chunks,
        line=await _place(connection, job.job_id),
        owed=await _owed(connection, job.job_id),
        stopped=await controls.in_force(connection),
    )


async def held(
    connection: AsyncConnection,
    deadline_s: float,
    *,
    limit: int,
    owner: str | None = None,
    job_id: str | None = None,
    after: str = "",
    silent_first: bool = False,
) -> tuple[Held, ...]:
    """Chunks that hold slots, by id.

    Args:
        connection: To read with.
        deadline_s: Seconds without a sign of life after which a chunk is planned again.
        limit: How many at most.
        owner: Only those of this owner's jobs.
        job_id: Only those of this job.
        after: Only those with a greater id.
        silent_first: By their last sign of life instead.
    """
    order = "last_seen_at, chunk_id" if silent_first else "chunk_id"
    found = await connection.execute(
        text(f"""
            SELECT chunk_id, chunk.job_id, chunk_index AS index, stage, attempt, takebacks,
                   coalesce(step->>'worker', '') AS worker,
                   coalesce((step->>'started_at')::timestamptz, admitted_at, chunk.updated_at)
                       AS since,
                   last_seen_at, nullif({line.DEADLINE}, 'infinity') AS deadline_at
            FROM (SELECT job_id, chunk_id, chunk_index, stage, attempt, takebacks, status,
                         admitted_at, updated_at, attempts,
                         coalesce(last_seen_at, admitted_at, updated_at) AS last_seen_at
                  FROM job_chunks) AS chunk
            JOIN crawl_jobs AS job USING (job_id)
            LEFT JOIN LATERAL (
                SELECT step FROM jsonb_array_elements(attempts) WITH ORDINALITY AS steps (step, n)
                WHERE (step->>'attempt')::int = attempt AND step->>'stage' = stage
                ORDER BY n DESC LIMIT 1) AS last ON true
            WHERE chunk.status = 'processing' AND job.deleted_at IS NULL
              AND (CAST(:owner AS text) IS NULL OR job.owner = :owner)
              AND (CAST(:job_id AS text) IS NULL OR chunk.job_id = :job_id)
              AND chunk_id > :after
            ORDER BY {order} LIMIT :limit"""),  # noqa: S608 - constants
        {
            "deadline_s": deadline_s,
            "owner": owner,
            "job_id": job_id,
            "after": after,
            "limit": limit,
        },
    )
    return tuple(Held.model_validate(dict(row)) for row in found.mappings())


async def _round(connection: AsyncConnection, job_id: str) -> dict[str, object]:
    """What the latest round has come to."""
    found = await connection.execute(
        text("""
            SELECT clock_timestamp() AS now,
                   (SELECT created_at FROM job_requests AS asked
                    WHERE asked.job_id = job.job_id AND asked.round = job.round) AS asked_at,
                   coalesce(book.round, 0) AS book_round, book.closed_at,
                   CASE jsonb_typeof(book.facts) WHEN 'object' THEN book.facts END AS facts,
                   (SELECT min(created_at) FROM outbox
                    WHERE NOT sent AND key = convert_to(job.job_id, 'UTF8')) AS unsent,
                   (SELECT coalesce(nullif(error_message, ''), error)
                    FROM job_chunks AS chunk WHERE chunk.job_id = job.job_id AND status = 'failed'
                      AND NOT EXISTS (
                          SELECT FROM job_chunks AS r WHERE r.retry_of = chunk.chunk_id)
                    ORDER BY ended_at DESC NULLS LAST, chunk_index DESC LIMIT 1) AS failure,
                   (SELECT max(ended_at) FROM job_chunks AS chunk
                    WHERE chunk.job_id = job.job_id) AS ended_at
            FROM crawl_jobs AS job
            LEFT JOIN LATERAL (
                SELECT round, facts, closed_at FROM job_rounds AS b
                WHERE b.job_id = job.job_id ORDER BY round DESC LIMIT 1) AS book ON true
            WHERE job.job_id = :job_id"""),
        {"job_id": job_id},
    )
    return dict(found.mappings().one())


async def _delayed(connection: AsyncConnection, job_id: str) -> tuple[tuple[Delayed, ...], int]:
    """Chunks that wait after a failure, the next one first, and how many there are."""
    found = await connection.execute(
        text("""
            SELECT chunk_id, chunk_index AS index, not_before, chunk.attempt,
                   coalesce(step->>'stage', chunk.stage) AS stage,
                   coalesce(step->>'worker', '') AS worker, coalesce(error, '') AS error,
                   coalesce(error_message, '') AS message, count(*) OVER () AS chunks
            FROM job_chunks AS chunk
            LEFT JOIN LATERAL (
                SELECT step FROM jsonb_array_elements(attempts) WITH ORDINALITY AS steps (step, n)
                WHERE step->>'state' = 'failed' ORDER BY n DESC LIMIT 1) AS last ON true
            WHERE job_id = :job_id AND status = 'pending' AND not_before > clock_timestamp()
            ORDER BY not_before, chunk_index LIMIT :shown"""),
        {"job_id": job_id, "shown": SHOWN},
    )
    rows = list(found.mappings())
    return tuple(Delayed.model_validate(dict(r)) for r in rows), rows[0]["chunks"] if rows else 0


async def _place(connection: AsyncConnection, job_id: str) -> Place:
    """Where a job's waiting chunks stand, in the order in which the planner lets them through."""
    found = await connection.execute(
        text(f"""
            WITH busy AS ({line.BUSY}), places AS (
                SELECT job_id, row_number() OVER (ORDER BY {line.ORDER}) AS place
                FROM {line.LINE}
            )
            SELECT (SELECT count(*) FROM busy) AS active, count(*) AS total,
                   min(place) FILTER (WHERE job_id = :job_id) AS place,
                   count(*) FILTER (WHERE job_id = :job_id) AS chunks
            FROM places"""),  # noqa: S608 - constants
        {"job_id": job_id},
    )
    return Place.model_validate(dict(found.mappings().one()))


async def _owed(connection: AsyncConnection, job_id: str) -> tuple[Owed, ...]:
    """Searches that chunks of the latest round could not ask, each as it was said last."""
    found = await connection.execute(
        text("""
            SELECT DISTINCT ON (owed->>'source', owed->>'keyword')
                   owed->>'source' AS source, owed->>'keyword' AS keyword,
                   coalesce(owed->>'reason', '') AS reason
            FROM job_chunks AS chunk
            CROSS JOIN LATERAL jsonb_array_elements(
                CASE jsonb_typeof(unanswered) WHEN 'array' THEN unanswered ELSE '[]' END) AS owed
            WHERE job_id = :job_id
              AND ended_at >= (SELECT max(created_at) FROM job_rounds AS r
                               WHERE r.job_id = chunk.job_id)
            ORDER BY owed->>'source', owed->>'keyword', ended_at DESC LIMIT :shown"""),
        {"job_id": job_id, "shown": SHOWN},
    )
    return tuple(Owed.model_validate(dict(row)) for row in found.mappings())
