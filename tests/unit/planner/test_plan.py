import math

from hypothesis import given, settings
from hypothesis import strategies as st

from pixcrawler.common.documents import Stream
from pixcrawler.common.events import Slice
from pixcrawler.common.ranges import URLS, Range
from pixcrawler.planner.plan import (
    Cursor,
    cursors_for,
    deal,
    mark_exhausted,
    plan_chunks,
    refill_size,
    rooms,
    streams,
)

cursors = st.lists(
    st.builds(
        Cursor,
        source=st.sampled_from(["openverse", "commons"]),
        keyword=st.text("abc", min_size=1, max_size=3),
        next_offset=st.integers(0, 2000),
        exhausted=st.booleans(),
    )
    | st.builds(Cursor, source=st.just(URLS), keyword=st.just(""), next_offset=st.integers(0, 300)),
    max_size=6,
    unique_by=lambda c: c.stream,
)


def test_streams_take_turns() -> None:
    """Each keyword is asked of each source; a list of URLs is one search by itself."""
    assert streams(["commons", URLS], ["cat", "dog", "cat"]) == (
        Stream(source="commons", keyword="cat"),
        Stream(source="commons", keyword="dog"),
        Stream(source=URLS, keyword=""),
    )


def test_first_chunk_is_dealt_evenly() -> None:
    """500 candidates over two keywords are 250 each, from the beginning."""
    plan = plan_chunks(cursors_for(streams(["commons"], ["cat", "dog"]), []), 0, 500, 500, 0)
    assert plan.chunks == (
        (
            Range(0, 499),
            (
                Slice(source="commons", keyword="cat", offset=0, limit=250),
                Slice(source="commons", keyword="dog", offset=0, limit=250),
            ),
        ),
    )
    assert [c.next_offset for c in plan.cursors] == [250, 250]


@settings(deadline=None)  # a busy machine is no bug
@given(cursors, st.integers(0, 2000), st.integers(0, 400))
def test_slices_cover_the_range_exactly(some: list[Cursor], count: int, urls: int) -> None:
    """A chunk's slices hold as many candidates as its range, or as many as there are."""
    slices, moved = deal(some, count, urls)
    assert sum(s.limit for s in slices) == min(count, sum(rooms(some, urls)))
    assert all(s.limit > 0 for s in slices)
    for before, after in zip(some, moved, strict=True):
        mine = [s for s in slices if (s.source, s.keyword) == (before.source, before.keyword)]
        assert after.next_offset == before.next_offset + sum(s.limit for s in mine)
        assert all(s.offset == before.next_offset for s in mine)
        assert not (before.exhausted and mine)
        assert before.source != URLS or after.next_offset <= max(urls, before.next_offset)


@settings(deadline=None)  # a busy machine is no bug
@given(cursors, st.integers(0, 900))
def test_turns_are_fair(some: list[Cursor], count: int) -> None:
    """Of searches without a known end none gives more than one candidate more than another."""
    slices, _ = deal(some, count, 0)
    limits = {(s.source, s.keyword): s.limit for s in slices}
    shares = [
        limits.get((c.source, c.keyword), 0) for c in some if not c.exhausted and c.source != URLS
    ]
    assert not shares or max(shares) - min(shares) <= 1


@settings(deadline=None)  # a busy machine is no bug
@given(
    cursors,
    st.integers(0, 10_000),
    st.integers(0, 3000),
    st.integers(1, 700),
    st.integers(0, 400),
)
def test_plan_covers_exactly(
    some: list[Cursor], start: int, count: int, size: int, urls: int
) -> None:
    """Chunks continue the numbering without gap, and no search is asked twice for one candidate."""
    plan = plan_chunks(some, start, count, size, urls)
    there = min(count, sum(rooms(some, urls)))
    numbers = [n for c in plan.chunks for n in range(c.range.start, c.range.end + 1)]
    assert numbers == [*range(start, start + int(there))]
    asked = [
        (s.source, s.keyword, n)
        for c in plan.chunks
        for s in c.slices
        for n in range(s.offset, s.offset + s.limit)
    ]
    assert len(asked) == len(set(asked)) == len(numbers)
    assert all(sum(s.limit for s in c.slices) == c.range.size <= size for c in plan.chunks)


@settings(deadline=None)  # a busy machine is no bug
@given(cursors, st.integers(0, 900), st.integers(0, 400), st.integers(1, 300))
def test_planning_on_continues(some: list[Cursor], first: int, second: int, size: int) -> None:
    """A refill goes on exactly where the searches stopped."""
    one = plan_chunks(some, 0, first, size, 10_000)
    two = plan_chunks(one.cursors, first, second, size, 10_000)
    for before, between, after in zip(some, one.cursors, two.cursors, strict=True):
        assert before.next_offset <= between.next_offset <= after.next_offset
    asked = [
        (s.source, s.keyword, n)
        for c in (*one.chunks, *two.chunks)
        for s in c.slices
        for n in range(s.offset, s.offset + s.limit)
    ]
    assert len(asked) == len(set(asked))


def test_known_cursors_are_kept() -> None:
    """A search goes on at its cursor; a search that ran dry gives nothing more."""
    known = [Cursor(source="commons", keyword="cat", next_offset=40)]
    merged = cursors_for(streams(["commons"], ["cat", "dog"]), known)
    assert [c.next_offset for c in merged] == [40, 0]
    dry = mark_exhausted(merged, [Stream(source="commons", keyword="cat")])
    slices, _ = deal(dry, 10, 0)
    assert [(s.keyword, s.limit) for s in slices] == [("dog", 10)]


@settings(deadline=None)  # a busy machine is no bug
@given(
    st.integers(1, 10_000),
    st.integers(0, 5000),
    st.integers(0, 5000),
    st.integers(0, 50_000),
)
def test_refill_is_sensible(missing: int, useful: int, more: int, planned: int) -> None:
    """A refill asks for something, at least what is missing, and never explodes."""
    size = refill_size(missing=missing, useful=useful, tried=useful + more, planned=planned)
    assert missing <= size <= max(planned, 2 * missing)


def test_refill_follows_the_yield() -> None:
    """With 60 images of 100 candidates, 200 missing images take a bit more than 333 candidates."""
    assert 333 < refill_size(missing=200, useful=300, tried=500, planned=500) < 400
    assert refill_size(missing=500, useful=0, tried=500, planned=500) == 1000


@settings(deadline=None)  # a busy machine is no bug
@given(st.integers(1, 2000), st.floats(0.1, 1.0))
def test_refill_converges(wanted: int, share: float) -> None:
    """At a steady yield the number is reached in a handful of rounds and hardly overshot."""
    tried = wanted
    rounds = 0
    while (kept := math.floor(tried * share)) < wanted:
        tried += refill_size(missing=wanted - kept, useful=kept, tried=tried, planned=tried)
        rounds += 1
    assert rounds <= 8
    assert tried <= wanted / share * 1.5 + 60
