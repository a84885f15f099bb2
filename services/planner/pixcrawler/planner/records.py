"""What a round asks for, kept beside what was decided: `jobs/<job>/rounds/<round>/request.json`.

Written before a round is opened, so that whatever the blob store has of a job, it also has what was
asked for. Only `pixcrawler db repair` reads it, where the database has become older than the blob
store. What is in there is the job's row, its requests and its list of URLs, as the database has
them.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.errors import BlobNotFound
from pixcrawler.common.events import Value

Row = dict[str, Any]


class JobRecord(Value):
    """A job when a round was opened: rows by their columns, bytes as PostgreSQL writes them.

    `job` is that of `crawl_jobs`, `requests` are those of `job_requests` up to this round,
    `url_list` is that of `url_lists` where the job names a list.
    """

    round: int
    job: Row
    requests: tuple[Row, ...] = ()
    url_list: Row | None = None


async def of(connection: AsyncConnection, job_id: str) -> JobRecord | None:
    """How the job stands, None if it is unknown."""
    found = await connection.execute(
        text("""
            SELECT job.round, to_jsonb(job) AS job,
                   (SELECT coalesce(jsonb_agg(to_jsonb(request) ORDER BY request.round), '[]')
                    FROM job_requests AS request WHERE request.job_id = job.job_id) AS requests,
                   (SELECT to_jsonb(list) FROM url_lists AS list
                    WHERE list.list_id = job.url_list_id) AS url_list
            FROM crawl_jobs AS job WHERE job.job_id = :job_id"""),
        {"job_id": job_id},
    )
    row = found.mappings().one_or_none()
    return None if row is None else JobRecord.model_validate(dict(row))


async def keep(blobs: BlobStore, job_id: str, record: JobRecord) -> None:
    """Keep a record, unless that of the round is there."""
    name = names.round_request(job_id, record.round)
    await blobs.create(name, record.model_dump_json().encode())


async def read(blobs: BlobStore, job_id: str, rounds: Iterable[int]) -> list[JobRecord]:
    """The records of these rounds, by round; one that has gone meanwhile is left out."""
    found = []
    for number in sorted(rounds):
        try:
            content = await blobs.read(names.round_request(job_id, number))
        except BlobNotFound:
            continue
        found.append(JobRecord.model_validate_json(content))
    return found
