from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from pixcrawler.common import ids
from pixcrawler.common.documents import Stream, Verdict, Verdicts, VerdictsHead
from pixcrawler.common.events import ImageTotals, Slice
from pixcrawler.common.outcomes import Outcome
from pixcrawler.common.ranges import Range
from pixcrawler.planner import facts, refill
from pixcrawler.planner.plan import Cursor
from pixcrawler.planner.store import ChunkRow, Details, Held, JobRow

JOB = "0199a000-0000-7000-8000-000000000000"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CAT = Cursor(source="commons", keyword="cat", next_offset=100)


def job(max_images: int = 100, factor: float = 5.0) -> JobRow:
    return JobRow(
        job_id=JOB,
        sources=("commons",),
        keywords=("cat",),
        urls=0,
        max_images=max_images,
        chunk_size=50,
        priority=5,
        refill_factor=factor,
        round=1,
        cancelled=False,
        deleted=False,
        created_at=NOW,
        started_at=NOW,
        now=NOW,
    )


def chunk(
    index: int,
    status: str = "completed",
    *,
    size: int = 50,
    valid: int = 0,
    dropped: dict[str, int] | None = None,
    error: str | None = None,
    retry_of: str | None = None,
) -> ChunkRow:
    return ChunkRow(
        chunk_id=ids.chunk_id(JOB, index),
        index=index,
        status=status,
        attempt=1,
        retry_of=retry_of,
        error=error,
        range=Range(index * 50, index * 50 + size - 1),
        images=ImageTotals(candidates=size, valid=valid, dropped=dropped or {}),
        ended_at=NOW,
    )


def details(*offsets: int, size: int = 50) -> dict[str, Details]:
    return {
        ids.chunk_id(JOB, index): Details(
            slices=(Slice(source="commons", keyword="cat", offset=offset, limit=size),)
        )
        for index, offset in enumerate(offsets)
    }


@settings(deadline=None)  # a busy machine is no bug
@given(
    st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=8),
    st.integers(1, 400),
    st.floats(1.0, 10.0),
    st.booleans(),
)
def test_within_the_budget(
    outcomes: list[tuple[int, bool]], max_images: int, factor: float, losing: bool
) -> None:
    """Whatever happened, what is planned keeps to the budget, and nothing planned is a reason."""
    chunks = [
        chunk(i, "failed" if gone else "completed", valid=0 if gone else valid)
        for i, (valid, gone) in enumerate(outcomes)
    ]
    known = details(*(50 * i for i in range(len(chunks))))
    lost = {c.chunk_id: 3 for c in chunks if losing and c.status == "completed"}
    more = refill.plan_refill(job(max_images, factor), chunks, [CAT], known, lost)
    planned = sum(c.range.size for c in more.chunks)
    room = int(factor * max_images) - facts.spent(chunks)
    assert planned <= max(room, 0)
    assert all(sum(s.limit for s in c.slices) == c.range.size for c in more.chunks)
    if not more.chunks:
        reached = facts.kept(chunks) >= max_images
        assert more.reason == ("reached" if reached else "budget")


def test_lost_images_come_first() -> None:
    """Slices with a lost image are run again, those with the most first, as far as needed."""
    chunks = [chunk(0, valid=40), chunk(1, valid=50), chunk(2, valid=9)]
    lost = {chunks[0].chunk_id: 1, chunks[2].chunk_id: 5}
    more = refill.plan_refill(job(100), chunks, [CAT], details(0, 50, 100), lost)
    assert [c.range for c in more.chunks] == [chunks[2].range]
    assert [c.retry_of for c in more.chunks] == [None]


def test_dry_searches() -> None:
    """A search is dry when a result said so, or when a chunk of it had no candidate at all."""
    cat = Stream(source="commons", keyword="cat")
    said = {"a": Details(slices=(), exhausted=(cat,))}
    assert refill.dry_streams([], said) == {cat}
    empty = chunk(0, size=1).model_copy(update={"images": ImageTotals()})
    assert refill.dry_streams([empty], details(0)) == {cat}
    assert refill.dry_streams([chunk(0)], details(0)) == frozenset()


def test_suspects_by_counts() -> None:
    """Surplus is always suspect; duplicates only where a failed chunk may have released a claim."""
    kept = chunk(0, valid=50)
    surplus = chunk(1, dropped={"surplus": 1})
    double = chunk(2, dropped={"near_duplicate": 1})
    known = details(0, 50, 100, 150)
    assert refill.suspects([kept, surplus, double], known) == (surplus.chunk_id,)
    gone = chunk(3, "failed")
    assert refill.suspects([kept, surplus, double, gone], known) == (
        surplus.chunk_id,
        double.chunk_id,
    )


def test_the_last_run_decides() -> None:
    """Of runs of the same slices only the last that completed is suspect."""
    first, again = chunk(0, dropped={"surplus": 1}), chunk(1, dropped={"http_error": 1})
    assert refill.suspects([first, again], details(0, 0)) == ()
    failed = chunk(1, "failed", error="blob_store")
    assert refill.suspects([first, failed], details(0, 0)) == (first.chunk_id,)
    hopeless = chunk(1, "failed", error=refill.NO_VALID_IMAGES)
    assert refill.suspects([first, hopeless], details(0, 0)) == ()


def test_lost() -> None:
    """Lost is a valid image that neither it nor what was kept instead has a live claim."""

    def verdict(position: int, sha256: str, outcome: Outcome, of: str = "") -> Verdict:
        return Verdict(
            position=position, url=f"u{position}", outcome=outcome, sha256=sha256, duplicate_of=of
        )

    verdicts = Verdicts(
        head=VerdictsHead(chunk_id=ids.chunk_id(JOB, 0), images=ImageTotals(), valid_images=0),
        items=(
            verdict(0, "aa", Outcome.KEPT),
            verdict(1, "bb", Outcome.SURPLUS),
            verdict(2, "bb", Outcome.SURPLUS),
            verdict(3, "cc", Outcome.DUPLICATE, "kept"),
            verdict(4, "dd", Outcome.NEAR_DUPLICATE, "released"),
            verdict(5, "ee", Outcome.NEAR_DUPLICATE, "taken over"),
            verdict(6, "", Outcome.HTTP_ERROR),
        ),
    )
    held = Held(frozenset({"ee"}), frozenset({"kept"}))
    assert refill.count_lost(refill.unkept(verdicts), held) == 2


def test_retries_once() -> None:
    """Each failed chunk is retried once, however often it is asked for."""
    first, other = chunk(0, "failed"), chunk(1)
    known = details(0, 50, 0)
    assert [c.retry_of for c in refill.retries([first, other], known, [None, None])] == [
        first.chunk_id
    ]
    assert refill.retries([first, other], known, [[other.chunk_id]]) == ()
    retried = chunk(2, "pending", retry_of=first.chunk_id)
    assert refill.retries([first, other, retried], known, [None, [first.chunk_id]]) == ()


def test_superseded_chunks_do_not_count() -> None:
    """A retried chunk's candidates and images are its retry's."""
    first = chunk(0, "failed", dropped={"failed": 50})
    retry = chunk(1, valid=30, retry_of=first.chunk_id)
    assert facts.spent([first, retry]) == 50
    assert facts.images([first, retry]) == ImageTotals(candidates=50, valid=30)
    assert facts.yielded([first, retry]) == (30, 50)


def _given_up(index: int, minutes: int, error: str = "source_unavailable") -> ChunkRow:
    ended = {"ended_at": NOW + timedelta(minutes=minutes), "images": ImageTotals()}
    return chunk(index, "failed", error=error).model_copy(update=ended)


def test_no_search_while_sources_are_away() -> None:
    """The round closes where the chunk that ended last got no answer; other failures refill."""

    def planned(*chunks: ChunkRow) -> refill.Refill:
        return refill.plan_refill(job(100), chunks, [CAT], details(0, 50), {})

    away = planned(chunk(0, valid=20), _given_up(1, 4))
    assert (away.chunks, away.reason) == ((), "unavailable")
    assert away.cursors == (CAT,)
    assert planned(_given_up(0, 4, error="deadline")).chunks
    answered_since = chunk(1, valid=20).model_copy(update={"ended_at": NOW + timedelta(minutes=9)})
    assert planned(_given_up(0, 4), answered_since).chunks


def test_a_retried_chunk_says_nothing_of_the_sources() -> None:
    """What a chunk met is history once it was retried and the retry went well."""
    retry = chunk(1, valid=20, retry_of=ids.chunk_id(JOB, 0))
    more = refill.plan_refill(job(100), [_given_up(0, 4), retry], [CAT], details(0, 50), {})
    assert more.chunks
