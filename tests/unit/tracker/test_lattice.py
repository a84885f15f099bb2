"""The tracker's merge is a join: the laws, over jobs that go on for several rounds."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime

from hypothesis import given, settings
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
    JobFinished,
    JobPlanned,
)
from pixcrawler.common.ids import chunk_id
from pixcrawler.tracker import progress
from pixcrawler.tracker.progress import JobState, join

JOB = "01234567-89ab-7def-8123-456789abcdef"
NOW = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


STAGES = ("downloader", "validator", "uploader")


class Life:
    """Tells what the stages and the planner say of a job over its rounds, in order."""

    def __init__(self, choose: random.Random) -> None:
        self.choose = choose
        self.said: list[Event] = []
        self.status: list[str] = []
        self.retried: set[int] = set()
        self.images = ImageTotals()
        self.round = 0

    def go_round(self) -> None:
        """One more round: asked for, worked on, closed, finished."""
        self.round += 1
        self.say(JobCreated(job_id=JOB, round=self.round, reason="start"))
        failed = [i for i, s in enumerate(self.status) if s == "failed" and i not in self.retried]
        for index in failed if self.choose.random() < 0.5 else ():
            self.retried.add(index)
            self.status.append("pending")
        self.status += ["pending"] * self.choose.randint(0, 3)
        self.say(self.facts())
        for index, status in enumerate(self.status):
            if status == "pending":
                self.work(index)
                self.say(self.facts())
        closing = self.facts(closed=True)
        self.say(closing)
        self.say(JobFinished(job_id=JOB, dataset="d", **closing.model_dump(exclude={"job_id"})))

    def work(self, index: int) -> None:
        """A chunk from its first attempt to its end."""
        chunk, choose = chunk_id(JOB, index), self.choose
        attempts, fails = choose.randint(1, 3), choose.random() < 0.3
        for attempt in range(1, attempts + 1):
            self.say(ChunkPlanned(chunk_id=chunk, attempt=attempt, slices=()))
            for stage in choose.sample(
                ("downloader", "validator", "uploader"), choose.randint(0, 3)
            ):
                told = ImageTotals(candidates=9, downloaded=choose.randint(0, 9))
                done = choose.randint(0, 9)
                self.say(
                    ChunkProgress.model_validate(
                        {"chunk_id": chunk, "attempt": attempt, "stage": stage, "done": done}
                        | {"total": 9, "images": told}
                    )
                )
            if attempt < attempts or fails:
                self.say(
                    ChunkFailed(
                        chunk_id=chunk,
                        attempt=attempt,
                        stage="validator",
                        retriable=True,
                        error="transient",
                    )
                )
        kept = 0 if fails else choose.randint(0, 9)
        images = ImageTotals(
            candidates=9, downloaded=9, valid=kept, dropped={"corrupt": 9 - kept}, bytes=8 * kept
        )
        if not fails:
            self.say(
                ChunkDownloaded(
                    chunk_id=chunk, attempt=attempts, candidates=9, downloaded=9, bytes=72
                )
            )
            self.say(ChunkValidated(chunk_id=chunk, attempt=attempts, images=images))
            self.say(ChunkUploaded(chunk_id=chunk, attempt=attempts, images=images, archive="a"))
        self.status[index] = "failed" if fails else "completed"
        self.images = progress._join_totals(
            self.images,
            ImageTotals(
                candidates=self.images.candidates + 9,
                downloaded=self.images.downloaded + 9,
                valid=self.images.valid + kept,
                dropped={"corrupt": self.images.dropped.get("corrupt", 0) + 9 - kept},
                bytes=self.images.bytes + 8 * kept,
            ),
        )

    def facts(self, *, closed: bool = False) -> JobPlanned:
        """The planner's facts as it stands."""
        return JobPlanned(
            job_id=JOB,
            round=self.round,
            closed_round=self.round if closed else self.round - 1,
            status="incomplete" if closed else "running",
            reason="exhausted" if closed else "",
            total_chunks=len(self.status),
            completed=self._those("completed"),
            failed=self._those("failed"),
            superseded=bitmaps.to_ranges(bitmaps.from_indices(self.retried)),
            requested=1000,
            kept=self.images.valid,
            images=self.images,
            started_at=datetime(2026, 1, 1, tzinfo=UTC),
        )

    def _those(self, status: str) -> str:
        which = (index for index, s in enumerate(self.status) if s == status)
        return bitmaps.to_ranges(bitmaps.from_indices(which))

    def say(self, event: Event) -> None:
        """Published."""
        self.said.append(event)


@st.composite
def lives(draw: st.DrawFn) -> list[Event]:
    """Everything that was said of a job over one to three rounds; the last is job.finished."""
    life = Life(draw(st.randoms(use_true_random=False)))
    for _ in range(draw(st.integers(1, 3))):
        life.go_round()
    return life.said


def joined(said: Sequence[Event]) -> JobState:
    """The state after these."""
    state = progress.EMPTY
    for event in said:
        state = progress.merge(state, event)
    return state


@st.composite
def states(draw: st.DrawFn, number: int) -> list[JobState]:
    """States of one job, each of which has seen some of its events, in whatever order."""
    said = draw(lives())
    return [
        joined(draw(st.lists(st.sampled_from(said), max_size=12).map(list))) for _ in range(number)
    ]


@settings(deadline=None)  # a busy machine is no bug
@given(states(3))
def test_join_is_associative_commutative_and_idempotent(three: list[JobState]) -> None:
    """A join-semilattice: what counts is what was seen, not when, how often or where."""
    one, two, other = three
    assert join(one, two) == join(two, one)
    assert join(join(one, two), other) == join(one, join(two, other))
    assert join(one, one) == one
    assert join(one, progress.EMPTY) == one
    assert join(join(one, two), one) == join(one, two)


@settings(deadline=None)
@given(lives(), st.data())
def test_merging_an_event_is_joining_what_it_says(said: list[Event], data: st.DataObject) -> None:
    """`merge` has no effect of its own: a state and an event are two states."""
    before = joined(data.draw(st.lists(st.sampled_from(said), max_size=12)))
    event = data.draw(st.sampled_from(said))
    assert progress.merge(before, event) == join(before, progress.merge(progress.EMPTY, event))


@settings(deadline=None)
@given(lives(), st.data())
def test_job_finished_makes_good_for_everything_that_was_missed(
    said: list[Event], data: st.DataObject
) -> None:
    """Whatever part of the history came, in any order, any of it twice: the end is the same."""
    whole = joined(said)
    part = data.draw(st.lists(st.sampled_from(said), max_size=2 * len(said)))
    late = data.draw(st.lists(st.sampled_from(said), max_size=5))
    state = joined([*part, said[-1], *late])
    assert progress.is_finished(state)
    assert progress.view(JOB, state, NOW) == progress.view(JOB, whole, NOW)
    assert progress.revision(state) == progress.revision(whole)


@settings(deadline=None)
@given(states(2))
def test_a_revision_grows_with_what_is_known(two: list[JobState]) -> None:
    """A state that knows more than another is never thrown away for it."""
    one, other = two
    assert progress.revision(join(one, other)) >= max(map(progress.revision, two))


@settings(deadline=None)
@given(lives(), st.data())
def test_a_deleted_job_stays_deleted(said: list[Event], data: st.DataObject) -> None:
    """Wherever the deletion comes among the events, and whatever comes after it."""
    order = [*said, JobCancelled(job_id=JOB, deleted=True)]
    data.draw(st.randoms(use_true_random=False)).shuffle(order)
    assert joined(order).deleted
