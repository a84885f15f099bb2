"""What clients see: one value for each kind of answer."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import Field

from pixcrawler.api.store import ChunkCounts, ChunkRecord, JobRecord
from pixcrawler.common.chunk_outcomes import CANCELLED
from pixcrawler.common.documents import StoredFile, Unanswered
from pixcrawler.common.events import ImageTotals, JobStatus, ProgressView, Value
from pixcrawler.common.jobs import Options

ALMOST = 99.9
"""The most that `progress` shows, in percent, before the dataset is there."""

TERMINAL = frozenset({"completed", "incomplete", "failed", "cancelled"})

T = TypeVar("T")


class Page(Value, Generic[T]):
    """A stretch of a list; `next_cursor` is null at its end."""

    items: tuple[T, ...]
    next_cursor: str | None = None


class JobView(Value):
    """A job. Superseded failed chunks do not count; `chunk_progress` is in percent.

    `url_list_id` is there where the job takes its URLs from an uploaded list.
    """

    job_id: str
    project_id: str | None
    name: str
    status: JobStatus
    keywords: tuple[str, ...]
    sources: tuple[str, ...]
    url_list_id: str | None = Field(default=None, exclude_if=lambda value: value is None)
    max_images: int
    priority: int
    options: Options
    total_chunks: int
    active_chunks: int
    completed_chunks: int
    failed_chunks: int
    chunk_progress: float
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    round: int
    webhook_url: str | None


class Started(Value):
    """The answer to `start`: the chunks that the job starts with."""

    job_id: str
    status: JobStatus
    total_chunks: int
    chunk_ids: tuple[str, ...]


class Span(Value):
    """Candidates of a job, counted from 0; both ends are included."""

    start: int
    end: int


class Attempt(Value):
    """One stage's work at one attempt, and the record that carried it."""

    attempt: int
    stage: str = ""
    worker: str = ""
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    state: str = ""
    error: str | None = None
    message: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None


class ChunkView(Value):
    """A chunk. `superseded`: it failed and was retried as another.

    `unanswered`: searches that could not be asked, and why; a later chunk asks them again.
    """

    chunk_id: str
    job_id: str
    index: int
    status: str
    stage: str
    priority: int
    image_range: Span
    attempt: int
    retry_count: int
    retry_of: str | None
    superseded: bool
    error_message: str | None
    images: ImageTotals
    archive: StoredFile | None
    unanswered: tuple[Unanswered, ...] = ()
    created_at: datetime
    updated_at: datetime
    attempts: tuple[Attempt, ...]


class ChunkProgressView(Value):
    """How many chunks are where; `completion_percentage` is ended ÷ total."""

    job_id: str
    total_chunks: int
    pending_chunks: int
    processing_chunks: int
    completed_chunks: int
    failed_chunks: int
    completion_percentage: float
    is_complete: bool
    timestamp: datetime


class DatasetFileView(Value):
    """A file of a dataset: `path` within it, and a link that needs no key until `expires_at`."""

    path: str
    size: int
    sha256: str
    url: str
    expires_at: datetime


class DatasetView(Value):
    """The dataset as of a round; `dataset.json` is the last of its files."""

    job_id: str
    round: int
    status: JobStatus
    images: ImageTotals
    files: tuple[DatasetFileView, ...]


class CapacityView(Value):
    """Slots for chunks over the whole cluster; `utilization` in percent."""

    active_chunks: int
    max_chunks: int
    available: int
    utilization: float
    environment: str
    can_start: bool | None = Field(default=None, exclude_if=lambda value: value is None)


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
