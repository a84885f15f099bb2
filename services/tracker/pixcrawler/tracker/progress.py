"""A job's progress as a join-semilattice: events may come twice, late, or in any order.

`merge` joins one event into a state; `view` and `revision` read it. A job's state holds

- the greatest facts that the planner (or a `job.finished`) has told, ordered by what only grows:
  round, closed round, chunks planned, chunks ended;
- the greatest `job.finished`;
- for every chunk that the facts do not call ended, the greatest of each number its events told.

A chunk that has ended is absorbed by the facts, whatever else comes about it. So a table that was
overwritten by an older one heals with the next `job.planned`, which carries the whole truth.
"""

from collections.abc import Mapping
from datetime import datetime

from pydantic import Field

from pixcrawler.common import bitmaps
from pixcrawler.common.events import (
    ChunkDownloaded,
    ChunkEvent,
    ChunkFailed,
    ChunkPlanned,
    ChunkProgress,
    ChunkUploaded,
    ChunkValidated,
    Event,
    ImageTotals,
    JobCancelled,
    JobCreated,
    JobFacts,
    JobFinished,
    JobPlanned,
    JobStatus,
    ProgressImages,
    ProgressView,
    Revision,
    Value,
)

ENDED_WEIGHT = 1_000_000_000
"""What one ended chunk adds to the last number of a revision: more than a live one ever can."""

ALMOST = 99.9
"""The most that `progress` shows, in percent, before the dataset is there."""


class LiveChunk(Value):
    """A chunk that the facts do not call ended: the greatest of each number that its events told.

    `planned` and `failed` are attempts; `uploaded` means that its result is there.
    """

    planned: int = 0
    failed: int = 0
    uploaded: bool = False
    done: int = 0
    images: ImageTotals = ImageTotals()


class JobState(Value):
    """What the tracker knows of a job."""

    round: int = 0
    facts: JobFacts | None = None
    finished: JobFacts | None = None
    live: dict[int, LiveChunk] = Field(default_factory=dict)
    deleted: bool = False


EMPTY = JobState()


def merge(state: JobState, event: Event) -> JobState:
    """The join of a state and what an event says: idempotent, commutative, associative."""
    match event:
        case JobCreated():
            return join(state, JobState(round=event.round))
        case JobCancelled():
            return join(state, JobState(deleted=event.deleted))
        case JobPlanned():
            return join(state, JobState(round=event.round, facts=event.facts()))
        case JobFinished():
            facts = JobFacts.model_validate(event.model_dump(exclude={"job_id", "dataset"}))
            # The images of the planner's facts count chunks, those of the index count URLs: only
            # the finished state shows the latter.
            return join(state, JobState(round=event.round, facts=facts, finished=facts))
        case ChunkEvent():
            return join(state, JobState(live={event.index: _told(event)}))
        case _:
            return state


def join(one: JobState, other: JobState) -> JobState:
    """The least state that says everything that either says."""
    facts = max((one.facts, other.facts), key=_facts_order)
    finished = max((one.finished, other.finished), key=_facts_order)
    ended = _ended(facts)
    live = dict(one.live)
    for index, chunk in other.live.items():
        live[index] = _join_chunks(live[index], chunk) if index in live else chunk
    return JobState(
        round=max(one.round, other.round),
        facts=facts,
        finished=finished,
        live={i: chunk for i, chunk in sorted(live.items()) if not ended >> i & 1},
        deleted=one.deleted or other.deleted,
    )


def is_finished(state: JobState) -> bool:
    """Whether the latest round's dataset is there."""
    return state.finished is not None and state.finished.closed_round >= _round(state)


def revision(state: JobState) -> Revision:
    """Grows with the state; compared as a tuple."""
    facts = state.facts or _NOTHING
    live = sum(_weight(chunk) for chunk in state.live.values())
    ended = bitmaps.from_ranges(facts.completed).bit_count() + (
        bitmaps.from_ranges(facts.failed).bit_count()
        + bitmaps.from_ranges(facts.superseded).bit_count()
    )
    return (
        state.finished.closed_round if state.finished else 0,
        _round(state),
        facts.closed_round,
        facts.total_chunks,
        ended * ENDED_WEIGHT + live,
    )


def view(job_id: str, state: JobState, now: datetime) -> ProgressView:
    """The progress object of the API."""
    finished = is_finished(state)
    facts = (state.finished if finished else state.facts) or _NOTHING
    superseded = bitmaps.from_ranges(facts.superseded)
    uploaded = bitmaps.from_indices(i for i, chunk in state.live.items() if chunk.uploaded)
    completed = (bitmaps.from_ranges(facts.completed) | uploaded).bit_count()
    failed = (bitmaps.from_ranges(facts.failed) & ~superseded).bit_count()
    total = max(facts.total_chunks - superseded.bit_count(), completed + failed)
    working = sum(c.planned > c.failed and not c.uploaded for c in state.live.values())
    active = 0 if finished else min(working, total - completed - failed)
    images = _images(facts, {} if finished else state.live)
    return ProgressView(
        job_id=job_id,
        status=_status(facts, finished=finished, active=active, ended=completed + failed),
        progress=_percent(images, facts, finished=finished),
        total_chunks=total,
        pending_chunks=total - completed - failed - active,
        active_chunks=active,
        completed_chunks=completed,
        failed_chunks=failed,
        chunk_progress=round(100 * (completed + failed) / total, 1) if total else 0.0,
        images=images,
        started_at=facts.started_at,
        finished_at=facts.closed_at if finished else None,
        eta_s=None if finished else _eta(images, facts, now),
        updated_at=now,
    )


_NOTHING = JobFacts(round=0, closed_round=0, status="pending", total_chunks=0, requested=0, kept=0)


def _round(state: JobState) -> int:
    return max(state.round, state.facts.round if state.facts else 0)


def _facts_order(facts: JobFacts | None) -> tuple[int, int, int, int, bool, bool, str]:
    """What only grows comes first; the rest makes the order total, so that joins commute."""
    if facts is None:
        return (-1, 0, 0, 0, False, False, "")
    ended = bitmaps.from_ranges(facts.completed) | bitmaps.from_ranges(facts.failed)
    return (
        facts.round,
        facts.closed_round,
        facts.total_chunks,
        ended.bit_count() + bitmaps.from_ranges(facts.superseded).bit_count(),
        facts.status != "pending",
        facts.started_at is not None,
        facts.model_dump_json(),
    )


def _ended(facts: JobFacts | None) -> int:
    if facts is None:
        return 0
    return bitmaps.from_ranges(facts.completed) | bitmaps.from_ranges(facts.failed)


def _told(event: ChunkEvent) -> LiveChunk:  # noqa: PLR0911 - one line per kind of event
    match event:
        case ChunkPlanned():
            return LiveChunk(planned=event.attempt)
        case ChunkFailed():
            return LiveChunk(planned=event.attempt, failed=event.attempt)
        case ChunkProgress():
            return LiveChunk(planned=event.attempt, done=event.done, images=event.images)
        case ChunkDownloaded():
            totals = ImageTotals(
                candidates=event.candidates, downloaded=event.downloaded, bytes=event.bytes
            )
            return LiveChunk(planned=event.attempt, images=totals)
        case ChunkValidated():
            return LiveChunk(planned=event.attempt, images=event.images)
        case ChunkUploaded():
            return LiveChunk(planned=event.attempt, uploaded=True, images=event.images)
        case _:
            return LiveChunk()


def _join_chunks(one: LiveChunk, other: LiveChunk) -> LiveChunk:
    return LiveChunk(
        planned=max(one.planned, other.planned),
        failed=max(one.failed, other.failed),
        uploaded=one.uploaded or other.uploaded,
        done=max(one.done, other.done),
        images=_join_totals(one.images, other.images),
    )


def _join_totals(one: ImageTotals, other: ImageTotals) -> ImageTotals:
    reasons = sorted(one.dropped.keys() | other.dropped.keys())
    return ImageTotals(
        candidates=max(one.candidates, other.candidates),
        downloaded=max(one.downloaded, other.downloaded),
        valid=max(one.valid, other.valid),
        dropped={r: max(one.dropped.get(r, 0), other.dropped.get(r, 0)) for r in reasons},
        bytes=max(one.bytes, other.bytes),
    )


def _weight(chunk: LiveChunk) -> int:
    images = chunk.images
    told = chunk.planned + chunk.failed + chunk.done + images.candidates + images.downloaded
    told += images.valid + sum(images.dropped.values()) + ENDED_WEIGHT // 2 * chunk.uploaded
    return min(told, ENDED_WEIGHT - 1)


def _images(facts: JobFacts, live: Mapping[int, LiveChunk]) -> ProgressImages:
    """Ended chunks from the facts, the others as far as they told.

    `valid` and `bytes` count what is kept, so only chunks that have completed: what is not packed
    yet may still be dropped, and the number shown must not fall.
    """
    totals = facts.images
    dropped = dict(totals.dropped)
    packed = [chunk.images for chunk in live.values() if chunk.uploaded]
    for chunk in live.values():
        for reason, count in chunk.images.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return ProgressImages(
        requested=facts.requested,
        candidates=totals.candidates + sum(c.images.candidates for c in live.values()),
        downloaded=totals.downloaded + sum(c.images.downloaded for c in live.values()),
        valid=totals.valid + sum(images.valid for images in packed),
        dropped={reason: count for reason, count in sorted(dropped.items()) if count},
        bytes=totals.bytes + sum(images.bytes for images in packed),
    )


def _status(facts: JobFacts, *, finished: bool, active: int, ended: int) -> JobStatus:
    if finished:
        return facts.status
    return "running" if active or ended or facts.status == "running" else "pending"


def _percent(images: ProgressImages, facts: JobFacts, *, finished: bool) -> float:
    if not facts.requested:
        return 0.0
    percent = round(100 * images.valid / facts.requested, 1)
    return min(percent, 100.0 if finished else ALMOST)


def _eta(images: ProgressImages, facts: JobFacts, now: datetime) -> float | None:
    """Seconds left if the rest goes as the job went so far; None while nothing is known."""
    if facts.started_at is None or not images.valid or not facts.requested:
        return None
    elapsed = max((now - facts.started_at).total_seconds(), 0.0)
    missing = max(facts.requested - images.valid, 0)
    return round(elapsed * missing / images.valid, 1)
