"""The SQL of a repair: rows of all services' tables, so for the owner of the database only."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, BigInteger, Integer, LargeBinary, Table, Text, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common import ids
from pixcrawler.common.db import tables
from pixcrawler.common.db.roles import role_name
from pixcrawler.common.events import JobFacts, JobProgress
from pixcrawler.planner.plan import Cursor
from pixcrawler.planner.records import JobRecord, Row


class Kept(NamedTuple):
    """An image that a chunk keeps; `phash` as PostgreSQL's bigint."""

    sha256: bytes
    phash: int
    url: str
    position: int


class Known(NamedTuple):
    """What the database has of a job: statuses of its chunks, which have claimed, its rounds."""

    round: int
    deleted: bool
    chunks: Mapping[str, str]
    claimed: frozenset[str]
    closed: frozenset[int]


UNKNOWN = Known(0, deleted=False, chunks={}, claimed=frozenset(), closed=frozenset())


async def services(connection: AsyncConnection) -> list[str]:
    """Names of our services' roles that are connected to this database."""
    found = await connection.execute(
        text("""
            SELECT DISTINCT usename::text FROM pg_stat_activity
            WHERE datname = current_database() AND usename = ANY(:roles) ORDER BY 1"""),
        {"roles": [role_name(service) for service in tables.OWNERS]},
    )
    return list(found.scalars())


async def unfinished(connection: AsyncConnection) -> set[str]:
    """Jobs of which the database itself says that something is to be done."""
    found = await connection.execute(
        text("""
            SELECT DISTINCT job_id FROM job_chunks WHERE status = 'processing'
            UNION SELECT job_id FROM crawl_jobs WHERE deleted_at IS NULL AND round > 0""")
    )
    return set(found.scalars())


async def known(connection: AsyncConnection, job_id: str) -> Known | None:
    """What is there of a job; None if it is unknown."""
    names = {"job_id": job_id}
    job = await connection.execute(
        text(
            "SELECT round, deleted_at IS NOT NULL AS deleted FROM crawl_jobs WHERE job_id=:job_id"
        ),
        names,
    )
    row = job.one_or_none()
    if row is None:
        return None
    chunks = await connection.execute(
        text("SELECT chunk_id, status FROM job_chunks WHERE job_id = :job_id"), names
    )
    marks = await connection.execute(
        text("SELECT chunk_id FROM chunk_claims WHERE job_id = :job_id"), names
    )
    rounds = await connection.execute(
        text("SELECT round FROM job_rounds WHERE job_id = :job_id AND closed_at IS NOT NULL"), names
    )
    return Known(
        row.round,
        row.deleted,
        {chunk.chunk_id: chunk.status for chunk in chunks},
        frozenset(marks.scalars()),
        frozenset(rounds.scalars()),
    )


async def insert_job(connection: AsyncConnection, record: JobRecord) -> None:
    """A job that the database does not know, with its list of URLs.

    Its Idempotency-Key is left out where the caller has used it for another job meanwhile.
    """
    if record.url_list is not None:
        await _insert(connection, tables.url_lists, [record.url_list])
    job = dict(record.job)
    taken = await connection.scalar(
        text("""
            SELECT true FROM crawl_jobs
            WHERE owner = :owner AND idempotency_key = :idempotency_key"""),
        {"owner": job["owner"], "idempotency_key": job.get("idempotency_key")},
    )
    if taken:
        job["idempotency_key"] = None
    await _insert(connection, tables.crawl_jobs, [job])


async def _insert(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> int:
    """Rows as `to_jsonb` wrote them; columns that were added since have their defaults."""
    columns = [c.name for c in table.columns if all(c.name in row for row in rows)]
    named = ", ".join(columns)
    made = await connection.execute(
        text(f"""
            INSERT INTO {table.name} ({named})
            SELECT {named}
            FROM jsonb_populate_recordset(NULL::{table.name}, CAST(:rows AS jsonb))
            ON CONFLICT DO NOTHING"""),  # noqa: S608 - names from our own metadata
        {"rows": json.dumps(list(rows))},
    )
    return made.rowcount


async def insert_requests(connection: AsyncConnection, record: JobRecord) -> None:
    """The requests of a job that are not there."""
    if record.requests:
        await _insert(connection, tables.job_requests, record.requests)


async def advance_job(connection: AsyncConnection, job_id: str, record: JobRecord) -> None:
    """Bring a job to a later round."""
    await connection.execute(
        text("""
            UPDATE crawl_jobs AS job
            SET round = later.round, max_images = later.max_images, priority = later.priority,
                started_at = coalesce(job.started_at, later.started_at),
                cancelled_at = coalesce(job.cancelled_at, later.cancelled_at)
            FROM jsonb_populate_record(NULL::crawl_jobs, CAST(:later AS jsonb)) AS later
            WHERE job.job_id = :job_id AND job.round < later.round"""),
        {"job_id": job_id, "later": json.dumps(record.job)},
    )


async def advance_to(connection: AsyncConnection, job_id: str, facts: JobFacts) -> bool:
    """Bring a job to a later round of which only the facts are known."""
    done = await connection.execute(
        text("""
            UPDATE crawl_jobs SET round = :round, max_images = greatest(max_images, :requested),
                   started_at = coalesce(started_at, :started_at)
            WHERE job_id = :job_id AND round < :round"""),
        {
            "job_id": job_id,
            "round": facts.round,
            "requested": facts.requested,
            "started_at": facts.started_at,
        },
    )
    return bool(done.rowcount)


async def cancel(connection: AsyncConnection, job_id: str) -> bool:
    """Mark a job as cancelled; whether it was not."""
    done = await connection.execute(
        text("""
            UPDATE crawl_jobs SET cancelled_at = clock_timestamp(), round = greatest(round, 1)
            WHERE job_id = :job_id AND cancelled_at IS NULL"""),
        {"job_id": job_id},
    )
    return bool(done.rowcount)


async def delete(connection: AsyncConnection, job_id: str) -> bool:
    """Mark a job as deleted; whether it was not."""
    done = await connection.execute(
        text("""
            UPDATE crawl_jobs SET deleted_at = clock_timestamp()
            WHERE job_id = :job_id AND deleted_at IS NULL"""),
        {"job_id": job_id},
    )
    return bool(done.rowcount)


async def admitted(connection: AsyncConnection, job_id: str, attempts: Mapping[str, int]) -> None:
    """Chunks were admitted at least so often: the next attempt has a number of its own."""
    rows = [
        {"chunk_id": chunk, "attempt": number, "task_id": ids.task_id(chunk, number)}
        for chunk, number in attempts.items()
    ]
    await connection.execute(
        text("""
            UPDATE job_chunks AS chunk SET attempt = seen.attempt, task_id = seen.task_id
            FROM jsonb_to_recordset(CAST(:rows AS jsonb))
                 AS seen (chunk_id text, attempt int, task_id text)
            WHERE chunk.chunk_id = seen.chunk_id AND chunk.job_id = :job_id
              AND chunk.attempt < seen.attempt"""),
        {"job_id": job_id, "rows": json.dumps(rows)},
    )


async def release(connection: AsyncConnection, job_id: str) -> int:
    """Let chunks in progress wait for a slot again: nobody has them, whatever the row says."""
    done = await connection.execute(
        text("""
            UPDATE job_chunks
            SET status = 'pending', not_before = NULL, updated_at = clock_timestamp()
            WHERE job_id = :job_id AND status = 'processing'"""),
        {"job_id": job_id},
    )
    return done.rowcount


async def claim(
    connection: AsyncConnection, job_id: str, chunk: str, kept: Sequence[Kept], *, live: bool
) -> int:
    """Claim what a chunk keeps, and mark it as decided; how many images it holds now.

    A live chunk takes over what a failed one holds; a failed one takes nothing from anybody.
    """
    taken = await connection.execute(
        _CLAIM,
        {
            "job": job_id,
            "chunk": chunk,
            "live": live,
            "digests": [image.sha256 for image in kept],
            "hashes": [image.phash for image in kept],
            "urls": [image.url for image in kept],
            "positions": [image.position for image in kept],
        },
    )
    await connection.execute(
        text("""
            INSERT INTO chunk_claims (chunk_id, job_id) VALUES (:chunk, :job)
            ON CONFLICT DO NOTHING"""),
        {"chunk": chunk, "job": job_id},
    )
    return taken.rowcount


_CLAIM = text("""
    INSERT INTO image_claims AS i (job_id, sha256, phash, url, chunk_id, position)
    SELECT :job, n.sha256, n.phash, n.url, :chunk, n.position
      FROM unnest(:digests, :hashes, :urls, :positions) AS n (sha256, phash, url, position)
        ON CONFLICT (job_id, sha256) DO UPDATE
       SET phash = excluded.phash, url = excluded.url,
           chunk_id = excluded.chunk_id, position = excluded.position
     WHERE i.chunk_id = :chunk OR :live AND EXISTS (
           SELECT FROM job_chunks f WHERE f.chunk_id = i.chunk_id AND f.status = 'failed')
""").bindparams(
    bindparam("job", type_=Text),
    bindparam("chunk", type_=Text),
    bindparam("digests", type_=ARRAY(LargeBinary)),
    bindparam("hashes", type_=ARRAY(BigInteger)),
    bindparam("urls", type_=ARRAY(Text)),
    bindparam("positions", type_=ARRAY(Integer)),
)


async def close_round(
    connection: AsyncConnection,
    job_id: str,
    facts: JobFacts,
    *,
    cursors: Iterable[Cursor],
    spent: int,
) -> bool:
    """Close a round with the facts with which it was closed; whether it was open or unknown."""
    done = await connection.execute(
        text("""
            INSERT INTO job_rounds AS book (job_id, round, cursors, spent, facts, closed_at)
            VALUES (:job_id, :round, CAST(:cursors AS jsonb), :spent, CAST(:facts AS jsonb),
                    coalesce(CAST(:closed_at AS timestamptz), clock_timestamp()))
            ON CONFLICT (job_id, round) DO UPDATE
            SET facts = excluded.facts, spent = excluded.spent, closed_at = excluded.closed_at
            WHERE book.closed_at IS NULL"""),
        {
            "job_id": job_id,
            "round": facts.closed_round,
            "cursors": json.dumps([cursor.model_dump() for cursor in cursors]),
            "spent": spent,
            "facts": facts.model_dump_json(),
            "closed_at": facts.closed_at,
        },
    )
    return bool(done.rowcount)


async def move_cursors(connection: AsyncConnection, job_id: str, cursors: Iterable[Cursor]) -> bool:
    """Let the latest round go on from here; whether that is somewhere else than before."""
    done = await connection.execute(
        text("""
            UPDATE job_rounds SET cursors = CAST(:cursors AS jsonb)
            WHERE job_id = :job_id AND cursors <> CAST(:cursors AS jsonb)
              AND round = (SELECT max(round) FROM job_rounds WHERE job_id = :job_id)"""),
        {"job_id": job_id, "cursors": json.dumps([cursor.model_dump() for cursor in cursors])},
    )
    return bool(done.rowcount)


async def show(connection: AsyncConnection, shown: JobProgress) -> bool:
    """Show progress, the greater revision winning; whether this one did."""
    done = await connection.execute(
        text("""
            INSERT INTO job_progress AS old (job_id, revision, progress)
            VALUES (:job_id, CAST(:revision AS jsonb), CAST(:progress AS jsonb))
            ON CONFLICT (job_id) DO UPDATE
            SET revision = excluded.revision, progress = excluded.progress, updated_at = now()
            WHERE old.revision < excluded.revision"""),
        {
            "job_id": shown.job_id,
            "revision": json.dumps(shown.revision),
            "progress": shown.progress.model_dump_json(),
        },
    )
    return bool(done.rowcount)


def signed(phash: str) -> int:
    """A perceptual hash of 16 hex digits as PostgreSQL's bigint has it."""
    value: Any = int(phash or "0", 16)
    return int(value - (1 << 64) if value >> 63 else value)
