"""What to plan when every chunk has ended and images are missing.

First, slices with a valid image that no live claim holds any more: it was surplus, or a duplicate
of an image whose chunk failed later, which released the claim. Such a chunk's slices are run again
as a new chunk; what the old one kept stays, so it is not superseded. The verdicts of the last run
of a slice say whether it is worth another, so a run that gained nothing is not repeated; what fails
again and again is bounded by the budget.

Then, more candidates from where the searches stopped: unless the chunk that ended last was given up
because its sources did not answer. The next stretch of the same searches would fare no better, each
for minutes, until the budget is gone; a retry, once they answer, has the whole budget.
"""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pixcrawler.common.documents import Stream, Verdicts
from pixcrawler.common.outcomes import VALID, Outcome
from pixcrawler.planner import facts, plan
from pixcrawler.planner.facts import Reason
from pixcrawler.planner.plan import Cursor
from pixcrawler.planner.store import ChunkRow, Details, Held, JobRow, NewChunk

NO_VALID_IMAGES = "no_valid_images"
"""The error of a chunk in which nothing at all is a valid image: a retry would not help."""


SOURCE_UNAVAILABLE = "source_unavailable"
"""The error of a chunk whose searches could not be asked, as the downloader names it."""


class Unkept(NamedTuple):
    """A valid image that its chunk did not keep: its sha256 in hex, the URL kept instead."""

    sha256: str
    duplicate_of: str


class Refill(NamedTuple):
    """Chunks to be made and the cursors after them; without any, the reason to close."""

    chunks: tuple[NewChunk, ...]
    cursors: tuple[Cursor, ...]
    reason: Reason


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
        Stream(source=piece.source, keyword=piece.keyword)
        for chunk in chunks
        if chunk.status == "completed" and chunk.images and chunk.images.candidates == 0
        for piece in details[chunk.chunk_id].slices
    )
    return frozenset(said.union(empty))


def plan_refill(
    job: JobRow,
    chunks: Sequence[ChunkRow],
    cursors: Sequence[Cursor],
    details: Mapping[str, Details],
    lost: Mapping[str, int],
) -> Refill:
    """What to plan next, within the budget.

    Args:
        job: What was asked for.
        chunks: All of the job's chunks; every one has ended.
        cursors: Where the searches go on.
        details: The slices of each chunk, and the searches found dry.
        lost: How many images completed chunks have lost (see `count_lost`), by chunk id.
    """
    missing = job.max_images - facts.kept(chunks)
    if missing <= 0:
        return Refill((), tuple(cursors), "reached")
    planned = facts.spent(chunks)
    room = int(job.refill_factor * job.max_images) - planned
    again = _run_again(chunks, details, lost, missing, room)
    if again:
        return Refill(again, tuple(cursors), "budget")
    cursors = plan.mark_exhausted(cursors, dry_streams(chunks, details))
    if not any(plan.rooms(cursors, job.urls)):
        return Refill((), tuple(cursors), "budget" if any(lost.values()) else "exhausted")
    if _sources_are_away(chunks):
        return Refill((), tuple(cursors), "unavailable")
    useful, tried = facts.yielded(chunks)
    size = plan.refill_size(missing=missing, useful=useful, tried=tried, planned=planned)
    start = max((chunk.range.end + 1 for chunk in chunks), default=0)
    more = plan.plan_chunks(cursors, start, max(min(size, room), 0), job.chunk_size, job.urls)
    return Refill(tuple(NewChunk(*c) for c in more.chunks), more.cursors, "budget")


def _sources_are_away(chunks: Sequence[ChunkRow]) -> bool:
    """Whether that is the latest that is known of them; a retried chunk is its retry's matter."""
    ended = [chunk for chunk in facts.counting(chunks) if chunk.ended_at is not None]
    last = max(ended, key=lambda chunk: (chunk.ended_at, chunk.index), default=None)
    return last is not None and last.status == "failed" and last.error == SOURCE_UNAVAILABLE


def _run_again(
    chunks: Sequence[ChunkRow],
    details: Mapping[str, Details],
    lost: Mapping[str, int],
    missing: int,
    room: int,
) -> tuple[NewChunk, ...]:
    """Chunks that have lost images, those with the most first, until what is missing is covered."""
    again: list[NewChunk] = []
    for chunk in sorted(chunks, key=lambda c: -lost.get(c.chunk_id, 0)):
        found = lost.get(chunk.chunk_id, 0)
        if missing <= 0 or not found:
            break
        if chunk.range.size <= room:
            again.append(NewChunk(chunk.range, details[chunk.chunk_id].slices))
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
