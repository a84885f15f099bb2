"""What clients see: one value for each kind of answer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, Field

from pixcrawler.api.situations import Held
from pixcrawler.api.store import ChunkCounts, ChunkRecord, ChunkStatus, JobRecord
from pixcrawler.common.chunk_outcomes import CANCELLED
from pixcrawler.common.controls import Kind
from pixcrawler.common.documents import StoredFile, Unanswered
from pixcrawler.common.events import ImageTotals, JobStatus, ProgressView, Value
from pixcrawler.common.jobs import Options

ALMOST = 99.9
"""The most that `progress` shows, in percent, before the dataset is there."""

TERMINAL = frozenset({"completed", "incomplete", "failed", "cancelled"})

T = TypeVar("T")


class View(Value):
    """What clients see: the words below a field are its description."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Page(View, Generic[T]):
    """A stretch of a list.

    Here words below a field would be looked for anew for each `T`, in vain and in all modules
    that there are: a seventh of the api's start.
    """

    model_config = ConfigDict(
        use_attribute_docstrings=False, json_schema_extra={"description": "A stretch of a list."}
    )

    items: tuple[T, ...] = Field(description="In the list's order.")
    next_cursor: str | None = Field(
        default=None,
        description="Pass it as `cursor` for what follows; null at the end of the list.",
    )


class JobView(View):
    """A job. Failed chunks that were retried as others do not count."""

    job_id: str
    """A UUID; a later job's is greater."""
    project_id: str | None
    """As it was given, for your own bookkeeping."""
    name: str
    """For people."""
    status: JobStatus
    """`pending` (not started, or waiting for a slot), `running`, or how the latest round ended:
    `completed` (everything asked for), `incomplete` (some), `failed` (nothing), `cancelled`."""
    keywords: tuple[str, ...]
    """What is looked for."""
    sources: tuple[str, ...]
    """Where; see `GET /v1/sources`."""
    url_list_id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """The uploaded list that the URLs come from; only where there is one."""
    max_images: int
    """How many images are asked for, over keywords and sources, extensions included."""
    priority: int
    """Of chunks that are planned from now on: 0 to 10, higher goes first."""
    options: Options
    """How images are chosen and packed."""
    total_chunks: int
    """Chunks planned so far."""
    active_chunks: int
    """Of them, those that hold a slot."""
    completed_chunks: int
    """Of them, those that ended well."""
    failed_chunks: int
    """Of them, those that were given up."""
    chunk_progress: float
    """Ended ÷ total chunks, in percent; 0 where there is none."""
    created_at: datetime
    """When it was created."""
    started_at: datetime | None
    """When it was started; null before."""
    finished_at: datetime | None
    """When its latest round ended; null while it is open."""
    round: int
    """1 from the start on; every extend and retry adds one. 0: not started."""
    webhook_url: str | None
    """Who is told of the end of each round."""


class Started(View):
    """The answer to `start`: the chunks that the job starts with."""

    job_id: str
    """The job."""
    status: JobStatus
    """`pending`: its chunks wait for slots."""
    total_chunks: int
    """How many chunks the first round asks for."""
    chunk_ids: tuple[str, ...]
    """Their ids, by index."""


class Span(View):
    """Candidates of a job, counted from 0; both ends are included."""

    start: int
    """The first."""
    end: int
    """The last."""


class Attempt(View):
    """One stage's work at one attempt, and the record that carried it."""

    attempt: int
    """Which admission of the chunk, from 1."""
    stage: str = ""
    """`downloader`, `validator` or `uploader`."""
    worker: str = ""
    """The replica."""
    topic: str = ""
    """Of the record."""
    partition: int | None = None
    """Likewise."""
    offset: int | None = None
    """Likewise."""
    state: str = ""
    """How far it came, such as `done`, `failed` or `lost`."""
    error: str | None = None
    """Why it failed, a short word."""
    message: str = ""
    """Why it failed, in words."""
    started_at: datetime | None = None
    """When the stage began."""
    ended_at: datetime | None = None
    """When it ended; null while it works."""


class ChunkView(View):
    """A chunk: some 500 candidates that go through the stages together."""

    chunk_id: str
    """`<job_id>-<index>`, the index with five digits or more."""
    job_id: str
    """Its job."""
    index: int
    """Within the job, from 0."""
    status: ChunkStatus
    """`pending` (waits for a slot), `processing`, `completed` or `failed`; both are for good."""
    stage: str
    """The last one reached: `downloader`, `validator` or `uploader`; empty before."""
    priority: int
    """0 to 10; higher goes first."""
    image_range: Span
    """Which candidates of the job it has."""
    attempt: int
    """How often it got a slot."""
    retry_count: int
    """How often it was tried again after a failure."""
    retry_of: str | None
    """The failed chunk that it stands for."""
    superseded: bool
    """It failed and was retried as another chunk."""
    error_message: str | None
    """Why it failed or is tried again, in words; `cancelled` if its job was."""
    images: ImageTotals
    """What became of its candidates."""
    archive: StoredFile | None
    """The ZIP or tar with what was kept; null where there is nothing in it, or not yet."""
    unanswered: tuple[Unanswered, ...] = ()
    """Searches that could not be asked, and why; a later chunk asks them again."""
    created_at: datetime
    """When it was planned."""
    updated_at: datetime
    """When it last changed."""
    attempts: tuple[Attempt, ...]
    """What each stage did, attempt by attempt."""


class ChunkProgressView(View):
    """How many chunks are where. Failed chunks that were retried as others do not count."""

    job_id: str
    """The job."""
    total_chunks: int
    """Chunks planned so far."""
    pending_chunks: int
    """Of them, those that wait for a slot."""
    processing_chunks: int
    """Of them, those that hold one."""
    completed_chunks: int
    """Of them, those that ended well."""
    failed_chunks: int
    """Of them, those that were given up."""
    completion_percentage: float
    """Ended ÷ total, in percent; 0 where there is none."""
    is_complete: bool
    """The job is finished."""
    timestamp: datetime
    """When this was counted."""


class DatasetFileView(View):
    """A file of a dataset."""

    path: str
    """Within the dataset."""
    size: int
    """In bytes."""
    sha256: str
    """In hex, of the whole file."""
    url: str
    """Where to fetch it; no key is needed, and ranges are served."""
    expires_at: datetime
    """Until when the link works; ask again for another."""


class DatasetView(View):
    """The dataset as of a round."""

    job_id: str
    """The job."""
    round: int
    """The latest round that is over."""
    status: JobStatus
    """How it ended."""
    images: ImageTotals
    """What became of all candidates of the job."""
    files: tuple[DatasetFileView, ...]
    """All of them; `dataset.json`, which lists the others, is the last."""


class Share(View):
    """What an owner has of the capacity, and what waits for it."""

    owner: str
    """Whose jobs."""
    active_chunks: int
    """Slots in use."""
    share: float
    """Of all slots that there are, in percent."""
    waiting_chunks: int
    """Chunks that wait for a slot."""
    next_place: int | None
    """Where the first of those stands in the line, from 1; null if none waits."""
    resting_chunks: int
    """Chunks that wait for another try after a failure, and not yet for a slot."""
    open_jobs: int
    """Jobs that were started and are not finished."""
    oldest_wait_s: float | None
    """Seconds for which the longest of the waiting chunks has waited; null if none waits."""


class CapacityView(View):
    """Slots for chunks over the whole cluster."""

    active_chunks: int
    """In use."""
    max_chunks: int
    """There are."""
    available: int
    """Free."""
    utilization: float
    """In use ÷ there are, in percent."""
    environment: str
    """Which cluster this is (`PIXCRAWLER_RESOURCE_ENVIRONMENT`)."""
    can_start: bool | None = Field(default=None, exclude_if=lambda value: value is None)
    """Whether `required_chunks` are free; only where that was asked."""
    owners: tuple[Share, ...] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Who uses it, most slots first; only where that was asked."""


class Holding(View):
    """Who has a chunk that holds a slot."""

    worker: str
    """The replica that told of it last in this stage; empty while none has."""
    stage: str
    """`downloader`, `validator` or `uploader`."""
    chunk_id: str
    """The chunk."""
    job_id: str
    """Its job."""
    index: int
    """Within the job, from 0."""
    attempt: int
    """How often it got a slot."""
    since: datetime
    """When the stage had its input."""
    last_seen_at: datetime
    """The last sign of life."""
    silent_s: float
    """Seconds since then."""
    deadline_at: datetime | None
    """Without a further one it is planned again at this time; null while its stage is paused."""


def holding_view(held: Held, now: datetime) -> Holding:
    """A chunk that holds a slot, as clients see it."""
    silent = max((now - held.last_seen_at).total_seconds(), 0.0)
    return Holding(**held.model_dump(exclude={"takebacks"}), silent_s=round(silent, 1))


class ControlView(View):
    """Whether operators have stopped something, and why."""

    kind: Kind
    """`stage`, `source` or `replica`."""
    name: str
    """Which."""
    paused: bool
    """Whether it is paused; a replica: drained."""
    since: datetime | None
    """Since when, if it is."""
    reason: str
    """Why, in the words of whoever did it."""


class ReplicaView(View):
    """A replica of a stage, as it told of itself last."""

    stage: str
    """Which stage."""
    worker: str
    """Its name."""
    state: str
    """`working`, `paused`, `draining`, `drained`, or `halted` by dead letters."""
    in_hand: int
    """Pieces of work that it has in hand."""
    started_at: datetime
    """When it was started."""
    seen_at: datetime
    """When it told so; it does every five seconds."""
    alive: bool
    """Whether that was within half a minute."""


class AuditLine(View):
    """Something that somebody did."""

    id: int
    """Of the line; a later one has a greater id."""
    at: datetime
    """When."""
    owner: str
    """Whose thing it was done to; empty: the whole system's."""
    actor: str
    """Whose key it was done with; empty: at the desk, by a command on the database itself."""
    key_id: str
    """The public part of that key."""
    action: str
    """What was done, such as `job.cancel`; new ones may come."""
    subject: str
    """To what: the id of a job, a chunk or a key, or a name."""
    job_id: str | None
    """The job that it is about, if it is about one."""
    details: Mapping[str, Any]
    """What changed: a number or text, or an object of `before` and `after`."""
    reason: str
    """Why, in the words of whoever did it."""


def job_view(job: JobRecord) -> JobView:
    """A job as clients see it."""
    finished = job.status in TERMINAL and job.progress is not None
    return JobView(
        job_id=job.job_id,
        project_id=job.project_id,
        name=job.name,
        status=job.status,
        keywords=job.keywords,
        sources=job.sources,
        url_list_id=job.url_list_id,
        max_images=job.max_images,
        priority=job.priority,
        options=job.options,
        total_chunks=job.chunks.total,
        active_chunks=job.chunks.processing,
        completed_chunks=job.chunks.completed,
        failed_chunks=job.chunks.failed,
        chunk_progress=ended_percent(job.chunks),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.progress.finished_at if finished and job.progress else None,
        round=job.round,
        webhook_url=job.webhook_url,
    )


def progress_view(job: JobRecord) -> ProgressView:
    """A job's progress as the tracker shows it.

    Right after a round was asked for the tracker may still show the last one as finished: then the
    status is that of the new round, and what only the end may say is taken back.
    """
    shown = job.progress or ProgressView(job_id=job.job_id, status="pending")
    if shown.images.requested and shown.status == job.status:
        return shown
    requested = job.max_images if job.status != shown.status else shown.images.requested
    images = shown.images.model_copy(update={"requested": requested or job.max_images})
    if job.status in TERMINAL:
        return shown.model_copy(update={"images": images})
    percent = min(round(100 * images.valid / images.requested, 1), ALMOST)
    return shown.model_copy(
        update={
            "status": job.status,
            "progress": percent,
            "images": images,
            "started_at": shown.started_at or job.started_at,
            "finished_at": None,
            "eta_s": None,
        }
    )


def completed(shown: ProgressView, job: JobRecord) -> ProgressView:
    """What the tracker says, with what it cannot know before the planner has told it."""
    if shown.images.requested:
        return shown
    images = shown.images.model_copy(update={"requested": job.max_images})
    return shown.model_copy(
        update={"images": images, "started_at": shown.started_at or job.started_at}
    )


def chunk_view(chunk: ChunkRecord) -> ChunkView:
    """A chunk as clients see it."""
    return ChunkView(
        chunk_id=chunk.chunk_id,
        job_id=chunk.job_id,
        index=chunk.chunk_index,
        status=chunk.status,
        stage=chunk.stage,
        priority=chunk.priority,
        image_range=Span.model_validate(chunk.image_range),
        attempt=chunk.attempt,
        retry_count=chunk.retry_count,
        retry_of=chunk.retry_of,
        superseded=chunk.superseded,
        error_message=CANCELLED if chunk.error == CANCELLED else chunk.error_message or chunk.error,
        images=chunk.images or ImageTotals(),
        archive=chunk.archive,
        unanswered=chunk.unanswered,
        created_at=chunk.created_at,
        updated_at=chunk.updated_at,
        attempts=tuple(map(_attempt, chunk.attempts)),
    )


def chunk_progress_view(job: JobRecord, now: datetime) -> ChunkProgressView:
    """The counts of a job's chunks."""
    return ChunkProgressView(
        job_id=job.job_id,
        total_chunks=job.chunks.total,
        pending_chunks=job.chunks.pending,
        processing_chunks=job.chunks.processing,
        completed_chunks=job.chunks.completed,
        failed_chunks=job.chunks.failed,
        completion_percentage=ended_percent(job.chunks),
        is_complete=job.status in TERMINAL,
        timestamp=now,
    )


def ended_percent(chunks: ChunkCounts) -> float:
    """Ended ÷ total, 0 where there is none."""
    ended = chunks.completed + chunks.failed
    return round(100 * ended / chunks.total, 1) if chunks.total else 0.0


def _attempt(step: Mapping[str, Any]) -> Attempt:
    return Attempt.model_validate(step)
