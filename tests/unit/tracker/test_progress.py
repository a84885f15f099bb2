"""The laws of the tracker's state."""

import random
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pixcrawler.common import bitmaps
from pixcrawler.common.events import (
    ChunkDownloaded,
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
)
from pixcrawler.common.ids import chunk_id
from pixcrawler.tracker import progress

JOB = "01234567-89ab-7def-8123-456789abcdef"
CHUNK_IMAGES = ImageTotals(candidates=9, downloaded=9, valid=4, dropped={"corrupt": 5}, bytes=8)
NOW = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def history(seed: int, *, finish: bool = True) -> list[Event]:
    """What the stages and the planner say over the life of a job, in order."""
    choose = random.Random(seed)
    events: list[Event] = [JobCreated(job_id=JOB, round=1, reason="start")]
    total, ended, superseded = choose.randint(1, 5), list[tuple[int, str]](), list[int]()
    kept = 0
    index = 0
    while index < total:
        chunk = chunk_id(JOB, index)
        attempts = choose.randint(1, 3)
        failed = choose.random() < 0.2
        for attempt in range(1, attempts + 1):
            events.append(ChunkPlanned(chunk_id=chunk, attempt=attempt, slices=()))
            events.append(
                ChunkProgress(
                    chunk_id=chunk,
                    attempt=attempt,
                    stage="downloader",
                    done=choose.randint(0, 9),
                    total=9,
                    images=ImageTotals(candidates=9, downloaded=choose.randint(0, 9)),
                )
            )
            if attempt < attempts or failed:
                events.append(
                    ChunkFailed(
                        chunk_id=chunk,
                        attempt=attempt,
                        stage="validator",
                        retriable=True,
                        error="transient",
                    )
                )
        if not failed:
            images = ImageTotals(
                candidates=9, downloaded=9, valid=4, dropped={"corrupt": 5}, bytes=8
            )
            events += [
                ChunkDownloaded(
                    chunk_id=chunk, attempt=attempts, candidates=9, downloaded=9, bytes=20
                ),
                ChunkValidated(chunk_id=chunk, attempt=attempts, images=images),
                ChunkUploaded(chunk_id=chunk, attempt=attempts, images=images, archive="a.zip"),
            ]
            kept += 4
        ended.append((index, "failed" if failed else "completed"))
        if failed and choose.random() < 0.5:
            superseded.append(index)
            total += 1
        index += 1
        events.append(planned(total, ended, superseded, kept, closed=0))
    closing = planned(total, ended, superseded, kept, closed=1)
    events.append(closing)
    if finish:
        events.append(
            JobFinished(job_id=JOB, dataset="d", **closing.model_dump(exclude={"job_id"}))
        )
    return events


def planned(
    total: int, ended: list[tuple[int, str]], superseded: list[int], kept: int, *, closed: int
) -> JobPlanned:
    """The planner's facts in a given state."""
    which = {
        status: bitmaps.to_ranges(bitmaps.from_indices(i for i, s in ended if s == status))
        for status in ("completed", "failed")
    }
    done = sum(status == "completed" for _, status in ended)
    return JobPlanned(
        job_id=JOB,
        round=1,
        closed_round=closed,
        status="incomplete" if closed else "running",
        reason="exhausted" if closed else "",
        total_chunks=total,
        completed=which["completed"],
        failed=which["failed"],
        superseded=bitmaps.to_ranges(bitmaps.from_indices(superseded)),
        requested=100,
        kept=kept,
        images=ImageTotals(
            candidates=9 * done,
            downloaded=9 * done,
            valid=kept,
            dropped={"corrupt": 5 * done} if done else {},
            bytes=8 * done,
        ),
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def joined(events: list[Event]) -> progress.JobState:
    """The state after these events."""
    state = progress.EMPTY
    for event in events:
        state = progress.merge(state, event)
    return state


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(seed: int, shuffler: random.Random) -> None:
    """Any order of the same events, some of them twice, gives the same state."""
    events = history(seed)
    disorder = events + shuffler.choices(events, k=len(events) // 2)
    shuffler.shuffle(disorder)
    assert joined(disorder) == joined(events)


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_join_of_halves_is_the_whole(seed: int, cut: int) -> None:
    """Two tables that each saw a part join to what one that saw all would hold."""
    events = history(seed)
    cut %= len(events)
    assert progress.join(joined(events[:cut]), joined(events[cut:])) == joined(events)


@given(st.integers(0, 10_000))
def test_what_is_shown_only_grows(seed: int) -> None:
    """Revisions never fall, nor does `progress`; the status is terminal at the end only."""
    state, last, shown = progress.EMPTY, (0, 0, 0, 0, 0), 0.0
    events = history(seed)
    for event in events:
        state = progress.merge(state, event)
        assert progress.revision(state) >= last
        last = progress.revision(state)
        seen = progress.view(JOB, state, NOW)
        assert seen.progress >= shown
        shown = seen.progress
        counts = (
            seen.pending_chunks,
            seen.active_chunks,
            seen.completed_chunks,
            seen.failed_chunks,
        )
        assert min(counts) >= 0
        assert sum(counts) == seen.total_chunks
        assert (seen.status in {"pending", "running"}) == (event is not events[-1])


@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_an_older_table_is_healed_by_the_closing_facts(seed: int, cut: int) -> None:
    """A table overwritten by an older one shows the truth after job.planned and job.finished."""
    events = history(seed)
    stale = joined(events[: cut % len(events)])
    healed = progress.merge(progress.merge(stale, events[-2]), events[-1])
    assert progress.view(JOB, healed, NOW) == progress.view(JOB, joined(events), NOW)


def test_a_live_chunk_counts_until_the_facts_do() -> None:
    """Numbers of an uploaded chunk are the same before and after the planner applied it."""
    images = CHUNK_IMAGES
    events: list[Event] = [
        planned(2, [], [], 0, closed=0),
        ChunkUploaded(chunk_id=chunk_id(JOB, 0), attempt=1, images=images, archive="a"),
    ]
    before = progress.view(JOB, joined(events), NOW)
    after = progress.view(
        JOB, joined([*events, planned(2, [(0, "completed")], [], 4, closed=0)]), NOW
    )
    assert before == after
    assert before.progress == 4.0
    assert before.chunk_progress == 50.0


def test_deleted_stays_deleted() -> None:
    """No late event brings a deleted job back."""
    state = joined([JobCancelled(job_id=JOB, deleted=True), *history(1)])
    assert state.deleted


def test_facts_of_one_state_are_told_from_an_older_round() -> None:
    """A late job.finished of round 1 does not end round 2."""
    events = history(3)
    extended = joined([*events, JobCreated(job_id=JOB, round=2, reason="extend")])
    assert not progress.is_finished(extended)
    again = progress.merge(extended, events[-1])
    assert not progress.is_finished(again)
    assert isinstance(again.facts, JobFacts)
