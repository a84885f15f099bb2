"""Jobs: create, look at, start, extend, retry, cancel, delete."""

from typing import Annotated, get_args

from fastapi import APIRouter, Body, Query, Response

from pixcrawler.api import cursors, etags, examples, explanations, store, views
from pixcrawler.api.auth import Acting, Reader, Writer
from pixcrawler.api.explanations import Explanation
from pixcrawler.api.openapi import answers, too_much, wrong
from pixcrawler.api.parts import PartsOf
from pixcrawler.api.problems import Problem, not_found
from pixcrawler.api.requests import Change, Label, MaxImages, NewJob, Priority, Start
from pixcrawler.api.routes.paths import Cursor, IdempotencyKey, JobId, Limit, accepted, found_job
from pixcrawler.api.situations import situation
from pixcrawler.api.views import JobView, Page, Started, job_view
from pixcrawler.common import names
from pixcrawler.common.events import JobStatus, ProgressView

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


*_FIRST, _LAST = map(repr, get_args(JobStatus))
_STATUSES = f"{', '.join(_FIRST)} or {_LAST}"


@router.post(
    "",
    status_code=202,
    response_model=JobView,
    summary="Create a job",
    responses=answers(202, "The job is stored.", examples.JOB, headers=["Location"])
    | wrong(
        priority=("priority", "priority must be between 0 and 10"),
        max_images=("max_images", "max_images must be positive"),
        keywords=("keywords", "keywords must not be empty"),
        source=(
            "sources.0",
            "sources: 'altavista' is unknown; choose from openverse, commons, urls",
        ),
    )
    | too_much(
        active_jobs=(10, "you may have 10 jobs at a time that are not finished, and have as many"),
        images_per_day=(
            5000,
            "you may ask for 5000 images in 24 hours; with these it would be 5200",
        ),
    ),
)
async def create_job(
    parts: PartsOf,
    caller: Writer,
    asked: Annotated[NewJob, Body(openapi_examples=examples.bodies(examples.NEW_JOBS))],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Create a job, and start it unless `start` is false.

    A job looks for `keywords` in `sources`, or takes `urls` of your own, and keeps exactly
    `max_images` images that are valid and unlike each other, if there are as many.
    """
    answer = await parts.jobs.create(caller, asked, idempotency_key)
    response = accepted(answer)
    response.headers["Location"] = f"{router.prefix}/{answer.job_id}"
    return response


@router.get(
    "",
    summary="List jobs",
    responses=answers(200, "Jobs, the latest first.", examples.JOBS)
    | wrong(status=("status", f"status: Input should be {_STATUSES}")),
)
async def list_jobs(
    *,
    parts: PartsOf,
    caller: Reader,
    status: Annotated[JobStatus | None, Query(description="Only jobs that are so.")] = None,
    project_id: Annotated[
        Label | None, Query(description="Only jobs that were created with this `project_id`.")
    ] = None,
    cursor: Cursor = None,
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


@router.get(
    "/{job_id}",
    response_model=JobView,
    summary="Get a job",
    responses=answers(200, "The job as it is now.", examples.FINISHED, headers=["ETag"])
    | etags.RESPONSES,
)
async def get_job(
    parts: PartsOf, caller: Reader, job_id: JobId, known: etags.Known = ""
) -> Response:
    """One job."""
    return etags.answer(known, job_view(await found_job(parts, caller, job_id)))


@router.patch(
    "/{job_id}",
    summary="Change a job's priority",
    responses=answers(
        200,
        "The job as it is now.",
        examples.PRIORITIZED,
        refused={
            409: {
                "finished": Problem(409, "the job is finished"),
                "cancelled": Problem(409, "the job is cancelled"),
            }
        },
    )
    | wrong(priority=("priority", "priority must be between 0 and 10")),
)
async def change_job(
    parts: PartsOf,
    caller: Acting,
    job_id: JobId,
    asked: Annotated[Change, Body(openapi_examples=examples.bodies(examples.JOB_CHANGES))],
) -> JobView:
    """Change a job's priority while it is not over: its chunks that wait move in the line.

    That takes a second or two. Chunks in progress go on as they are.
    """
    return job_view(await parts.jobs.prioritize(caller, job_id, asked.priority))


@router.delete(
    "/{job_id}",
    status_code=204,
    response_class=Response,
    summary="Delete a job",
    responses=answers(204, "It is gone."),
)
async def delete_job(parts: PartsOf, caller: Acting, job_id: JobId) -> None:
    """Cancel a job and forget it: 404 at once; its files go as soon as the work has stopped."""
    await parts.jobs.delete(caller, job_id)


@router.post(
    "/{job_id}/start",
    status_code=202,
    summary="Start a job",
    responses=answers(
        202,
        "It is started, or was already: then the same answer.",
        examples.STARTED,
        refused={
            409: {
                "room": Problem(
                    409,
                    "Insufficient capacity: 4 chunks are needed, 1 of 35 are available",
                    title="Insufficient capacity",
                ),
                "cancelled": Problem(409, "the job is cancelled"),
            }
        },
    )
    | wrong(
        sources=("sources", "urls must not be empty for the source urls"),
    ),
)
async def start_job(
    parts: PartsOf,
    caller: Writer,
    job_id: JobId,
    asked: Annotated[Start | None, Body(openapi_examples=examples.bodies(examples.STARTS))] = None,
    *,
    wait: Annotated[
        bool,
        Query(
            description="False: not at all if there is no room now (409). The same as `wait` of "
            "the body, for those who send none; false in one of the two is enough."
        ),
    ] = True,
) -> Started:
    """Start a job that was created with `start` false, and tell its first chunks.

    With `wait` false it starts only if there is room for its chunks now, else it waits for slots.
    """
    asked = asked or Start()
    wanted = asked.model_copy(update={"wait": asked.wait and wait})
    return await parts.jobs.start(caller, job_id, wanted)


@router.post(
    "/{job_id}/chunks",
    status_code=202,
    response_model=JobView,
    summary="Extend a job",
    responses=answers(
        202,
        "The job, which asks for more now.",
        examples.EXTENDED,
        refused={409: {"cancelled": Problem(409, "the job is cancelled")}},
    )
    | wrong(
        max_images=("max_images", "max_images must be positive"),
        priority=("priority", "priority must be between 0 and 10"),
    )
    | too_much(
        images_per_day=(
            5000,
            "you may ask for 5000 images in 24 hours; with these it would be 5200",
        ),
    ),
)
async def extend_job(
    *,
    parts: PartsOf,
    caller: Acting,
    job_id: JobId,
    max_images: Annotated[
        MaxImages,
        Query(description="By how many images the job grows; at least 1.", examples=[100]),
    ],
    priority: Annotated[
        Priority | None,
        Query(description="Of all its chunks that wait, from now on: 0 to 10, higher goes first."),
    ] = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Ask for more images: `max_images` grows by this, in a further round."""
    return accepted(await parts.jobs.extend(caller, job_id, max_images, priority, idempotency_key))


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=JobView,
    summary="Retry a job",
    responses=answers(
        202,
        "The job, which tries them again now.",
        examples.RETRIED,
        refused={
            409: {
                "nothing": Problem(409, "no chunk of this job has failed"),
                "cancelled": Problem(409, "the job is cancelled"),
            }
        },
    ),
)
async def retry_job(
    parts: PartsOf, caller: Acting, job_id: JobId, idempotency_key: IdempotencyKey = None
) -> Response:
    """Try all failed chunks again, as new ones: a further round."""
    return accepted(await parts.jobs.retry(caller, job_id, idempotency_key))


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    response_model=JobView,
    summary="Cancel a job",
    responses=answers(
        202,
        "The job, which stops now.",
        examples.CANCELLING,
        refused={409: {"finished": Problem(409, "the job is finished")}},
    ),
)
async def cancel_job(
    parts: PartsOf, caller: Acting, job_id: JobId, idempotency_key: IdempotencyKey = None
) -> Response:
    """Stop a job; what was uploaded stays, with an index. A finished one: 409."""
    return accepted(await parts.jobs.cancel(caller, job_id, idempotency_key))


@router.get(
    "/{job_id}/progress",
    response_model=ProgressView,
    summary="Get a job's progress",
    responses=answers(200, "How far it is now.", examples.PROGRESS, headers=["ETag"])
    | etags.RESPONSES,
)
async def get_progress(
    parts: PartsOf, caller: Reader, job_id: JobId, known: etags.Known = ""
) -> Response:
    """How far a job is; zeros right after its creation. To follow it, `GET …/events` is better."""
    return etags.answer(known, views.progress_view(await found_job(parts, caller, job_id)))


@router.get(
    "/{job_id}/explanation",
    summary="Explain a job",
    responses=answers(200, "Why it is not done, or how it ended.", examples.EXPLANATION),
)
async def explain_job(parts: PartsOf, caller: Reader, job_id: JobId) -> Explanation:
    """Why a job is not done, or how it ended: the most important reason first."""
    settings = parts.settings
    async with parts.engine.connect() as connection:
        # All that is read is of one moment, or a chunk could be seen twice or not at all.
        await connection.execution_options(isolation_level="REPEATABLE READ")
        job = await store.job(connection, caller.owner, job_id)
        if job is None:
            raise not_found(f"job {job_id}")
        told = await situation(connection, job, settings.chunk_deadline_s)
    stored = explanations.is_closing(told) and await parts.blobs.stat(
        names.dataset_index(job_id, job.round)
    )
    return explanations.explain(told, capacity=settings.max_chunks, dataset_is_there=bool(stored))
