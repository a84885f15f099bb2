"""Identity: every decision has one name, made from these.

`job_id` is a UUIDv7 in its usual text form; `chunk_id` is the job's id and the chunk's index. No
name contains an attempt: trying again goes on where the last try stopped.
"""

import re
from dataclasses import dataclass

import uuid_utils

_CHUNK_ID = re.compile(
    r"(?P<job>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})-(?P<index>\d{5,})"
)


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """A chunk as its job and its index within the job, counted from 0."""

    job_id: str
    index: int


def new_job_id() -> str:
    """A fresh job id: UUIDv7 (RFC 9562), so that ids sort by the time of creation."""
    return str(uuid_utils.uuid7())


def new_list_id() -> str:
    """A fresh id of an uploaded list, likewise."""
    return str(uuid_utils.uuid7())


def chunk_id(job_id: str, index: int) -> str:
    """The one name of a chunk: `<job_id>-<index, five digits at least>`."""
    return f"{job_id}-{index:05d}"


def task_id(chunk: str, attempt: int) -> str:
    """What logs and `job_chunks.task_id` call one attempt at a chunk: `<chunk_id>/a<attempt>`."""
    return f"{chunk}/a{attempt}"


def parse_chunk_id(chunk: str) -> ChunkRef:
    """Take a chunk id apart.

    Raises:
        ValueError: the text is not a chunk id.
    """
    match = _CHUNK_ID.fullmatch(chunk)
    if match is None:
        raise ValueError(f"not a chunk id: {chunk!r}")
    return ChunkRef(match["job"], int(match["index"]))
