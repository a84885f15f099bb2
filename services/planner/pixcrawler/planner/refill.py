"""What to plan when every chunk has ended and images are missing.

First, slices with a valid image that no live claim holds any more: it was surplus, or a duplicate
of an image whose chunk failed later, which released the claim. Such a chunk's slices are run again
as a new chunk; what the old one kept stays, so it is not superseded. The verdicts of the last run
of a slice say whether it is worth another, so a run that gained nothing is not repeated; what fails
again and again is bounded by the budget.

Then, more candidates of the searches that can be asked (see `gaps.py`): chunks none of whose
searches could be asked are retried, gaps are closed, and after that it goes on where the searches
stopped. When all of them rest, the round closes: the next stretch of the same searches would fare
no better, each for minutes. In the next round they are asked anew.

Searches that operators have paused are not planned. Where only they may have more, the round waits.
"""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from pixcrawler.common.documents import Stream, Verdicts
from pixcrawler.common.events import Slice
from pixcrawler.common.outcomes import VALID, Outcome
from pixcrawler.planner import facts, gaps, plan
from pixcrawler.planner.facts import Reason
from pixcrawler.planner.plan import Cursor
from pixcrawler.planner.store import ChunkRow, Details, Held, JobRow, NewChunk

NO_VALID_IMAGES = "no_valid_images"
"""The error of a chunk in which nothing at all is a valid image: a retry would not help."""


class Unkept(NamedTuple):
    """A valid image that its chunk did not keep: its sha256 in hex, the URL kept instead."""

    sha256: str
    duplicate_of: str


class Refill(NamedTuple):
    """Chunks to be made and the cursors after them; without any, the reason to close.

    `waits`: nothing to be made and no reason to close, for now.
    """

    chunks: tuple[NewChunk, ...]
    cursors: tuple[Cursor, ...]
    reason: Reason
    waits: bool = False


def unkept(verdicts: Verdicts) -> tuple[Unkept, ...]:
    """The valid images that a chunk did not keep."""
    return tuple(
        Unkept(verdict.sha256, verdict.duplicate_of)
        for verdict in verdicts.items
        if verdict.outcome in VALID and verdict.outcome is not Outcome.KEPT
    )


def count_lost(images: Sequence[Unkept], held: Held) -> int:
    """How many of them no live claim holds: neither themselves nor what was kept instead."""
    return len(
        {
            image.sha256
            for image in images
            if image.sha256 not in held.sha256 and image.duplicate_of not in held.urls
        }
    )


def suspects(chunks: Sequence[ChunkRow], details: Mapping[str, Details]) -> tuple[str, ...]:
    """Completed chunks that may have lost an image, by their counts: the last run of each slice."""
    released = any(chunk.status == "failed" and chunk.attempt > 0 for chunk in chunks)
    return tuple(
        run.chunk_id
        for run in _last_runs(chunks, details)
        if run.images is not None and _may_have_lost(run.images.dropped, released=released)
    )


def _may_have_lost(dropped: Mapping[str, int], *, released: bool) -> bool:
    duplicates = dropped.get(Outcome.DUPLICATE, 0) + dropped.get(Outcome.NEAR_DUPLICATE, 0)
    return bool(dropped.get(Outcome.SURPLUS, 0)) or (released and bool(duplicates))


def _last_runs(chunks: Sequence[ChunkRow], details: Mapping[str, Details]) -> list[ChunkRow]:
    """Of the chunks with the same slices the last that completed.

    None of them where a later one found no valid image.
    """
    runs: dict[str, ChunkRow | None] = {}
    for chunk in chunks:
        key = json.dumps([piece.model_dump() for piece in details[chunk.chunk_id].slices])
        if chunk.status == "completed":
            runs[key] = chunk
        elif chunk.error == NO_VALID_IMAGES:
            runs[key] = None
    return [chunk for chunk in runs.values() if chunk is not None]


def dry_streams(chunks: Sequence[ChunkRow], details: Mapping[str, Details]) -> frozenset[Stream]:
    """Searches that have no more to give: as results said, or as an empty chunk shows."""
    said = {stream for detail in details.values() for stream in detail.exhausted}
    empty = (
        {gaps.stream_of(piece) for piece in details[chunk.chunk_id].slices}
        - {owed.stream for owed in chunk.unanswered}
        for chunk in chunks
        if chunk.status == "completed" and chunk.images and chunk.images.candidates == 0
    )
    return frozenset(said.union(*empty))


def plan_refill(
    job: JobRow,
    chunks: Sequence[ChunkRow],
    cursors: Sequence[Cursor],
    details: Mapping[str, Details],
    lost: Mapping[str, int],
    *,
    since: datetime | None = None,
    rest_s: float = math.inf,
    paused: Collection[str] = (),
) -> Refill:
    """What to plan next, within the budget.

    Args:
        job: What was asked for.
        chunks: All of the job's chunks; every one has ended.
        cursors: Where the searches go on.
        details: The slices of each chunk, and the searches found dry.
        lost: How many images completed chunks have lost (see `count_lost`), by chunk id.
        since: When the round began; None: all chunks are of this round.
        rest_s: Seconds after which searches that rest are worth a try where there are no others.
        paused: Sources that are not to be asked.
    """
    missing = job.max_images - facts.kept(chunks)
    if missing <= 0:
        return Refill((), tuple(cursors), "reached")
    planned = facts.spent(chunks)
    room = int(job.refill_factor * job.max_images) - planned
    tired = gaps.resting(chunks, details, since)
    rested = frozenset(
        stream for stream, at in tired.items() if (job.now - at).total_seconds() >= rest_s
    )
    held = frozenset(c.stream for c in cursors if c.stream.source in paused)
    again = _run_again(chunks, details, lost, missing, room, resting=tired.keys() | held)
    if again:
        return Refill(again, tuple(cursors), "budget")
    cursors = plan.mark_exhausted(cursors, dry_streams(chunks, details))
    supply = _supply(job, chunks, cursors, details)
    if not supply:
        if not any(lost.values()):
            return Refill((), cursors, "exhausted")
        waits = bool(_run_again(chunks, details, lost, missing, room, resting=tired.keys()))
        return Refill((), cursors, "unavailable" if tired else "budget", waits)
    tiring = tired.keys() - rested
    awake = supply.without(tired.keys() | held) or supply.without(tiring | held)
    if not awake:
        return Refill((), cursors, "unavailable", waits=room > 0 and bool(supply.without(tiring)))
    useful, tried = facts.yielded(chunks)
    size = plan.refill_size(missing=missing, useful=useful, tried=tried, planned=planned)
    start = max((chunk.range.end + 1 for chunk in chunks), default=0)
    new, moved = _plan(job, awake, details, start=start, size=size, room=room)
    at = {cursor.stream: cursor for cursor in moved}
    return Refill(new, tuple(at.get(cursor.stream, cursor) for cursor in cursors), "budget")


class _Supply(NamedTuple):
    """Where candidates may come from: chunks to be retried, gaps, and searches with more to give.

    `away` has the chunks with their searches.
    """

    away: tuple[tuple[ChunkRow, frozenset[Stream]], ...]
    gaps: tuple[Slice, ...]
    cursors: tuple[Cursor, ...]

    def __bool__(self) -> bool:
        return any(self)

    def without(self, resting: Collection[Stream]) -> "_Supply":
        """What there is without these searches."""
        return _Supply(
            tuple(one for one in self.away if not one[1].issubset(resting)),
            tuple(gap for gap in self.gaps if gaps.stream_of(gap) not in resting),
            tuple(cursor for cursor in self.cursors if cursor.stream not in resting),
        )


def _supply(
    job: JobRow,
    chunks: Sequence[ChunkRow],
    cursors: Sequence[Cursor],
    details: Mapping[str, Details],
) -> _Supply:
    rooms = plan.rooms(cursors, job.urls)
    away = (
        (chunk, frozenset(map(gaps.stream_of, details[chunk.chunk_id].slices)))
        for chunk in gaps.unavailable(chunks)
    )
    return _Supply(
        tuple(away),
        gaps.gaps(chunks, details),
        tuple(cursor for cursor, left in zip(cursors, rooms, strict=True) if left),
    )


def _plan(
    job: JobRow,
    supply: _Supply,
    details: Mapping[str, Details],
    *,
    start: int,
    size: int,
    room: int,
) -> tuple[tuple[NewChunk, ...], tuple[Cursor, ...]]:
    """About `size` candidates, `room` at most, what is owed first; and the cursors after them."""
    new: list[NewChunk] = []
    for chunk, _ in supply.away:
        if size > 0 and chunk.range.size <= room:
            new.append(NewChunk(chunk.range, details[chunk.chunk_id].slices, chunk.chunk_id))
            size -= chunk.range.size
            room -= chunk.range.size
    left = max(min(size, room), 0)
    owed = plan.pack(supply.gaps, start, left, job.chunk_size).chunks
    taken = sum(chunk.range.size for chunk in owed)
    more = plan.plan_chunks(supply.cursors, start + taken, left - taken, job.chunk_size, job.urls)
    new += [NewChunk(*chunk) for chunk in (*owed, *more.chunks)]
    return tuple(new), more.cursors


def _run_again(
    chunks: Sequence[ChunkRow],
    details: Mapping[str, Details],
    lost: Mapping[str, int],
    missing: int,
    room: int,
    *,
    resting: Collection[Stream],
) -> tuple[NewChunk, ...]:
    """Chunks that have lost images, those with the most first, until what is missing is covered."""
    again: list[NewChunk] = []
    for chunk in sorted(chunks, key=lambda c: -lost.get(c.chunk_id, 0)):
        found = lost.get(chunk.chunk_id, 0)
        if missing <= 0 or not found:
            break
        slices = details[chunk.chunk_id].slices
        rests = not set(resting).isdisjoint(map(gaps.stream_of, slices))
        if chunk.range.size <= room and not rests:
            again.append(NewChunk(chunk.range, slices))
            missing -= found
            room -= chunk.range.size
    return tuple(again)


def retries(
    chunks: Sequence[ChunkRow],
    details: Mapping[str, Details],
    asked: Sequence[Sequence[str] | None],
) -> tuple[NewChunk, ...]:
    """The chunks that requests to retry make, each failed chunk once.

    Args:
        chunks: All of the job's chunks.
        details: Their slices.
        asked: For each request the chunks that it names, None for all that have failed.
    """
    done = facts.superseded(chunks)
    return tuple(
        NewChunk(chunk.range, details[chunk.chunk_id].slices, chunk.chunk_id)
        for chunk in chunks
        if chunk.status == "failed"
        and chunk.chunk_id not in done
        and any(named is None or chunk.chunk_id in named for named in asked)
    )
