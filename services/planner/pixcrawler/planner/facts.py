"""What is said of a job, computed from its chunks: the same rows give the same facts."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from pixcrawler.common import bitmaps
from pixcrawler.common.events import ImageTotals, JobFacts, JobStatus
from pixcrawler.common.outcomes import Outcome
from pixcrawler.planner.store import Book, ChunkRow, JobRow

Reason = Literal["reached", "exhausted", "budget", "unavailable", "cancelled"]


def superseded(chunks: Iterable[ChunkRow]) -> frozenset[str]:
    """Failed chunks that were retried: history, they no longer count."""
    return frozenset(chunk.retry_of for chunk in chunks if chunk.retry_of is not None)


def counting(chunks: Sequence[ChunkRow]) -> tuple[ChunkRow, ...]:
    """The chunks that are not superseded."""
    history = superseded(chunks)
    return tuple(chunk for chunk in chunks if chunk.chunk_id not in history)


def kept(chunks: Iterable[ChunkRow]) -> int:
    """Images kept by completed chunks."""
    return sum(c.images.valid for c in chunks if c.status == "completed" and c.images)


def spent(chunks: Sequence[ChunkRow]) -> int:
    """Candidates planned so far; those of a retried chunk are its retry's.

    Not those whose searches could not be asked: nothing was spent on them.
    """
    return sum(chunk.range.size - _unasked(chunk) for chunk in counting(chunks))


def _unasked(chunk: ChunkRow) -> int:
    if chunk.unavailable:
        return chunk.range.size
    return sum(owed.limit for owed in chunk.unanswered)


def images(chunks: Sequence[ChunkRow]) -> ImageTotals:
    """Totals over ended chunks that are not superseded."""
    ended = [chunk.images for chunk in counting(chunks) if chunk.images is not None]
    dropped: Counter[str] = Counter()
    for one in ended:
        dropped.update(one.dropped)
    return ImageTotals(
        candidates=sum(one.candidates for one in ended),
        downloaded=sum(one.downloaded for one in ended),
        valid=sum(one.valid for one in ended),
        dropped={outcome: n for outcome, n in sorted(dropped.items()) if n},
        bytes=sum(one.bytes for one in ended),
    )


def yielded(chunks: Sequence[ChunkRow]) -> tuple[int, int]:
    """(good images that were new, candidates that were judged) so far: the yield's two halves."""
    totals = images(chunks)
    dropped = totals.dropped
    unjudged = dropped.get(Outcome.FAILED, 0) + dropped.get(Outcome.CANCELLED, 0)
    return totals.valid + dropped.get(Outcome.SURPLUS, 0), totals.candidates - unjudged


def present(job: JobRow, book: Book, chunks: Sequence[ChunkRow]) -> JobFacts:
    """The facts of an open round."""
    return _facts(
        job,
        chunks,
        closed_round=book.closed_round,
        status="running" if _is_running(book, chunks) else "pending",
    )


def _is_running(book: Book, chunks: Iterable[ChunkRow]) -> bool:
    """Whether anything of the round was worked on; once it was, that stays so."""
    if book.facts is not None and book.facts.status == "running":
        return True
    return any(
        chunk.attempt > 0
        and (chunk.open or (chunk.ended_at is not None and chunk.ended_at >= book.opened_at))
        for chunk in chunks
    )


def closing(job: JobRow, chunks: Sequence[ChunkRow], reason: Reason) -> JobFacts:
    """The facts that close the job's latest round, for ever."""
    return _facts(
        job, chunks, closed_round=job.round, status=_status(job, chunks, reason), reason=reason
    )


def _status(job: JobRow, chunks: Sequence[ChunkRow], reason: Reason) -> JobStatus:
    if reason == "cancelled":
        return "cancelled"
    images_kept = kept(chunks)
    if images_kept >= job.max_images:
        return "completed"
    return "incomplete" if images_kept else "failed"


def _facts(
    job: JobRow,
    chunks: Sequence[ChunkRow],
    *,
    closed_round: int,
    status: JobStatus,
    reason: str = "",
) -> JobFacts:
    history = superseded(chunks)
    return JobFacts(
        round=job.round,
        closed_round=closed_round,
        status=status,
        reason=reason,
        total_chunks=len(chunks),
        completed=_ranges(c for c in chunks if c.status == "completed"),
        failed=_ranges(c for c in chunks if c.status == "failed"),
        superseded=_ranges(c for c in chunks if c.chunk_id in history),
        requested=job.max_images,
        kept=kept(chunks),
        images=images(chunks),
        created_at=job.created_at,
        started_at=job.started_at,
        closed_at=job.now if reason else None,
    )


def _ranges(chunks: Iterable[ChunkRow]) -> str:
    return bitmaps.to_ranges(bitmaps.from_indices(chunk.index for chunk in chunks))
