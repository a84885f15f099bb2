"""What paths and queries name."""

import re
from typing import Annotated

from fastapi import Depends, Header, Path, Query
from fastapi.responses import Response
from pydantic import StringConstraints

from pixcrawler.api import examples, store
from pixcrawler.api.handler import Answer, Caller
from pixcrawler.api.parts import Parts
from pixcrawler.api.problems import not_found
from pixcrawler.api.store import JobRecord
from pixcrawler.common.ids import parse_chunk_id

_INDEX = re.compile(r"\d{1,9}", re.ASCII)
_INDICES = 1 << 31
"""How many the column can hold."""

_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _job_id(
    job_id: Annotated[
        str,
        Path(
            description="The job's id, as its creation has answered.",
            examples=[examples.JOB_ID],
            json_schema_extra={"format": "uuid"},
        ),
    ],
) -> str:
    """What cannot be a job's id is not found, whatever it is."""
    if not _JOB_ID.fullmatch(job_id):
        raise not_found(f"job {job_id}")
    return job_id


JobId = Annotated[str, Depends(_job_id)]
ChunkName = Annotated[
    str, Path(description="The chunk's index within the job, from 0, or its id.", examples=["0"])
]
Limit = Annotated[int, Query(ge=1, le=200, description="Items on a page at most, 1 to 200.")]
Cursor = Annotated[
    str | None,
    Query(description="The `next_cursor` of the page before; the first page if not given."),
]
Everyone = Annotated[
    bool, Query(alias="all", description="Of all owners: needs a key with the scope admin.")
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Makes it safe to ask again when an answer got lost: the same key and the same "
        "request do nothing more and answer the same; another request is a 409. Any text that you "
        "use once, such as a UUID; at most 255 characters."
    ),
    StringConstraints(strip_whitespace=True, min_length=1, max_length=255),
]

ACCEPTED = 202


def accepted(answer: Answer) -> Response:
    """202 with what was kept of the first time, byte for byte."""
    return Response(answer.content, ACCEPTED, media_type="application/json")


async def found_job(parts: Parts, caller: Caller, job_id: str) -> JobRecord:
    """The caller's job.

    Raises:
        Problem: 404.
    """
    async with parts.engine.connect() as connection:
        job = await store.job(connection, caller.owner, job_id)
    if job is None:
        raise not_found(f"job {job_id}")
    return job


def chunk_index(job_id: str, chunk: str) -> int:
    """The index that a path names by number or by id.

    Raises:
        Problem: 404, it names no chunk of this job.
    """
    if _INDEX.fullmatch(chunk):
        return int(chunk)
    try:
        ref = parse_chunk_id(chunk)
    except ValueError:
        raise not_found(f"chunk {chunk} of job {job_id}") from None
    if ref.job_id != job_id or ref.index >= _INDICES:
        raise not_found(f"chunk {chunk} of job {job_id}")
    return ref.index
