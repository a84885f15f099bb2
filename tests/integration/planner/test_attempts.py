"""Attempts: retries, deadlines, signs of life, what is remembered of them."""

from dataclasses import replace
from typing import Any

from pixcrawler.common.chunks import result_of
from pixcrawler.common.events import (
    ChunkDownloaded,
    ChunkPlanned,
    ChunkProgress,
    ChunkValidated,
    ImageTotals,
)
from pixcrawler.common.outcomes import Outcome
from pixcrawler.planner import admission, timer
from pixcrawler.planner.signs import Signs
from pixcrawler.planner.store import Sign
from pixcrawler.planner.tools import TAKEBACKS, Policy
from tests.integration.planner.desk import Desk, failed, uploaded, verdict


async def one(desk: Desk) -> tuple[str, str]:
    """A job with one chunk in progress."""
    job = await desk.admitted(5)
    return job, (await desk.rows(job))[0]["chunk_id"]


async def row(desk: Desk, job: str) -> dict[str, Any]:
    """The job's first chunk."""
    return (await desk.rows(job))[0]


async def test_retriable_failures(desk: Desk) -> None:
    """A retriable failure waits and counts; after the last the chunk has failed."""
    job, chunk = await one(desk)
    for attempt in (1, 2):
        await desk.handle(failed(chunk, attempt))
        now = await row(desk, job)
        assert (now["status"], now["retry_count"]) == ("pending", attempt)
        assert await admission.admit(desk.tools[0]) == 1
    await desk.handle(failed(chunk, 3))
    now = await row(desk, job)
    assert (now["status"], now["error"], now["error_message"]) == (
        "failed",
        "blob_store",
        "it did not work",
    )
    result = await result_of(desk.blobs, chunk)
    assert result is not None
    assert result.status == "failed"


async def test_not_retriable(desk: Desk) -> None:
    """A failure that a retry cannot help ends the chunk at once."""
    job, chunk = await one(desk)
    await desk.handle(failed(chunk, retriable=False, error="no_valid_images"))
    now = await row(desk, job)
    assert (now["status"], now["error"], now["attempt"]) == ("failed", "no_valid_images", 1)
    assert now["attempts"][-1]["state"] == "failed"


async def test_every_failure_has_its_reason(desk: Desk) -> None:
    """What each attempt said is kept, also of the last one, with the replica that it failed on."""
    job, chunk = await one(desk)
    for attempt in (1, 2, 3):
        await desk.handle(failed(chunk, attempt))
        await desk.execute("UPDATE job_chunks SET not_before = now() WHERE status = 'pending'")
        await admission.admit(desk.tools[0])
    steps = (await row(desk, job))["attempts"]
    assert [(s["attempt"], s["state"], s["error"]) for s in steps] == [
        (attempt, "failed", "blob_store") for attempt in (1, 2, 3)
    ]
    assert {(s["message"], s["worker"]) for s in steps} == {("it did not work", "worker-7")}
    assert (await row(desk, job))["status"] == "failed"


async def test_only_the_present_attempt_counts(desk: Desk) -> None:
    """A failure of an attempt that is over, or repeated, changes nothing."""
    job, chunk = await one(desk)
    await desk.handle(failed(chunk, 1))
    waiting = await row(desk, job)
    await desk.handle(failed(chunk, 1))
    assert await row(desk, job) == waiting
    await admission.admit(desk.tools[0])
    running = await row(desk, job)
    await desk.handle(failed(chunk, 1, retriable=False))
    assert await row(desk, job) == running


async def test_failed_after_a_result(desk: Desk) -> None:
    """A failure of a chunk that has completed makes it completed."""
    job, chunk = await one(desk)
    await desk.complete(chunk, 5)
    await desk.handle(failed(chunk, 1))
    assert (await row(desk, job))["status"] == "completed"


async def test_given_up_after_verdicts(desk: Desk) -> None:
    """What the verdicts kept has failed with the chunk; the other outcomes stand."""
    job, chunk = await one(desk)
    await desk.write_verdicts(
        chunk,
        [
            verdict(0, "a", Outcome.KEPT),
            verdict(1, "b", Outcome.CORRUPT),
            verdict(2, "c", Outcome.KEPT),
        ],
    )
    await desk.handle(failed(chunk, retriable=False))
    images = (await desk.facts(job)).images
    assert (images.candidates, images.valid) == (3, 0)
    assert images.dropped == {"corrupt": 1, "failed": 2}


async def test_taken_back(desk: Desk) -> None:
    """A silent chunk is planned again in its slot; that is no retry."""
    job, chunk = await one(desk)
    await desk.silence(chunk)
    await timer.watch_deadlines(desk.tools[0])
    now = await row(desk, job)
    assert (now["status"], now["attempt"], now["retry_count"], now["takebacks"]) == (
        "processing",
        2,
        0,
        1,
    )
    assert [
        e.attempt for e in await desk.said(job, ChunkPlanned) if isinstance(e, ChunkPlanned)
    ] == [
        1,
        2,
    ]
    await timer.watch_deadlines(desk.tools[0])
    assert (await row(desk, job))["attempt"] == 2


async def test_deadlines_double(desk: Desk) -> None:
    """After n take-backs the chunk may be silent for 2^n deadlines."""
    job, _ = await one(desk)
    await desk.execute(
        "UPDATE job_chunks SET takebacks = 3, last_seen_at = now() - interval '7190 s'"
    )
    await timer.watch_deadlines(desk.tools[0])
    assert (await row(desk, job))["attempt"] == 1
    await desk.execute("UPDATE job_chunks SET last_seen_at = now() - interval '7210 s'")
    await timer.watch_deadlines(desk.tools[0])
    assert (await row(desk, job))["attempt"] == 2


async def test_silent_for_good(desk: Desk) -> None:
    """After five take-backs a chunk that is still silent has failed."""
    job, chunk = await one(desk)
    for _ in range(TAKEBACKS + 1):
        await desk.silence(chunk)
        await timer.watch_deadlines(desk.tools[0])
    now = await row(desk, job)
    assert (now["status"], now["error"], now["attempt"]) == ("failed", "deadline", TAKEBACKS + 1)


async def test_silent_but_completed(desk: Desk) -> None:
    """A silent chunk that has a result is ended, not taken back."""
    job, chunk = await one(desk)
    await desk.complete(chunk, 5)
    await desk.silence(chunk)
    await timer.watch_deadlines(desk.tools[0])
    now = await row(desk, job)
    assert (now["status"], now["attempt"]) == ("completed", 1)


async def test_silent_and_unwanted(desk: Desk) -> None:
    """A silent chunk of a cancelled job is given up."""
    job, chunk = await one(desk)
    await desk.cancel(job)
    await desk.silence(chunk)
    await timer.watch_deadlines(desk.tools[0])
    now = await row(desk, job)
    assert (now["status"], now["error"]) == ("failed", "cancelled")
    assert (await desk.facts(job)).status == "cancelled"


async def test_signs_of_life(desk: Desk) -> None:
    """Progress keeps a chunk from being taken back, and shows the stage; it never goes back."""
    job, chunk = await one(desk)
    signs = Signs(desk.engine)
    await desk.silence(chunk)
    event = ChunkProgress(chunk_id=chunk, attempt=1, stage="validator", done=1, total=5)
    await desk.handle(event, signs=signs)
    await timer.tick(desk.tools[0], signs)
    now = await row(desk, job)
    assert (now["attempt"], now["stage"]) == (1, "validator")
    late = ChunkProgress(chunk_id=chunk, attempt=1, stage="downloader", done=5, total=5)
    await desk.handle(late, signs=signs)
    await signs.flush()
    assert (await row(desk, job))["stage"] == "validator"


async def test_the_replica_that_has_it_is_known(desk: Desk) -> None:
    """While a step runs it names who told of it last; what is over, or was never begun, stays."""
    job, chunk = await one(desk)
    signs = Signs(desk.engine)
    for stage in ("validator", "downloader"):
        told = ChunkProgress(chunk_id=chunk, attempt=1, stage=stage, done=1, total=5)
        await desk.handle(told, signs=signs)
        await signs.flush()
    [step] = (await row(desk, job))["attempts"]
    assert (step["stage"], step["worker"], step["state"]) == ("downloader", "worker-7", "running")
    signs.saw(chunk, Sign("downloader", 1, "worker-8"))
    await signs.flush()
    await desk.handle(failed(chunk, 1))
    await admission.admit(desk.tools[0])
    signs.saw(chunk, Sign("downloader", 1, "worker-9"))
    await signs.flush()
    first, second = (await row(desk, job))["attempts"]
    assert (first["worker"], first["state"], second["worker"]) == ("worker-7", "failed", "")
    assert second["attempt"] == 2


async def test_no_life_in_what_has_ended(desk: Desk) -> None:
    """Signs of life of a chunk that holds no slot change nothing."""
    job, chunk = await one(desk)
    await desk.upload(chunk, 5)
    before = await desk.dump()
    signs = Signs(desk.engine)
    await desk.handle(
        ChunkProgress(chunk_id=chunk, attempt=1, stage="uploader", done=5, total=5), signs=signs
    )
    await signs.flush()
    await desk.handle(
        ChunkDownloaded(chunk_id=chunk, attempt=1, candidates=5, downloaded=5, bytes=9)
    )
    await desk.handle(ChunkValidated(chunk_id=chunk, attempt=1, images=ImageTotals()))
    assert await desk.dump() == before
    assert (await desk.rows(job))[0]["status"] == "completed"


async def test_attempts_are_remembered(desk: Desk) -> None:
    """A chunk's steps say which stage had it, in which attempt, from which record, how it ended."""
    job, chunk = await one(desk)
    await desk.handle(failed(chunk, 1))
    await admission.admit(desk.tools[0])
    downloaded = ChunkDownloaded(chunk_id=chunk, attempt=2, candidates=5, downloaded=5, bytes=9)
    await desk.handle(downloaded)
    await desk.handle(downloaded)
    await desk.handle(ChunkValidated(chunk_id=chunk, attempt=2, images=ImageTotals()))
    assert (await row(desk, job))["stage"] == "uploader"
    await desk.complete(chunk, 5)
    await desk.handle(uploaded(chunk, 2))
    steps = (await row(desk, job))["attempts"]
    assert [(s["attempt"], s["stage"], s["state"], s["error"]) for s in steps] == [
        (1, "downloader", "failed", "blob_store"),
        (2, "downloader", "done", ""),
        (2, "validator", "done", ""),
        (2, "uploader", "done", ""),
    ]
    assert [(s["topic"], s["partition"], s["offset"]) for s in steps[1:3]] == [
        ("chunk.planned", None, None),
        ("chunk.downloaded", 3, 17),
    ]
    assert all(s["started_at"] and s["ended_at"] for s in steps)
    assert [s["worker"] for s in steps[:3]] == ["worker-7"] * 3


async def test_attempts_are_bounded(desk: Desk) -> None:
    """However long a chunk suffers, its memory stays small."""
    job, chunk = await one(desk)
    for attempt in range(1, 60):
        await desk.execute("UPDATE job_chunks SET takebacks = 0")
        await desk.silence(chunk)
        await timer.watch_deadlines(desk.tools[0])
        assert (await row(desk, job))["attempt"] == attempt + 1
    assert len((await row(desk, job))["attempts"]) == 40


async def test_backoff_doubles() -> None:
    """The wait before a retry doubles up to its limit."""
    policy = Policy(backoff_s=2.0, backoff_max_s=10.0)
    for retry, longest in ((0, 2), (1, 4), (2, 8), (3, 10), (9, 10)):
        assert longest * 0.75 <= policy.backoff(retry) <= longest
    assert replace(policy, backoff_s=0.0).backoff(5) == 0
