"""The chunks of a job."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from pixcrawler.api import cursors, store, views
from pixcrawler.api.auth import Reader, Writer
from pixcrawler.api.parts import Parts, parts_of
from pixcrawler.api.problems import not_found
from pixcrawler.api.routes.paths import (
    ChunkName,
    IdempotencyKey,
    JobId,
    Limit,
    accepted,
    chunk_index,
    found_job,
)
from pixcrawler.api.views import ChunkProgressView, ChunkView, Page, chunk_view

router = APIRouter(prefix="/v1/jobs/{job_id}/chunks", tags=["chunks"])

PartsOf = Annotated[Parts, Depends(parts_of)]
ChunkStatus = Literal["pending", "processing", "completed", "failed"]


@router.get("")
async def list_chunks(
    *,
    parts: PartsOf,
    caller: Reader,
    job_id: JobId,
    status: ChunkStatus | None = None,
    cursor: str | None = None,
    limit: Limit = 100,
) -> Page[ChunkView]:
    """A job's chunks by index, superseded ones too."""
    await found_job(parts, caller, job_id)
    after = int(cursors.load(cursor, int)[0]) if cursor else -1
    async with parts.engine.connect() as connection:
        found = await store.chunks(connection, job_id, status=status, after=after, limit=limit + 1)
    more = cursors.dump(found[limit - 1].chunk_index) if len(found) > limit else None
    return Page(items=tuple(map(chunk_view, found[:limit])), next_cursor=more)


@router.get("/progress")
async def chunk_progress(parts: PartsOf, caller: Reader, job_id: JobId) -> ChunkProgressView:
    """How many chunks are where; superseded failed ones do not count."""
    return views.chunk_progress_view(await found_job(parts, caller, job_id), parts.now())


@router.get("/{chunk}")
async def get_chunk(parts: PartsOf, caller: Reader, job_id: JobId, chunk: ChunkName) -> ChunkView:
    """One chunk, by index or by id."""
    await found_job(parts, caller, job_id)
    async with parts.engine.connect() as connection:
        found = await store.chunk(connection, job_id, chunk_index(job_id, chunk))
    if found is None:
        raise not_found(f"chunk {chunk} of job {job_id}")
    return chunk_view(found)


@router.post("/{chunk}/retry", status_code=202, response_model=ChunkView)
async def retry_chunk(
    *,
    parts: PartsOf,
    caller: Writer,
    job_id: JobId,
    chunk: ChunkName,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Try a failed chunk again, as a new one: a further round. One that has not failed: 409."""
    await found_job(parts, caller, job_id)
    index = chunk_index(job_id, chunk)
    return accepted(await parts.jobs.retry_chunk(caller, job_id, index, idempotency_key))
