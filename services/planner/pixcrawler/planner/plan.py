"""What to ask of which search: pure arithmetic, no clock, no database.

A stream is one search: a keyword asked of a source. Streams take turns: each chunk's candidates are
dealt evenly over the streams that may still have some, each from its cursor on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from pixcrawler.common.documents import Stream
from pixcrawler.common.events import Slice, Value
from pixcrawler.common.ranges import URLS, Range, cut

YIELD_FLOOR = 0.05
"""Images per candidate that a refill assumes at least, so that a yield of 0 does not explode."""


class Cursor(Value):
    """Where a search goes on: everything before `next_offset` is planned already."""

    source: str
    keyword: str
    next_offset: int = Field(default=0, ge=0)
    exhausted: bool = False

    @property
    def stream(self) -> Stream:
        """Which search."""
        return Stream(source=self.source, keyword=self.keyword)


class PlannedChunk(NamedTuple):
    """A chunk to be made: its candidates, and the searches that give them."""

    range: Range
    slices: tuple[Slice, ...]


class Plan(NamedTuple):
    """Chunks to be made, and where the searches go on after them."""

    chunks: tuple[PlannedChunk, ...]
    cursors: tuple[Cursor, ...]


def streams(sources: Sequence[str], keywords: Sequence[str]) -> tuple[Stream, ...]:
    """Every search of a job, in the order in which they take turns; `urls` is one by itself."""
    found = (
        Stream(source=source, keyword=keyword)
        for source in sources
        for keyword in ([""] if source == URLS else keywords)
    )
    return tuple(dict.fromkeys(found))


def cursors_for(wanted: Iterable[Stream], known: Iterable[Cursor]) -> tuple[Cursor, ...]:
    """A cursor for each search: the known one, else one at the beginning."""
    at = {cursor.stream: cursor for cursor in known}
    return tuple(at.get(s) or Cursor(source=s.source, keyword=s.keyword) for s in wanted)


def mark_exhausted(cursors: Iterable[Cursor], exhausted: Iterable[Stream]) -> tuple[Cursor, ...]:
    """The cursors, those of searches that have no more to give marked."""
    dry = set(exhausted)
    return tuple(
        cursor.model_copy(update={"exhausted": True}) if cursor.stream in dry else cursor
        for cursor in cursors
    )


def rooms(cursors: Iterable[Cursor], urls: int) -> tuple[float, ...]:
    """How many candidates each search may still give: infinite where nobody knows.

    Args:
        cursors: The searches.
        urls: How many URLs the caller brought along.
    """
    return tuple(_room(cursor, urls) for cursor in cursors)


def _room(cursor: Cursor, urls: int) -> float:
    if cursor.exhausted:
        return 0
    return max(urls - cursor.next_offset, 0) if cursor.source == URLS else math.inf


def shares(count: int, order: Sequence[int], room: Sequence[float]) -> Mapping[int, int]:
    """`count` dealt evenly over those in `order`, none more than its room.

    What does not fit one goes to the others; of a remainder that does not divide, the first in
    `order` get one more each.
    """
    given = dict.fromkeys(order, 0)
    left, waiting = count, [i for i in order if room[i] > 0]
    while left and waiting:
        share, extra = divmod(left, len(waiting))
        for turn, i in enumerate(waiting):
            more = int(min(share + (turn < extra), room[i] - given[i]))
            given[i] += more
            left -= more
        waiting = [i for i in waiting if given[i] < room[i]]
    return given


def deal(
    cursors: Sequence[Cursor], count: int, urls: int
) -> tuple[tuple[Slice, ...], tuple[Cursor, ...]]:
    """The slices of one chunk of `count` candidates, and the cursors after it.

    They cover exactly `count`, or as many as there are. The search that was asked for least so far
    comes first when a remainder is dealt.
    """
    order = sorted(range(len(cursors)), key=lambda i: cursors[i].next_offset)
    given = shares(count, order, rooms(cursors, urls))
    slices = tuple(
        Slice(source=c.source, keyword=c.keyword, offset=c.next_offset, limit=given[i])
        for i, c in enumerate(cursors)
        if given[i]
    )
    moved = tuple(
        c.model_copy(update={"next_offset": c.next_offset + given[i]})
        for i, c in enumerate(cursors)
    )
    return slices, moved


def plan_chunks(
    cursors: Sequence[Cursor], start: int, count: int, chunk_size: int, urls: int
) -> Plan:
    """Chunks for `count` more candidates, numbered from `start` on, or for as many as there are."""
    there = int(min(count, sum(rooms(cursors, urls))))
    chunks: list[PlannedChunk] = []
    moved = tuple(cursors)
    for stretch in cut(start, there, chunk_size):
        slices, moved = deal(moved, stretch.size, urls)
        chunks.append(PlannedChunk(stretch, slices))
    return Plan(tuple(chunks), moved)


def pack(slices: Sequence[Slice], start: int, count: int, chunk_size: int) -> Plan:
    """Chunks, numbered from `start` on, for the first `count` candidates of these slices."""
    chunks: list[PlannedChunk] = []
    left = list(slices)
    for stretch in cut(start, min(count, sum(piece.limit for piece in slices)), chunk_size):
        room, inside = stretch.size, []
        while room:
            piece = left.pop(0)
            taken = min(room, piece.limit)
            inside.append(piece.model_copy(update={"limit": taken}))
            room -= taken
            if taken < piece.limit:
                rest = {"offset": piece.offset + taken, "limit": piece.limit - taken}
                left.insert(0, piece.model_copy(update=rest))
        chunks.append(PlannedChunk(stretch, tuple(inside)))
    return Plan(tuple(chunks), ())


def refill_size(*, missing: int, useful: int, tried: int, planned: int) -> int:
    """How many more candidates to ask for.

    Missing ÷ yield, and two standard deviations more, so that few rounds suffice. Where the yield
    is poor it is also little known: then at most as many as were planned so far, or two for each
    missing image.

    Args:
        missing: Images that are still wanted.
        useful: Images that the candidates tried so far gave.
        tried: Candidates tried so far.
        planned: Candidates planned so far.
    """
    share = max(useful / tried, YIELD_FLOOR) if tried else 1.0
    expected = missing / min(share, 1.0)
    asked = math.ceil(expected + 2 * math.sqrt(expected))
    return min(asked, max(planned, 2 * missing))
