"""The sentences that say why a job is not done: what is said, and in which order."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pixcrawler.api.explanations import Reason, explain, ordinal
from pixcrawler.api.situations import Delayed, Held, Owed, Place, Situation
from pixcrawler.api.store import ChunkCounts, JobRecord
from pixcrawler.common.events import JobFacts, ProgressImages, ProgressView
from pixcrawler.common.jobs import Options

JOB = "0198c5a0-0000-7000-8000-000000000000"
NOW = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC)
NOBODY = Place(place=None, chunks=0, total=0, active=0)


def ago(seconds: float) -> datetime:
    """So long before now; a negative number is after."""
    return NOW - timedelta(seconds=seconds)


def job(**changes: Any) -> JobRecord:
    """A job of 100 images in its first round; `processing=2` and the like are its chunks."""
    kinds = ("pending", "processing", "completed", "failed")
    counts = {kind: changes.pop(kind, 0) for kind in kinds}
    row: dict[str, Any] = {
        "job_id": JOB,
        "owner": "ann",
        "name": "",
        "project_id": None,
        "keywords": ("cat",),
        "sources": ("openverse",),
        "url_list_id": None,
        "max_images": 100,
        "chunk_size": 50,
        "priority": 5,
        "options": Options(),
        "webhook_url": None,
        "round": 1,
        "created_at": ago(600),
        "started_at": ago(600),
        "cancelled": False,
        "status": "running",
        "finished_round": 0,
        "revision": None,
        "progress": None,
        "chunks": ChunkCounts(total=sum(counts.values()), **counts),
    }
    return JobRecord.model_validate({**row, **changes})


def told(about: JobRecord, **changes: Any) -> Situation:
    """What the database has about it: an open round that the planner has taken up."""
    row: dict[str, Any] = {
        "job": about,
        "now": NOW,
        "asked_at": ago(600),
        "book_round": about.round,
        "facts": None,
        "closed_at": None,
        "unsent": None,
        "held": (),
        "delayed": (),
        "delayed_chunks": 0,
        "line": NOBODY,
        "owed": (),
        "stopped": (),
        "failure": None,
        "ended_at": None,
    }
    return Situation.model_validate({**row, **changes})


def held(index: int = 0, **changes: Any) -> Held:
    """A chunk in the downloader of w1 since 40 s, heard of 2 s ago."""
    row: dict[str, Any] = {
        "chunk_id": f"{JOB}-{index:05d}",
        "job_id": JOB,
        "index": index,
        "stage": "downloader",
        "worker": "w1",
        "attempt": 1,
        "takebacks": 0,
        "since": ago(40),
        "last_seen_at": ago(2),
        "deadline_at": ago(-898),
    }
    return Held.model_validate({**row, **changes})


DELAYED = Delayed(
    chunk_id=f"{JOB}-00001",
    index=1,
    not_before=ago(-63),
    attempt=2,
    stage="downloader",
    worker="w2",
    error="source_unavailable",
    message="openverse cannot be reached",
)
OWED = Owed(source="openverse", keyword="cat", reason="its quota is spent")


def ended(reason: str, status: str, kept: int = 0) -> dict[str, Any]:
    """The facts of a closed round."""
    facts = JobFacts.model_validate(
        {
            "round": 1,
            "closed_round": 1,
            "status": status,
            "reason": reason,
            "total_chunks": 2,
            "requested": 100,
            "kept": kept,
        }
    )
    return {"facts": facts, "closed_at": ago(5)}


def over(status: str) -> JobRecord:
    """A job whose end is shown."""
    progress = ProgressView.model_validate(
        {
            "job_id": JOB,
            "status": status,
            "images": ProgressImages(requested=100),
            "finished_at": ago(3),
        }
    )
    return job(status=status, finished_round=1, progress=progress, completed=2)


def said(situation: Situation, *, capacity: int = 35, stored: bool = False) -> list[Reason]:
    """The reasons."""
    return list(explain(situation, capacity=capacity, dataset_is_there=stored).reasons)


LINE = Place(place=12, chunks=3, total=40, active=35)
CASES: dict[str, tuple[Situation, str]] = {
    "not_started": (told(job(round=0, status="pending")), "Nobody has started it"),
    "cancelling": (told(job(cancelled=True, processing=1), held=[held()]), "It was cancelled;"),
    "event_not_sent": (
        told(job(), unsent=ago(30), book_round=0),
        "An event about it waits in the outbox for 30 s: Kafka does not acknowledge",
    ),
    "not_planned": (
        told(job(), book_round=0),
        "Round 1 was asked for 10 min ago, and the planner has not taken it up yet.",
    ),
    "chunk_overdue": (
        told(job(processing=1), held=[held(last_seen_at=ago(905), deadline_at=ago(5))]),
        (
            "Chunk 0 has given no sign of life for 15 min in the downloader on w1; it was to be "
            "taken back at 2026-03-04 11:59:55Z"
        ),
    ),
    "waits_after_failure": (
        told(job(pending=1), delayed=[DELAYED], delayed_chunks=1),
        (
            "Chunk 1 waits until 2026-03-04 12:01:03Z (63 s more): attempt 2 failed in the "
            "downloader on w2: source_unavailable: openverse cannot be reached."
        ),
    ),
    "waits_for_slot": (
        told(job(pending=3), line=LINE),
        (
            "3 chunks wait for a slot: the first of them is 12th in a line of 40 (by priority, "
            "this job's is 5); 35 of 35 slots are taken."
        ),
    ),
    "chunk_in_stage": (
        told(job(processing=1), held=[held()]),
        "Chunk 0 has been in the downloader for 40 s on w1; last sign of life 2 s ago.",
    ),
    "source_unanswered": (
        told(job(completed=1), owed=[OWED]),
        "openverse could not be asked for 'cat': its quota is spent. The job goes on",
    ),
    "chunks_failed": (
        told(job(failed=1), failure="the disk is full"),
        "1 chunk has failed for good, because: the disk is full.",
    ),
    "deciding": (told(job(completed=1), ended_at=ago(1)), "All its chunks have ended; the planner"),
    "dataset_pending": (
        told(job(completed=2), **ended("exhausted", "incomplete", 40)),
        "Round 1 was closed as incomplete since no search has more to give; its dataset is still",
    ),
    "progress_behind": (
        told(job(processing=1, completed=2), held=[held()], ended_at=ago(15)),
        "The shown progress is behind: 0 chunks have ended there, 2 in fact.",
    ),
    "finished": (
        told(over("completed"), **ended("reached", "completed", 100)),
        "It is completed: 100 of 100 images are kept.",
    ),
    "exhausted": (
        told(over("incomplete"), **ended("exhausted", "incomplete", 40)),
        "It is incomplete: 40 of 100 images are kept, and no search has more to give.",
    ),
    "budget": (
        told(over("incomplete"), **ended("budget", "incomplete", 40)),
        "It is incomplete: 40 of 100 images are kept, and as many candidates were tried as",
    ),
    "unavailable": (
        told(over("failed"), owed=[OWED], **ended("unavailable", "failed")),
        (
            "It has failed: 0 of 100 images are kept, and no search that may have more could be "
            "asked (openverse: its quota is spent)."
        ),
    ),
    "cancelled": (
        told(over("cancelled"), **ended("cancelled", "cancelled", 7)),
        "It was cancelled; 7 of 100 images are kept",
    ),
}


@pytest.mark.parametrize("code", CASES)
def test_what_is_said(code: str) -> None:
    """Each code has its sentence, a whole one; a code is said where it is so."""
    situation, sentence = CASES[code]
    reasons = said(situation)
    assert all(reason.sentence.endswith(".") for reason in reasons)
    [reason] = [reason for reason in reasons if reason.code == code]
    assert reason.sentence.startswith(sentence), reason.sentence


def test_what_is_wrong_comes_first() -> None:
    """Trouble, then what waits, then what is being done, then what is only to be known."""
    overdue = held(1, last_seen_at=ago(905), deadline_at=ago(5))
    reasons = said(
        told(
            job(pending=4, processing=2, completed=2, failed=1),
            unsent=ago(30),
            held=[overdue, held()],
            delayed=[DELAYED],
            delayed_chunks=1,
            line=LINE,
            owed=[OWED],
            ended_at=ago(30),
        )
    )
    assert [reason.code for reason in reasons] == [
        "event_not_sent",
        "chunk_overdue",
        "waits_after_failure",
        "waits_for_slot",
        "chunk_in_stage",
        "source_unanswered",
        "chunks_failed",
        "progress_behind",
    ]


def test_what_is_over_has_one_reason() -> None:
    """An ended job does not wait for anything."""
    assert [r.code for r in said(CASES["finished"][0])] == ["finished"]
    stored = told(job(completed=2), **ended("reached", "completed", 100))
    assert [r.code for r in said(stored, stored=True)] == ["progress_behind"]
    assert [r.code for r in said(stored, stored=False)] == ["dataset_pending"]


def test_a_silent_chunk_says_when_it_is_taken_back() -> None:
    """And names where a record about it may lie that nobody could read."""
    [reason] = said(told(job(processing=1), held=[held(last_seen_at=ago(300), takebacks=1)]))
    assert "taken back once before; without another it is taken back at" in reason.sentence
    assert reason.command == "pixcrawler dlq list downloader --state open"
    assert reason.until == ago(-898)


def test_a_chunk_that_nobody_has() -> None:
    """It waits in front of its stage."""
    [reason] = said(told(job(processing=1), held=[held(worker="", stage="validator")]))
    assert "no replica has told of it yet" in reason.sentence
    assert (reason.worker, reason.stage) == (None, "validator")


def test_many_chunks_are_counted() -> None:
    """Five have a sentence; the others a number."""
    reasons = said(told(job(processing=30), held=[held(index) for index in range(20)]))
    assert len(reasons) == 6
    assert reasons[-1].sentence == "The same goes for 25 more of its chunks."
    assert {reason.code for reason in reasons} == {"chunk_in_stage"}


def test_free_slots_are_told() -> None:
    """Where slots are free, nobody waits for long unless the planner is away."""
    [reason] = said(told(job(pending=1), line=Place(place=1, chunks=1, total=1, active=3)))
    assert reason.sentence.startswith("1 chunk waits for a slot: it is 1st in a line of 1")
    assert "3 of 35 slots are taken, so the planner lets" in reason.sentence


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (22, "22nd"), (113, "113th")],
)
def test_ordinals(number: int, text: str) -> None:
    """As people count."""
    assert ordinal(number) == text
