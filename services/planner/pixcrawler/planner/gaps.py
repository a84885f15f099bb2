"""What searches could not be asked: which of them rest, and what is left to ask.

A chunk whose searches could not all be asked goes on with those that answered, and names the slices
of the others (`unanswered`). Such a search rests: nothing more is planned of it in this round while
others can give candidates. What it owes is a gap in its stretch, which is asked before anything
beyond it; so nothing is skipped for ever.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from pixcrawler.common.controls import PAUSED_MARK
from pixcrawler.common.documents import Stream, Unanswered
from pixcrawler.common.events import Slice
from pixcrawler.planner import facts
from pixcrawler.planner.store import ChunkRow, Details

Known = Mapping[str, Details]
"""The slices of each chunk, and the searches that it found to be dry, by chunk id."""


def stream_of(piece: Slice) -> Stream:
    """Which search a slice belongs to."""
    return Stream(source=piece.source, keyword=piece.keyword)


def resting(
    chunks: Sequence[ChunkRow], details: Known, since: datetime | None
) -> dict[Stream, datetime]:
    """Searches that could not be asked when a chunk tried last, and when that was known.

    Not those that were paused then: nothing is wrong with them.

    Args:
        chunks: Of a job; a retried one is its retry's matter.
        details: Of them.
        since: When the round began: what was known before has to be found out again.
    """
    last: dict[Stream, datetime | None] = {}
    ended = [(c.ended_at, c.index, c) for c in facts.counting(chunks) if c.ended_at is not None]
    for at, _, chunk in sorted(ended, key=lambda one: one[:2]):
        if (since is not None and at < since) or not _tells_of_searches(chunk):
            continue
        gone = {stream_of(piece) for piece in _owed(chunk, details) if not _paused(piece)}
        for piece in details[chunk.chunk_id].slices:
            last[stream_of(piece)] = at if stream_of(piece) in gone else None
    return {stream: at for stream, at in last.items() if at is not None}


def _tells_of_searches(chunk: ChunkRow) -> bool:
    """Whether it got as far as asking them; one that failed before says nothing of them."""
    pinned = chunk.images is not None and chunk.images.candidates > 0
    return chunk.status == "completed" or chunk.unavailable or pinned


def _owed(chunk: ChunkRow, details: Known) -> Sequence[Slice]:
    return details[chunk.chunk_id].slices if chunk.unavailable else chunk.unanswered


def _paused(piece: Slice) -> bool:
    return isinstance(piece, Unanswered) and piece.reason.startswith(PAUSED_MARK)


def unavailable(chunks: Sequence[ChunkRow]) -> tuple[ChunkRow, ...]:
    """Chunks that were given up because none of their searches could be asked: to be retried."""
    return tuple(chunk for chunk in facts.counting(chunks) if chunk.unavailable)


def gaps(chunks: Sequence[ChunkRow], details: Known) -> tuple[Slice, ...]:
    """What chunks left unanswered and no later chunk has asked again, by search and offset.

    A chunk that failed is its own retry's matter, and so are its slices. Nothing is left where a
    search is known to have ended before.
    """
    open_: dict[Stream, list[tuple[int, int]]] = {}
    for chunk in sorted(facts.counting(chunks), key=lambda chunk: chunk.index):
        for piece in details[chunk.chunk_id].slices:
            stretches = open_.setdefault(stream_of(piece), [])
            stretches[:] = _without(stretches, piece.offset, piece.offset + piece.limit)
        for owed in chunk.unanswered:
            open_[stream_of(owed)].append((owed.offset, owed.offset + owed.limit))
    ends = _ends(chunks, details)
    return tuple(
        Slice(source=stream.source, keyword=stream.keyword, offset=first, limit=last - first)
        for stream, stretches in open_.items()
        for first, end in sorted(stretches)
        if (last := min(end, ends.get(stream, end))) > first
    )


def _without(stretches: Iterable[tuple[int, int]], first: int, end: int) -> list[tuple[int, int]]:
    """The stretches without what lies from `first` to before `end`."""
    return [
        (a, b)
        for start, stop in stretches
        for a, b in ((start, min(stop, first)), (max(start, end), stop))
        if b > a
    ]


def _ends(chunks: Iterable[ChunkRow], details: Known) -> dict[Stream, int]:
    """Offsets beyond which searches are known to have nothing."""
    ends: dict[Stream, int] = {}
    for chunk in chunks:
        known = details[chunk.chunk_id]
        for stream in known.exhausted:
            asked = [p.offset + p.limit for p in known.slices if stream_of(p) == stream]
            if asked:
                ends[stream] = min(max(asked), ends.get(stream, max(asked)))
    return ends
