"""One row per URL over a job, and which one it is."""

import random

from hypothesis import given
from hypothesis import strategies as st

from pixcrawler.common.chunk_outcomes import (
    ChunkObjects,
    OutcomeRow,
    merge,
    outcomes_of_chunk,
    totals,
)
from pixcrawler.common.documents import (
    Candidate,
    Candidates,
    CandidatesHead,
    ChunkResult,
    Verdict,
    Verdicts,
    VerdictsHead,
)
from pixcrawler.common.events import ImageTotals
from pixcrawler.common.ids import chunk_id
from pixcrawler.common.outcomes import Outcome

JOB = "0198c0de-0000-7000-8000-000000000001"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"


def chunk(index: int, outcomes: dict[str, Outcome | None], how: str | None) -> ChunkObjects:
    """A chunk whose URLs have these verdicts (None: none yet), and how it ended (None: open)."""
    name = chunk_id(JOB, index)
    items = tuple(Candidate(position=at, url=url, source="s") for at, url in enumerate(outcomes))
    verdicts = tuple(
        Verdict(position=item.position, url=item.url, outcome=outcome, bytes=7, sha256="aa")
        for item, outcome in zip(items, outcomes.values(), strict=True)
        if outcome is not None
    )
    result = None
    if how is not None:
        result = ChunkResult(
            chunk_id=name,
            status="completed" if how == COMPLETED else "failed",
            error="" if how == COMPLETED else "cancelled" if how == CANCELLED else "blob_store",
            message="" if how == COMPLETED else "it was given up",
        )
    head = VerdictsHead(chunk_id=name, images=ImageTotals(), valid_images=0)
    return ChunkObjects(
        name,
        Candidates(head=CandidatesHead(chunk_id=name, count=len(items)), items=items),
        Verdicts(head=head, items=verdicts) if verdicts else None,
        result,
    )


def outcomes(rows: list[OutcomeRow]) -> dict[str, Outcome]:
    return {row.url: row.outcome for row in rows}


def test_verdicts_of_a_failed_chunk_stand_but_nothing_is_kept() -> None:
    """Only what was kept has failed with its chunk, and says why."""
    [kept, dead] = outcomes_of_chunk(chunk(0, {"a": Outcome.KEPT, "b": Outcome.TIMEOUT}, FAILED))
    assert (kept.outcome, kept.detail) == (Outcome.FAILED, "it was given up")
    assert dead.outcome is Outcome.TIMEOUT


def test_candidates_without_verdict_end_with_their_chunk() -> None:
    """Cancelled where the job was, failed where the chunk was; none while the chunk is open."""
    assert outcomes(merge([chunk(0, {"a": None}, CANCELLED)])) == {"a": Outcome.CANCELLED}
    assert outcomes(merge([chunk(0, {"a": None}, FAILED)])) == {"a": Outcome.FAILED}
    assert merge([chunk(0, {"a": None}, None)]) == []
    assert merge([ChunkObjects(chunk_id(JOB, 0), None, None, None)]) == []


def test_which_row_stands() -> None:
    """The kept one, else the last completed chunk's, else an open one's, else a failed one's."""
    kept, timeout, corrupt = Outcome.KEPT, Outcome.TIMEOUT, Outcome.CORRUPT
    first, second, third = (
        chunk(0, {"a": kept}, COMPLETED),
        chunk(1, {"a": timeout}, COMPLETED),
        chunk(2, {"a": corrupt}, FAILED),
    )
    assert outcomes(merge([first, second, third])) == {"a": kept}
    assert outcomes(merge([second, third])) == {"a": timeout}
    assert outcomes(merge([third])) == {"a": corrupt}
    assert outcomes(merge([third, chunk(3, {"a": timeout}, None)])) == {"a": timeout}
    assert outcomes(merge([chunk(3, {"a": corrupt}, COMPLETED), second])) == {"a": corrupt}


@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.sampled_from("abcdef"), st.sampled_from([*Outcome]) | st.none(), max_size=6
            ),
            st.sampled_from([COMPLETED, FAILED, CANCELLED]),
        ),
        max_size=6,
    ),
    st.randoms(),
)
def test_every_url_of_ended_chunks_has_one_row(
    made: list[tuple[dict[str, Outcome | None], str]], shuffled: random.Random
) -> None:
    """Whatever was decided and in whatever order it is read, no URL is lost or doubled."""
    chunks = [
        chunk(
            index,
            {u: o or (Outcome.TIMEOUT if how == COMPLETED else None) for u, o in urls.items()},
            how,
        )
        for index, (urls, how) in enumerate(made)
    ]
    rows = merge(chunks)
    assert sorted(row.url for row in rows) == sorted({url for urls, _ in made for url in urls})
    shuffled.shuffle(chunks)
    assert merge(chunks) == rows
    counted = totals(rows)
    assert counted.candidates == len(rows) == counted.valid + sum(counted.dropped.values())
