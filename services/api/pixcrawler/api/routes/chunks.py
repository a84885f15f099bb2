"""The chunks of a job."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response

from pixcrawler.api import cursors, examples, store, views
from pixcrawler.api.auth import Acting, Reader
from pixcrawler.api.openapi import answers, wrong
from pixcrawler.api.parts import PartsOf
from pixcrawler.api.problems import Problem, not_found
from pixcrawler.api.routes.paths import (
    ChunkName,
    Cursor,
    IdempotencyKey,
    JobId,
    Limit,
    accepted,
    chunk_index,
    found_job,
)
from pixcrawler.api.store import ChunkStatus
from pixcrawler.api.views import ChunkProgressView, ChunkView, Page, chunk_view

router = APIRouter(prefix="/v1/jobs/{job_id}/chunks", tags=["chunks"])


@router.get(
    "",
    summary="List a job's chunks",
    responses=answers(200, "Chunks by index.", examples.CHUNKS)
    | wrong(
        status=(
            "status",
            "status: Input should be 'pending', 'processing', 'completed' or 'failed'",
        )
    ),
)
async def list_chunks(
    *,
    parts: PartsOf,
    caller: Reader,
    job_id: JobId,
    status: Annotated[ChunkStatus | None, Query(description="Only chunks that are so.")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[ChunkView]:
    """A job's chunks by index, superseded ones too."""
    await found_job(parts, caller, job_id)
    after = int(cursors.load(cursor, int)[0]) if cursor else -1
    async with parts.engine.connect() as connection:
        found = await store.chunks(connection, job_id, status=status, after=after, limit=limit + 1)
    more = cursors.dump(found[limit - 1].chunk_index) if len(found) > limit else None
    return Page(items=tuple(map(chunk_view, found[:limit])), next_cursor=more)


@router.get(
    "/progress",
    summary="Count a job's chunks",
    responses=answers(200, "How many are where now.", examples.CHUNK_PROGRESS),
)
async def get_chunk_progress(parts: PartsOf, caller: Reader, job_id: JobId) -> ChunkProgressView:
    """How many chunks are where; superseded failed ones do not count."""
    return views.chunk_progress_view(await found_job(parts, caller, job_id), parts.now())


@router.get(
    "/{chunk}",
    summary="Get a chunk",
    responses=answers(
        200,
        "The chunk as it is now.",
        {
            "completed": ("One that has completed", examples.CHUNK),
            "failed": ("One that was given up, and why", examples.FAILED_CHUNK),
        },
    ),
)
async def get_chunk(parts: PartsOf, caller: Reader, job_id: JobId, chunk: ChunkName) -> ChunkView:
    """One chunk, by index or by id."""
    await found_job(parts, caller, job_id)
    async with parts.engine.connect() as connection:
        found = await store.chunk(connection, job_id, chunk_index(job_id, chunk))
    if found is None:
        raise not_found(f"chunk {chunk} of job {job_id}")
    return chunk_view(found)


@router.post(
    "/{chunk}/retry",
    status_code=202,
    response_model=ChunkView,
    summary="Retry a chunk",
    responses=answers(
        202,
        "The failed chunk; another will be made of it.",
        examples.FAILED_CHUNK,
        refused={
            409: {
                "completed": Problem(409, "chunk 0 has not failed: it is completed"),
                "retried": Problem(409, "chunk 0 was retried already"),
                "cancelled": Problem(409, "the job is cancelled"),
            }
        },
    ),
)
async def retry_chunk(
    *,
    parts: PartsOf,
    caller: Acting,
    job_id: JobId,
    chunk: ChunkName,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Try a failed chunk again, as a new one: a further round. One that has not failed: 409."""
    await found_job(parts, caller, job_id)
    index = chunk_index(job_id, chunk)
    return accepted(await parts.jobs.retry_chunk(caller, job_id, index, idempotency_key))


@router.post(
    "/{chunk}/give-up",
    status_code=202,
    response_model=ChunkView,
    summary="Give up a chunk",
    responses=answers(
        202,
        "The chunk as it was; it is given up within seconds.",
        examples.WORKING_CHUNK,
        refused={
            409: {
                "ended": Problem(409, "chunk 0 has ended: it is completed"),
                "cancelled": Problem(409, "the job is cancelled"),
            }
        },
    ),
)
async def give_up_chunk(
    *,
    parts: PartsOf,
    caller: Acting,
    job_id: JobId,
    chunk: ChunkName,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Give up a chunk that has not ended: it fails, and the job goes on without it.

    What of it is decided stays, its slot is free for others, and what comes of it later changes
    nothing. A retry makes another chunk of it. One that has ended: 409.
    """
    await found_job(parts, caller, job_id)
    index = chunk_index(job_id, chunk)
    return accepted(await parts.jobs.give_up_chunk(caller, job_id, index, idempotency_key))
