"""Jobs: create, look at, start, extend, retry, cancel, delete."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from pixcrawler.api import cursors, etags, store, views
from pixcrawler.api.auth import Reader, Writer
from pixcrawler.api.parts import Parts, parts_of
from pixcrawler.api.requests import Label, MaxImages, NewJob, Priority, Start
from pixcrawler.api.routes.paths import IdempotencyKey, JobId, Limit, accepted, found_job
from pixcrawler.api.views import JobView, Page, Started, job_view
from pixcrawler.common.events import JobStatus, ProgressView

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

PartsOf = Annotated[Parts, Depends(parts_of)]


@router.post("", status_code=202, response_model=JobView)
async def create(
    parts: PartsOf, caller: Writer, asked: NewJob, idempotency_key: IdempotencyKey = None
) -> Response:
    """Create a job, and start it unless `start` is false.

    Example: `{"keywords": ["red panda"], "max_images": 200}`.
    """
    answer = await parts.jobs.create(caller, asked, idempotency_key)
    response = accepted(answer)
    response.headers["Location"] = f"{router.prefix}/{answer.job_id}"
    return response


@router.get("")
async def list_jobs(
    *,
    parts: PartsOf,
    caller: Reader,
    status: JobStatus | None = None,
    project_id: Label | None = None,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[JobView]:
    """Your jobs, the latest first."""
    before = str(cursors.load(cursor, str)[0]) if cursor else None
    async with parts.engine.connect() as connection:
        found = await store.jobs(
            connection,
            caller.owner,
            status=status,
            project_id=project_id,
            before=before,
            limit=limit + 1,
        )
    more = cursors.dump(found[limit - 1].job_id) if len(found) > limit else None
    return Page(items=tuple(map(job_view, found[:limit])), next_cursor=more)


@router.get("/{job_id}", response_model=JobView, responses=etags.RESPONSES)
async def get(parts: PartsOf, caller: Reader, job_id: JobId, request: Request) -> Response:
    """One job."""
    return etags.answer(request, job_view(await found_job(parts, caller, job_id)))


@router.delete("/{job_id}", status_code=204, response_class=Response)
async def delete(parts: PartsOf, caller: Writer, job_id: JobId) -> None:
    """Cancel a job and forget it: 404 at once; its files go as soon as the work has stopped."""
    await parts.jobs.delete(caller, job_id)


@router.post("/{job_id}/start", status_code=202)
async def start(
    parts: PartsOf, caller: Writer, job_id: JobId, asked: Start | None = None
) -> Started:
    """Start a job; started already: the same answer."""
    return await parts.jobs.start(caller, job_id, asked or Start())


@router.post("/{job_id}/chunks", status_code=202, response_model=JobView)
async def extend(
    *,
    parts: PartsOf,
    caller: Writer,
    job_id: JobId,
    max_images: Annotated[MaxImages, Query(description="By how many images the job grows.")],
    priority: Annotated[Priority | None, Query(description="Of new chunks from now on.")] = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ask for more images: a further round."""
    return accepted(await parts.jobs.extend(caller, job_id, max_images, priority, idempotency_key))


@router.post("/{job_id}/retry", status_code=202, response_model=JobView)
async def retry(
    parts: PartsOf, caller: Writer, job_id: JobId, idempotency_key: IdempotencyKey = None
) -> Response:
    """Try all failed chunks again: a further round."""
    return accepted(await parts.jobs.retry(caller, job_id, idempotency_key))


@router.post("/{job_id}/cancel", status_code=202, response_model=JobView)
async def cancel(
    parts: PartsOf, caller: Writer, job_id: JobId, idempotency_key: IdempotencyKey = None
) -> Response:
    """Stop a job; what was uploaded stays, with an index. A finished one: 409."""
    return accepted(await parts.jobs.cancel(caller, job_id, idempotency_key))


@router.get("/{job_id}/progress", response_model=ProgressView, responses=etags.RESPONSES)
async def progress(parts: PartsOf, caller: Reader, job_id: JobId, request: Request) -> Response:
    """How far a job is. `progress` is kept ÷ requested, in percent, and 100 only at the end."""
    return etags.answer(request, views.progress_view(await found_job(parts, caller, job_id)))
