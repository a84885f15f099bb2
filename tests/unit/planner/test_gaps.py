"""What searches owe: gaps, and rests."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from pixcrawler.common import ids
from pixcrawler.common.documents import Stream, Unanswered
from pixcrawler.common.events import ImageTotals, Slice
from pixcrawler.common.ranges import Range
from pixcrawler.planner import facts, gaps, plan, refill
from pixcrawler.planner.plan import Cursor
from pixcrawler.planner.store import ChunkRow, Details
from tests.unit.planner.test_refill import JOB, NOW, job

CAT = Stream(source="commons", keyword="cat")
OPEN = Stream(source="openverse", keyword="cat")


def piece(stream: Stream, offset: int, limit: int) -> Slice:
    return Slice(source=stream.source, keyword=stream.keyword, offset=offset, limit=limit)


def owed(one: Slice) -> Unanswered:
    return Unanswered(**one.model_dump(), reason="away")


def chunk(
    index: int,
    slices: Sequence[Slice],
    unanswered: Sequence[Slice] = (),
    *,
    valid: int = 0,
    status: str = "completed",
    error: str | None = None,
    retry_of: str | None = None,
    ended_at: datetime = NOW,
) -> tuple[ChunkRow, Details]:
    size = sum(one.limit for one in slices)
    gone = sum(one.limit for one in unanswered)
    candidates = 0 if status == "failed" else size - gone
    row = ChunkRow(
        chunk_id=ids.chunk_id(JOB, index),
        index=index,
        status=status,
        attempt=1,
        retry_of=retry_of,
        error=error,
        range=Range(1000 * index, 1000 * index + size - 1),
        images=ImageTotals(candidates=candidates, valid=valid),
        ended_at=ended_at,
        unanswered=tuple(map(owed, unanswered)),
    )
    return row, Details(slices=tuple(slices))


def known(*made: tuple[ChunkRow, Details]) -> tuple[list[ChunkRow], dict[str, Details]]:
    return [row for row, _ in made], {row.chunk_id: details for row, details in made}


def both(offset: int, limit: int) -> tuple[Slice, Slice]:
    return piece(OPEN, offset, limit), piece(CAT, offset, limit)


CURSORS = (
    Cursor(source="openverse", keyword="cat", next_offset=50),
    Cursor(source="commons", keyword="cat", next_offset=50),
)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(1, 30), st.booleans()), min_size=1, max_size=12
    )
)
def test_gaps_are_what_was_not_answered_since(asked: list[tuple[int, int, bool]]) -> None:
    """The union of what was unanswered minus what was asked later; never less, never more."""
    made, expected = [], set[int]()
    for index, (offset, limit, answered) in enumerate(asked):
        one = piece(CAT, offset, limit)
        made.append(chunk(index, [one], [] if answered else [one]))
        expected -= set(range(offset, offset + limit))
        expected |= set() if answered else set(range(offset, offset + limit))
    found = gaps.gaps(*known(*made))
    covered = [place for gap in found for place in range(gap.offset, gap.offset + gap.limit)]
    assert sorted(covered) == sorted(expected)
    packed = plan.pack(found, 7, 10_000, 9)
    assert [s for c in packed.chunks for s in c.slices if not s.limit] == []
    again = [
        p for c in packed.chunks for s in c.slices for p in range(s.offset, s.offset + s.limit)
    ]
    assert again == covered
    assert all(sum(s.limit for s in c.slices) == c.range.size <= 9 for c in packed.chunks)


def test_nothing_is_owed_beyond_the_end() -> None:
    """Where a search is known to have ended, what lies behind is no gap."""
    first, details = chunk(0, [piece(CAT, 0, 40)])
    chunks, by_id = known(
        (first, details.model_copy(update={"exhausted": (CAT,)})),
        chunk(1, [piece(CAT, 40, 20)], [piece(CAT, 40, 20)]),
    )
    assert gaps.gaps(chunks, by_id) == ()


def test_a_search_that_did_not_answer_rests_in_its_round() -> None:
    """The refill asks the others, and comes back to the gap in the next round."""
    chunks, details = known(chunk(0, both(0, 50), [piece(OPEN, 0, 50)], valid=40))
    began = NOW - timedelta(minutes=1)
    more = refill.plan_refill(job(100), chunks, CURSORS, details, {}, since=began)
    assert {gaps.stream_of(s) for c in more.chunks for s in c.slices} == {CAT}
    assert more.cursors[0] == CURSORS[0]
    assert more.cursors[1].next_offset > 50

    later = NOW + timedelta(minutes=1)
    more = refill.plan_refill(job(100), chunks, CURSORS, details, {}, since=later)
    assert more.chunks[0].slices == (piece(OPEN, 0, 50),)


def test_answering_again_ends_the_rest() -> None:
    """What a later chunk heard of a search counts, and its gap is closed first."""
    soon = NOW + timedelta(seconds=5)
    chunks, details = known(
        chunk(0, both(0, 25), [piece(OPEN, 0, 25)]),
        chunk(1, both(25, 25), valid=40, ended_at=soon),
    )
    assert gaps.resting(chunks, details, None) == {}
    more = refill.plan_refill(job(100), chunks, CURSORS, details, {})
    assert more.chunks[0].slices[0] == piece(OPEN, 0, 25)


def test_when_all_searches_rest_the_round_closes() -> None:
    """One rests, the other is dry: there is nobody to ask, which is not the end of all supply."""
    row, about = chunk(0, both(0, 50), [piece(OPEN, 0, 50)], valid=10)
    chunks, details = known((row, about.model_copy(update={"exhausted": (CAT,)})))
    more = refill.plan_refill(job(100), chunks, CURSORS, details, {})
    assert (more.chunks, more.reason) == ((), "unavailable")


def test_a_long_rest_is_worth_another_try() -> None:
    """When only resting searches are left, and others took long enough meanwhile."""
    row, about = chunk(0, both(0, 50), [piece(OPEN, 0, 50)], valid=10)
    chunks, details = known((row, about.model_copy(update={"exhausted": (CAT,)})))
    now = job(100).model_copy(update={"now": NOW + timedelta(seconds=301)})
    more = refill.plan_refill(now, chunks, CURSORS, details, {}, rest_s=300.0)
    assert more.chunks[0].slices == (piece(OPEN, 0, 50),)


def test_unanswered_candidates_cost_nothing() -> None:
    """The budget counts what could be asked."""
    chunks, _ = known(
        chunk(0, both(0, 50), [piece(OPEN, 0, 50)]),
        chunk(1, both(50, 50), status="failed", error="source_unavailable"),
        chunk(2, both(100, 50), status="failed", error="deadline"),
    )
    assert facts.spent(chunks) == 50 + 0 + 100


def test_a_chunk_without_any_answer_is_retried_by_the_next_round() -> None:
    """As a retry with the same slices, once, before anything new is asked for."""
    chunks, details = known(
        chunk(0, both(0, 25), status="failed", error="source_unavailable"),
        chunk(1, both(25, 25), valid=40),
    )
    later = NOW + timedelta(minutes=1)
    more = refill.plan_refill(job(100), chunks, CURSORS, details, {}, since=later)
    assert (more.chunks[0].retry_of, more.chunks[0].slices) == (chunks[0].chunk_id, both(0, 25))
    assert [c.retry_of for c in more.chunks[1:]].count(chunks[0].chunk_id) == 0
    retried = known(
        *zip(chunks, details.values(), strict=True),
        chunk(2, both(0, 25), valid=20, retry_of=chunks[0].chunk_id),
    )
    more = refill.plan_refill(job(100), *_with_cursors(retried), {}, since=later)
    assert {c.retry_of for c in more.chunks} == {None}


def _with_cursors(
    made: tuple[list[ChunkRow], dict[str, Details]],
) -> tuple[list[ChunkRow], tuple[Cursor, ...], dict[str, Details]]:
    return made[0], CURSORS, made[1]


def test_refused_searches_rest_as_well() -> None:
    """A refused question is not asked again in its round: it would cost nothing, and never end."""
    chunks, details = known(chunk(0, both(0, 50), status="failed", error="source_refused"))
    more = refill.plan_refill(job(100), chunks, CURSORS, details, {})
    assert (more.chunks, more.reason) == ((), "unavailable")


def test_an_empty_chunk_says_nothing_of_what_was_not_answered() -> None:
    """A search is dry because it answered with nothing, not because it did not answer."""
    row, about = chunk(0, both(0, 50), [piece(OPEN, 0, 50)])
    empty = row.model_copy(update={"images": ImageTotals()})
    assert refill.dry_streams(*known((empty, about))) == {CAT}


def test_lost_images_of_resting_searches_wait() -> None:
    """A chunk whose search rests is not run again: it would fail for nothing, for ever."""
    later = NOW + timedelta(seconds=5)
    chunks, details = known(
        chunk(0, both(0, 25), valid=20),
        chunk(1, both(0, 25), status="failed", error="source_unavailable", ended_at=later),
    )
    more = refill.plan_refill(job(100), chunks, CURSORS, details, {chunks[0].chunk_id: 3})
    assert (more.chunks, more.reason) == ((), "unavailable")
