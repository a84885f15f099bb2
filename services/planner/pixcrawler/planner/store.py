"""The planner's SQL. Every function is one statement, or one read and one write of the same row.

`job_chunks` and `job_rounds` are the planner's; the rest is read. Times are the database's:
`clock_timestamp()` where a lock may have been waited for, since `now()` is when the transaction
began.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common import ids
from pixcrawler.common.documents import ChunkResult, Stream, Unanswered
from pixcrawler.common.events import ImageTotals, JobFacts, Slice, Value
from pixcrawler.common.ranges import Range
from pixcrawler.planner import history
from pixcrawler.planner.history import Steps
from pixcrawler.planner.plan import Cursor

OPEN = ("pending", "processing")
SOURCE_ERRORS = frozenset({"source_unavailable", "source_refused"})
"""Errors of a chunk none of whose searches could be asked, as the downloader names them."""


class Sign(NamedTuple):
    """A sign of life: in which stage, at which attempt, and of which replica, if that is known."""

    stage: str
    attempt: int = 0
    worker: str = ""


class JobRow(Value):
    """What was asked for, and `now` on the database's clock; `urls` is how many there are."""

    job_id: str
    sources: tuple[str, ...]
    keywords: tuple[str, ...]
    urls: int
    max_images: int
    chunk_size: int
    priority: int
    refill_factor: float
    round: int
    cancelled: bool
    deleted: bool
    created_at: datetime
    started_at: datetime | None
    now: datetime
    traceparent: str | None = None

    @property
    def wanted(self) -> bool:
        """Whether anyone still wants work done for it."""
        return not (self.cancelled or self.deleted)


class ChunkRow(Value):
    """A chunk as far as decisions about its job need it."""

    chunk_id: str
    index: int
    status: str
    attempt: int
    retry_of: str | None
    error: str | None
    range: Range
    images: ImageTotals | None
    ended_at: datetime | None
    unanswered: tuple[Unanswered, ...] = ()

    @property
    def open(self) -> bool:
        """Whether it has not ended."""
        return self.status in OPEN

    @property
    def unavailable(self) -> bool:
        """Whether it was given up because none of its searches could be asked."""
        resolved = self.images is not None and self.images.candidates > 0
        return self.status == "failed" and self.error in SOURCE_ERRORS and not resolved


class Book(Value):
    """The latest round that the planner has seen.

    `closed_round` is the last one that is closed, 0 for none; `facts` are those of the latest.
    """

    round: int
    cursors: tuple[Cursor, ...]
    facts: JobFacts | None
    opened_at: datetime
    closed_round: int


class Request(Value):
    """What a round asks for; `chunk_ids` None means all that have failed."""

    round: int
    kind: str
    chunk_ids: tuple[str, ...] | None


class Details(Value):
    """What only a refill or a retry needs of a chunk."""

    slices: tuple[Slice, ...]
    exhausted: tuple[Stream, ...] = ()


class NewChunk(NamedTuple):
    """A chunk to be made."""

    range: Range
    slices: tuple[Slice, ...]
    retry_of: str | None = None


class Held(NamedTuple):
    """Images that live claims hold: sha256 in hex, and URLs."""

    sha256: frozenset[str]
    urls: frozenset[str]


# ---- a job


async def job(connection: AsyncConnection, job_id: str) -> JobRow | None:
    """What was asked for; None if the job is unknown."""
    found = await connection.execute(
        text("""
            SELECT job_id, sources, keywords, max_images, chunk_size, priority, round,
                   coalesce((options->>'refill_factor')::float, 5.0) AS refill_factor,
                   CASE jsonb_typeof(urls) WHEN 'array' THEN jsonb_array_length(urls) ELSE
                       coalesce((SELECT rows FROM url_lists AS l
                                  WHERE l.list_id = url_list_id AND l.deleted_at IS NULL), 0) END
                       AS urls,
                   cancelled_at IS NOT NULL AS cancelled, deleted_at IS NOT NULL AS deleted,
                   traceparent, created_at, started_at, clock_timestamp() AS now
            FROM crawl_jobs WHERE job_id = :job_id"""),
        {"job_id": job_id},
    )
    row = found.mappings().one_or_none()
    return None if row is None else JobRow.model_validate(dict(row))


async def chunks(connection: AsyncConnection, job_id: str) -> tuple[ChunkRow, ...]:
    """A job's chunks by index."""
    found = await connection.execute(
        text("""
            SELECT chunk_id, chunk_index, status, attempt, retry_of, error, image_range, images,
                   ended_at, unanswered
            FROM job_chunks WHERE job_id = :job_id ORDER BY chunk_index"""),
        {"job_id": job_id},
    )
    return tuple(map(_chunk, found.mappings()))


def _chunk(row: RowMapping) -> ChunkRow:
    return ChunkRow(
        chunk_id=row["chunk_id"],
        index=row["chunk_index"],
        status=row["status"],
        attempt=row["attempt"],
        retry_of=row["retry_of"],
        error=row["error"],
        range=Range(row["image_range"]["start"], row["image_range"]["end"]),
        images=row["images"] and ImageTotals.model_validate(row["images"]),
        ended_at=row["ended_at"],
        unanswered=row["unanswered"] or (),
    )


async def details(connection: AsyncConnection, job_id: str) -> dict[str, Details]:
    """The slices of a job's chunks, and which searches they found to be dry, by chunk id."""
    found = await connection.execute(
        text("SELECT chunk_id, slices, exhausted FROM job_chunks WHERE job_id = :job_id"),
        {"job_id": job_id},
    )
    return {
        row["chunk_id"]: Details(slices=row["slices"], exhausted=row["exhausted"] or ())
        for row in found.mappings()
    }


async def insert_chunks(
    connection: AsyncConnection, job_id: str, priority: int, first: int, new: Sequence[NewChunk]
) -> int:
    """Make chunks, in one statement whatever their number.

    Args:
        connection: Under the job's lock.
        job_id: Of which job.
        priority: That they wait with.
        first: The index of the first of them.
        new: Chunks; one whose `retry_of` has been retried already is left out.

    Returns:
        How many were made.
    """
    rows = [
        {
            "chunk_id": ids.chunk_id(job_id, index),
            "chunk_index": index,
            "image_range": {"start": chunk.range.start, "end": chunk.range.end},
            "slices": [piece.model_dump() for piece in chunk.slices],
            "retry_of": chunk.retry_of,
        }
        for index, chunk in enumerate(new, start=first)
    ]
    made = await connection.execute(
        text("""
            INSERT INTO job_chunks
                (chunk_id, job_id, chunk_index, priority, image_range, slices, retry_of)
            SELECT chunk_id, :job_id, chunk_index, :priority, image_range, slices, retry_of
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS new
                (chunk_id text, chunk_index int, image_range jsonb, slices jsonb, retry_of text)
            ON CONFLICT DO NOTHING"""),
        {"job_id": job_id, "priority": priority, "rows": json.dumps(rows)},
    )
    return made.rowcount


async def end_chunks(
    connection: AsyncConnection, results: Collection[ChunkResult]
) -> dict[str, float | None]:
    """Mark chunks as ended as their results say, in one statement; ended ones stay as they are.

    Returns:
        Those that this call ended, with the seconds since their last admission.
    """
    found = await connection.execute(
        text("""
            SELECT chunk_id, attempts, clock_timestamp() AS now FROM job_chunks
            WHERE chunk_id = ANY(:ids) AND status IN ('pending', 'processing')
            ORDER BY chunk_id FOR UPDATE"""),
        {"ids": [result.chunk_id for result in results]},
    )
    before = {row["chunk_id"]: row for row in found.mappings()}
    rows = [
        _ended(result, before[result.chunk_id])
        for result in {result.chunk_id: result for result in results}.values()
        if result.chunk_id in before
    ]
    if not rows:
        return {}
    done = await connection.execute(
        text("""
            UPDATE job_chunks AS chunk
            SET status = ended.status, error = ended.error, error_message = ended.error_message,
                images = ended.images, archive = ended.archive, exhausted = ended.exhausted,
                unanswered = ended.unanswered,
                attempts = ended.attempts, not_before = NULL,
                ended_at = clock_timestamp(), updated_at = clock_timestamp()
            FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS ended
                (chunk_id text, status text, error text, error_message text, images jsonb,
                 archive jsonb, exhausted jsonb, unanswered jsonb, attempts jsonb)
            WHERE chunk.chunk_id = ended.chunk_id AND chunk.status IN ('pending', 'processing')
            RETURNING chunk.chunk_id,
                      extract(epoch FROM chunk.ended_at - chunk.admitted_at)::float AS seconds"""),
        {"rows": json.dumps(rows)},
    )
    return {row.chunk_id: row.seconds for row in done}


def _ended(result: ChunkResult, row: RowMapping) -> dict[str, Any]:
    state: history.Outcome = "done" if result.status == "completed" else "failed"
    steps = history.closed(
        history.parse(row["attempts"]),
        row["now"],
        state=state,
        error=result.error,
        message=result.message,
    )
    document = result.model_dump(mode="json")
    return {
        "chunk_id": result.chunk_id,
        "status": result.status,
        "error": result.error or None,
        "error_message": result.message or None,
        "images": document["images"],
        "archive": document["archive"],
        "exhausted": document["exhausted"],
        "unanswered": document["unanswered"] or None,
        "attempts": history.dump(steps),
    }


async def erase(connection: AsyncConnection, job_id: str) -> None:
    """Remove the planner's rows of a deleted job."""
    await connection.execute(
        text("DELETE FROM job_chunks WHERE job_id = :job_id"), {"job_id": job_id}
    )
    await connection.execute(
        text("DELETE FROM job_rounds WHERE job_id = :job_id"), {"job_id": job_id}
    )


# ---- rounds


async def book(connection: AsyncConnection, job_id: str) -> Book | None:
    """The latest round that the planner has seen, None before the first."""
    found = await connection.execute(
        text("""
            SELECT round, cursors, facts, created_at AS opened_at,
                   coalesce(max(round) FILTER (WHERE closed_at IS NOT NULL) OVER (), 0)
                       AS closed_round
            FROM job_rounds WHERE job_id = :job_id ORDER BY round DESC LIMIT 1"""),
        {"job_id": job_id},
    )
    row = found.mappings().one_or_none()
    return None if row is None else Book.model_validate(dict(row))


async def requests(connection: AsyncConnection, job_id: str, after: int) -> tuple[Request, ...]:
    """What the rounds after this one ask for, in order."""
    found = await connection.execute(
        text("""
            SELECT round, kind,
                   CASE jsonb_typeof(chunk_ids) WHEN 'array' THEN chunk_ids END AS chunk_ids
            FROM job_requests WHERE job_id = :job_id AND round > :after ORDER BY round"""),
        {"job_id": job_id, "after": after},
    )
    return tuple(Request.model_validate(dict(row)) for row in found.mappings())


async def open_rounds(
    connection: AsyncConnection, job_id: str, after: int, last: int, cursors: Iterable[Cursor]
) -> None:
    """Remember that the requests of the rounds after `after` up to `last` are applied."""
    await connection.execute(
        text("""
            INSERT INTO job_rounds (job_id, round, cursors)
            SELECT :job_id, number, CAST(:cursors AS jsonb)
            FROM generate_series(CAST(:first AS int), CAST(:last AS int)) AS number
            ON CONFLICT DO NOTHING"""),
        {"job_id": job_id, "first": after + 1, "last": last, "cursors": _dump(cursors)},
    )


async def write_round(
    connection: AsyncConnection,
    job_id: str,
    number: int,
    *,
    cursors: Iterable[Cursor],
    spent: int,
    facts: JobFacts,
) -> None:
    """Keep how a round stands, unless it is closed. Facts with `closed_at` close it."""
    await connection.execute(
        text("""
            UPDATE job_rounds
            SET cursors = CAST(:cursors AS jsonb), spent = :spent, facts = CAST(:facts AS jsonb),
                closed_at = :closed_at
            WHERE job_id = :job_id AND round = :number AND closed_at IS NULL"""),
        {
            "job_id": job_id,
            "number": number,
            "cursors": _dump(cursors),
            "spent": spent,
            "facts": facts.model_dump_json(),
            "closed_at": facts.closed_at if facts.closed_round == number else None,
        },
    )


def _dump(values: Iterable[Value]) -> str:
    return json.dumps([value.model_dump() for value in values])


async def held(
    connection: AsyncConnection, job_id: str, sha256: Collection[str], urls: Collection[str]
) -> Held:
    """Which of these images live claims hold: claims of failed chunks do not count."""
    found = await connection.execute(
        text("""
            SELECT encode(claim.sha256, 'hex') AS sha256, claim.url FROM image_claims AS claim
            JOIN job_chunks AS chunk USING (chunk_id)
            WHERE claim.job_id = :job_id AND chunk.status <> 'failed'
              AND (claim.sha256 = ANY(:sha256) OR claim.url = ANY(:urls))"""),
        {"job_id": job_id, "sha256": [bytes.fromhex(s) for s in sha256], "urls": list(urls)},
    )
    rows = found.all()
    return Held(frozenset(row.sha256 for row in rows), frozenset(row.url for row in rows))


# ---- a chunk


async def steps(connection: AsyncConnection, chunk_id: str) -> tuple[Steps, datetime] | None:
    """What a chunk in progress went through, its row locked, and the time; None if it is not."""
    found = await connection.execute(
        text("""
            SELECT attempts, clock_timestamp() AS now FROM job_chunks
            WHERE chunk_id = :chunk_id AND status = 'processing' FOR UPDATE"""),
        {"chunk_id": chunk_id},
    )
    row = found.mappings().one_or_none()
    return None if row is None else (history.parse(row["attempts"]), row["now"])


async def write_steps(connection: AsyncConnection, chunk_id: str, steps: Steps) -> None:
    """Keep what a chunk in progress went through."""
    await connection.execute(
        text("""
            UPDATE job_chunks SET attempts = CAST(:attempts AS jsonb)
            WHERE chunk_id = :chunk_id AND status = 'processing'"""),
        {"chunk_id": chunk_id, "attempts": json.dumps(history.dump(steps))},
    )


async def seen(connection: AsyncConnection, signs: Mapping[str, Sign]) -> None:
    """Chunks gave signs of life: one statement whatever their number.

    Chunks whose rows are being written anyway are skipped, so that this never waits; a chunk's
    stage only moves forward. The step that runs remembers which replica told of it last; the
    column, which may be large, is rewritten only when that has changed.
    """
    await connection.execute(
        text("""
            WITH sign AS (
                SELECT chunk_id, sign.stage, sign.attempt, sign.worker FROM job_chunks AS chunk
                JOIN jsonb_to_recordset(CAST(:signs AS jsonb))
                    AS sign (chunk_id text, stage text, attempt int, worker text)
                    USING (chunk_id)
                WHERE chunk.status = 'processing' FOR UPDATE OF chunk SKIP LOCKED
            )
            UPDATE job_chunks AS chunk
            SET last_seen_at = clock_timestamp(),
                stage = CASE WHEN array_position(order_, sign.stage)
                                  > coalesce(array_position(order_, chunk.stage), 0)
                        THEN sign.stage ELSE chunk.stage END,
                attempts = CASE WHEN sign.worker = '' OR NOT chunk.attempts
                                     @> jsonb_build_array(step || '{"state": "running"}')
                                  OR chunk.attempts
                                     @> jsonb_build_array(step || to_jsonb(told))
                           THEN chunk.attempts
                           ELSE (SELECT jsonb_agg(CASE WHEN one @> (step || '{"state": "running"}')
                                                       THEN one || to_jsonb(told) ELSE one END
                                                  ORDER BY place)
                                 FROM jsonb_array_elements(chunk.attempts)
                                      WITH ORDINALITY AS steps (one, place)) END,
                updated_at = clock_timestamp()
            FROM sign
                CROSS JOIN LATERAL jsonb_build_object(
                    'attempt', sign.attempt, 'stage', sign.stage) AS step
                CROSS JOIN LATERAL (SELECT sign.worker) AS told,
                (SELECT ARRAY['downloader', 'validator', 'uploader'] AS order_) AS known
            WHERE chunk.chunk_id = sign.chunk_id AND chunk.status = 'processing'"""),
        {"signs": json.dumps([{"chunk_id": c, **sign._asdict()} for c, sign in signs.items()])},
    )


# ---- the timer's questions


async def open_jobs(connection: AsyncConnection) -> list[str]:
    """Jobs to look at again: a round is not closed, or a deleted job has left rows."""
    found = await connection.execute(
        text("""
            SELECT job.job_id FROM crawl_jobs AS job
            WHERE job.deleted_at IS NULL AND job.round > coalesce(
                      (SELECT max(round) FROM job_rounds AS book
                       WHERE book.job_id = job.job_id AND book.closed_at IS NOT NULL), 0)
               OR job.deleted_at IS NOT NULL AND (
                      EXISTS (SELECT FROM job_chunks AS c WHERE c.job_id = job.job_id)
                   OR EXISTS (SELECT FROM job_rounds AS r WHERE r.job_id = job.job_id))
            ORDER BY job.job_id""")
    )
    return list(found.scalars())


async def unshown(connection: AsyncConnection) -> list[tuple[str, JobFacts, str | None]]:
    """Jobs whose shown progress is not that of the closed round: facts to repeat, traceparent."""
    found = await connection.execute(
        text("""
            SELECT job.job_id, job.traceparent, latest.facts FROM crawl_jobs AS job
            CROSS JOIN LATERAL (
                SELECT round, facts, closed_at FROM job_rounds AS book
                WHERE book.job_id = job.job_id ORDER BY round DESC LIMIT 1) AS latest
            LEFT JOIN job_progress AS shown ON shown.job_id = job.job_id
            WHERE job.deleted_at IS NULL AND jsonb_typeof(latest.facts) = 'object'
              AND NOT (latest.closed_at IS NOT NULL AND latest.round = job.round
                       AND coalesce((shown.revision->>0)::int, 0) = job.round
                       AND coalesce((shown.revision->>1)::int, 0) = job.round)
            ORDER BY job.job_id""")
    )
    return [(row.job_id, JobFacts.model_validate(row.facts), row.traceparent) for row in found]


async def deleted_but_shown(connection: AsyncConnection) -> list[tuple[str, str | None]]:
    """Deleted jobs that the tracker still shows, each with its traceparent."""
    found = await connection.execute(
        text("""
            SELECT job_id, traceparent FROM job_progress JOIN crawl_jobs USING (job_id)
            WHERE deleted_at IS NOT NULL ORDER BY job_id""")
    )
    return [(row.job_id, row.traceparent) for row in found]
