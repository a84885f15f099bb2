"""The planner's SQL for slots: who is next, who holds one, who gives it back.

A slot is a row of `job_chunks` that is `processing`. Every function is one statement, or one read
and one write of the same row. Times are the database's: `clock_timestamp()` where a lock may have
been waited for, since `now()` is when the transaction began.
"""

import json
from typing import NamedTuple

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common import ids, line
from pixcrawler.common.events import Slice
from pixcrawler.planner import history


class Waiting(NamedTuple):
    """A chunk that waits; `unannounced`: its job is still shown as waiting."""

    chunk_id: str
    job_id: str
    unannounced: bool


class Queue(NamedTuple):
    """The slots in use, and the chunk that is next.

    `since_admission_s` is when a slot was last given out, to a chunk that holds it or to one that
    has stopped or ended since; None where none ever was.
    """

    active: int
    since_admission_s: float | None
    head: Waiting | None


class Admitted(NamedTuple):
    """A chunk that was planned (again) as this attempt; `traceparent` is its job's."""

    chunk_id: str
    attempt: int
    slices: tuple[Slice, ...]
    traceparent: str | None


class Processing(NamedTuple):
    """A chunk that holds a slot."""

    chunk_id: str
    attempt: int
    retry_count: int
    takebacks: int


async def queue(connection: AsyncConnection) -> Queue:
    """The slots in use and who is next. For a decision: after the admission lock.

    The order is that of `pixcrawler.common.line`.
    """
    found = await connection.execute(
        text(f"""
            WITH busy AS ({line.BUSY}), slots AS (
                SELECT count(*) AS active,
                       (SELECT extract(epoch FROM clock_timestamp() - max(admitted_at))::float
                        FROM job_chunks) AS since
                FROM busy
            ), head AS (
                SELECT chunk_id, job_id FROM {line.LINE} ORDER BY {line.ORDER} LIMIT 1
            )
            SELECT active, since, chunk_id, job_id,
                   coalesce((SELECT round.facts->>'status' = 'pending' FROM job_rounds AS round
                             WHERE round.job_id = head.job_id
                             ORDER BY round.round DESC LIMIT 1), true) AS unannounced
            FROM slots LEFT JOIN head ON true""")  # noqa: S608 - constants
    )
    row = found.one()
    head = None if row.chunk_id is None else Waiting(row.chunk_id, row.job_id, row.unannounced)
    return Queue(row.active, row.since, head)


async def admit(connection: AsyncConnection, chunk_id: str) -> Admitted | None:
    """Give a waiting chunk a slot, as a new attempt; None if it does not wait any more."""
    found = await connection.execute(
        text("""
            SELECT attempt, attempts, clock_timestamp() AS now FROM job_chunks
            WHERE chunk_id = :chunk_id AND status = 'pending' FOR UPDATE"""),
        {"chunk_id": chunk_id},
    )
    row = found.mappings().one_or_none()
    return None if row is None else await _plan_again(connection, chunk_id, row, takeback=False)


async def take_back(
    connection: AsyncConnection, chunk_id: str, attempt: int, deadline_s: float
) -> Admitted | None:
    """Plan a silent chunk again in the slot that it holds; None if it is not silent any more."""
    found = await connection.execute(
        text(f"""
            SELECT attempt, attempts, clock_timestamp() AS now FROM job_chunks
            WHERE chunk_id = :chunk_id AND status = 'processing' AND attempt = :attempt
              AND {line.DEADLINE} < clock_timestamp()
            FOR UPDATE"""),  # noqa: S608 - constants
        {"chunk_id": chunk_id, "attempt": attempt, "deadline_s": deadline_s},
    )
    row = found.mappings().one_or_none()
    return None if row is None else await _plan_again(connection, chunk_id, row, takeback=True)


async def _plan_again(
    connection: AsyncConnection, chunk_id: str, row: RowMapping, *, takeback: bool
) -> Admitted | None:
    attempt = row["attempt"] + 1
    steps = history.closed(history.parse(row["attempts"]), row["now"], state="lost")
    steps = history.begun(steps, attempt, "downloader", row["now"], topic="chunk.planned")
    updated = await connection.execute(
        text("""
            UPDATE job_chunks AS chunk
            SET status = 'processing', attempt = :attempt, task_id = :task_id,
                takebacks = takebacks + :takeback, stage = 'downloader', not_before = NULL,
                attempts = CAST(:attempts AS jsonb),
                admitted_at = CASE WHEN :takeback = 0 THEN clock_timestamp() ELSE admitted_at END,
                last_seen_at = clock_timestamp(), updated_at = clock_timestamp()
            FROM crawl_jobs AS job
            WHERE job.job_id = chunk.job_id AND chunk_id = :chunk_id AND status = :status
              AND attempt = :attempt - 1
            RETURNING slices, traceparent"""),
        {
            "chunk_id": chunk_id,
            "attempt": attempt,
            "task_id": ids.task_id(chunk_id, attempt),
            "takeback": int(takeback),
            "status": "processing" if takeback else "pending",
            "attempts": json.dumps(history.dump(steps)),
        },
    )
    planned = updated.one_or_none()
    if planned is None:
        return None
    slices = tuple(map(Slice.model_validate, planned.slices))
    return Admitted(chunk_id, attempt, slices, planned.traceparent)


async def silent(connection: AsyncConnection, deadline_s: float) -> tuple[Processing, ...]:
    """Chunks without a sign of life for their deadline, which doubles with each take-back."""
    found = await connection.execute(
        text(f"""
            SELECT chunk_id, attempt, retry_count, takebacks FROM job_chunks
            WHERE status = 'processing'
              AND {line.DEADLINE} < clock_timestamp()
            ORDER BY last_seen_at"""),  # noqa: S608 - constants
        {"deadline_s": deadline_s},
    )
    return tuple(Processing(*row) for row in found)


async def processing(connection: AsyncConnection, chunk_id: str, attempt: int) -> Processing | None:
    """The chunk, if this attempt at it holds a slot."""
    found = await connection.execute(
        text("""
            SELECT chunk_id, attempt, retry_count, takebacks FROM job_chunks
            WHERE chunk_id = :chunk_id AND status = 'processing' AND attempt = :attempt"""),
        {"chunk_id": chunk_id, "attempt": attempt},
    )
    row = found.one_or_none()
    return None if row is None else Processing(*row)


async def wait_again(
    connection: AsyncConnection,
    chunk_id: str,
    attempt: int,
    *,
    wait_s: float,
    error: str,
    message: str,
    counts: bool = True,
) -> bool:
    """Put a failed attempt's chunk back into the queue; False if it is another attempt's by now.

    `counts`: whether that is a retry, of which there are only so many.
    """
    updated = await connection.execute(
        text("""
            UPDATE job_chunks
            SET status = 'pending', retry_count = retry_count + :counts, error = :error,
                error_message = :message,
                not_before = clock_timestamp() + make_interval(secs => :wait_s),
                updated_at = clock_timestamp()
            WHERE chunk_id = :chunk_id AND status = 'processing' AND attempt = :attempt"""),
        {
            "chunk_id": chunk_id,
            "attempt": attempt,
            "wait_s": wait_s,
            "error": error,
            "message": message,
            "counts": int(counts),
        },
    )
    return bool(updated.rowcount)


async def active(connection: AsyncConnection) -> int:
    """How many slots are in use."""
    found = await connection.scalar(
        text("SELECT count(*) FROM job_chunks WHERE status = 'processing'")
    )
    return int(found or 0)


async def pending_by_priority(connection: AsyncConnection) -> dict[int, int]:
    """How many chunks wait, by the priority that they were given."""
    found = await connection.execute(
        text("""
            SELECT priority, count(*) AS chunks FROM job_chunks
            WHERE status = 'pending' GROUP BY priority""")
    )
    return {row.priority: row.chunks for row in found}


async def reprioritize(connection: AsyncConnection) -> int:
    """Give chunks that wait the priority that their job has by now; how many it were.

    Rows that are being written are left for the next time, so that this waits for nobody.
    """
    updated = await connection.execute(
        text("""
            WITH moved AS (
                SELECT chunk.chunk_id, job.priority
                FROM job_chunks AS chunk JOIN crawl_jobs AS job USING (job_id)
                WHERE chunk.status = 'pending' AND chunk.priority <> job.priority
                FOR UPDATE OF chunk SKIP LOCKED
            )
            UPDATE job_chunks AS chunk
            SET priority = moved.priority, updated_at = clock_timestamp()
            FROM moved WHERE chunk.chunk_id = moved.chunk_id""")
    )
    return updated.rowcount


async def given_up(connection: AsyncConnection) -> dict[str, str]:
    """Chunks that have not ended and that operators want given up: why, by id."""
    found = await connection.execute(
        text("""
            SELECT chunk_id, asked.reason FROM given_up_chunks AS asked
            JOIN job_chunks AS chunk USING (chunk_id)
            WHERE chunk.status IN ('pending', 'processing') ORDER BY chunk_id""")
    )
    return {row.chunk_id: row.reason for row in found}
