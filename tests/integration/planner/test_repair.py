"""Repairing a database that is older than the blob store: what is there again, and what is said.

`tests/e2e/test_disaster.py` does it with a real backup; here are the cases one by one.
"""

from typing import Any

import pytest
from sqlalchemy import text

from pixcrawler.common import names
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.roles import ensure_roles, service_url
from pixcrawler.common.events import ChunkPlanned, JobCancelled, JobCreated, JobFacts, JobPlanned
from pixcrawler.common.ids import chunk_id, new_job_id
from pixcrawler.common.outcomes import Outcome
from pixcrawler.planner import admission
from pixcrawler.planner.repair import repairing
from pixcrawler.planner.repair.evidence import Told
from pixcrawler.planner.repair.repairing import JobRepair, ServicesRun
from tests.integration.planner.desk import Desk, failed, uploaded, verdict

CLAIMS = "SELECT chunk_id FROM image_claims WHERE job_id = :j ORDER BY sha256"
MARKS = "SELECT chunk_id FROM chunk_claims WHERE job_id = :j ORDER BY 1"


async def repair(desk: Desk, told: dict[str, Told] | None = None) -> dict[str, JobRepair]:
    """Repair, by job; a dry run before says the same, and another after finds nothing."""
    known = told or {}
    would = await repairing.repair(desk.engine, desk.blobs, known, dry_run=True)
    did = await repairing.repair(desk.engine, desk.blobs, known)
    assert did == would
    again = await repairing.repair(desk.engine, desk.blobs, known)
    assert not [one for one in again if one.mended]
    return {one.job_id: one for one in did}


async def told(desk: Desk, job_id: str) -> dict[str, Told]:
    """What the topics would say: everything that went through the outbox."""
    heard = Told()
    for kind in (JobCreated, JobCancelled, JobPlanned, ChunkPlanned):
        for event in await desk.said(job_id, kind):
            heard.hear(event)
    return {job_id: heard}


async def forget(desk: Desk, job_id: str) -> None:
    """The backup knows nothing of the job."""
    await desk.execute("DELETE FROM crawl_jobs WHERE job_id = :j", j=job_id)


async def decide(desk: Desk, chunk: str, *images: str) -> None:
    """The validator decides that a chunk keeps these, and writes it down."""
    kept = await desk.claim(chunk, images, 100)
    outcomes = (Outcome.KEPT if image in kept else Outcome.DUPLICATE for image in images)
    verdicts = [verdict(n, i, o) for n, (i, o) in enumerate(zip(images, outcomes, strict=True))]
    await desk.write_verdicts(chunk, verdicts)


async def a_job_with_a_retry(desk: Desk) -> str:
    """Ten images in two chunks: one failed and was retried, and the retry took its image over."""
    job = await desk.admitted(10)
    first, second, third = (chunk_id(job, n) for n in range(3))
    await decide(desk, first, "a", "b")
    await desk.handle(failed(first, retriable=False))
    await desk.request(job, "retry")
    await desk.handle(JobCreated(job_id=job, round=2, reason="retry"))
    await admission.admit(desk.tools[0])
    await decide(desk, second, "c")
    await desk.upload(second, 1)
    await decide(desk, third, "b", "c")
    return job


SHAPE = """SELECT chunk_id, status, image_range, slices, retry_of, attempt FROM job_chunks
           WHERE job_id = :j ORDER BY 1"""


async def shape(desk: Desk, job_id: str) -> list[tuple[Any, ...]]:
    """A job's chunks, as far as they are not the clock's."""
    async with desk.engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(SHAPE), {"j": job_id})]


async def test_an_unknown_job_is_there_again_with_its_retries_and_its_claims(desk: Desk) -> None:
    """From its request, the topics and what was decided; what was in progress waits again."""
    job = await a_job_with_a_retry(desk)
    chunks, claims = await shape(desk, job), await desk.column(CLAIMS, j=job)
    heard = await told(desk, job)
    await forget(desk, job)

    done = (await repair(desk, heard))[job]
    assert (done.restored, done.round, done.problems) == (True, 2, ())
    assert (done.chunks_made, done.chunks_ended, done.chunks_claimed) == (3, 2, 3)
    waits = [(*row[:1], "pending", *row[2:]) if row[1] == "processing" else row for row in chunks]
    assert await shape(desk, job) == waits
    assert await desk.column(CLAIMS, j=job) == claims
    assert await desk.column(MARKS, j=job) == [chunk_id(job, n) for n in range(3)]

    # The planner goes on: the request of round 2 makes nothing twice, the third chunk ends it.
    await desk.handle(JobCreated(job_id=job, round=2, reason="retry"))
    assert len(await desk.rows(job)) == 3
    await admission.admit(desk.tools[0])
    assert (await desk.rows(job))[2]["attempt"] == chunks[2][5] + 1


async def test_without_topics_the_blob_store_suffices(desk: Desk) -> None:
    """Chunks of the first round are worked out, a later one's searches from its candidates."""
    job = await a_job_with_a_retry(desk)
    statuses, claims = await desk.statuses(job), await desk.column(CLAIMS, j=job)
    await forget(desk, job)

    done = (await repair(desk))[job]
    assert (done.restored, done.round, done.problems) == (True, 2, ())
    assert await desk.statuses(job) == [*statuses[:2], "pending"]
    assert await desk.column(CLAIMS, j=job) == claims
    cursor = (await desk.book(job)).cursors[0]
    assert cursor.next_offset >= 10  # nothing of what was asked is asked again


async def test_a_closed_round_is_closed_as_it_was(desk: Desk) -> None:
    """By the facts that were published: not by what the planner would decide today."""
    job = await desk.admitted(5)
    chunk = chunk_id(job, 0)
    await decide(desk, chunk, "a", "b", "c", "d", "e")
    await desk.upload(chunk, 5)
    facts, heard = await desk.facts(job), await told(desk, job)
    assert facts.closed_round == 1
    await forget(desk, job)
    await repair(desk, heard)
    assert (await desk.book(job)).facts == facts
    await desk.handle(uploaded(chunk))
    assert await desk.facts(job) == facts


async def test_what_happened_to_a_job_since(desk: Desk) -> None:
    """A job of the backup was cancelled, another deleted: as the topics say."""
    cancelled, deleted = await desk.admitted(5), await desk.admitted(5)
    heard = {
        cancelled: Told(cancelled=True),
        deleted: Told(cancelled=True, deleted=True),
    }
    done = await repair(desk, heard)
    assert done[cancelled].cancelled
    assert done[deleted].deleted
    await desk.handle(JobCancelled(job_id=cancelled))
    assert await desk.result_status(chunk_id(cancelled, 0)) == "failed"
    await desk.handle(JobCancelled(job_id=deleted, deleted=True))
    assert await desk.rows(deleted) == []


async def test_slots_are_given_back_and_the_next_attempt_has_a_number_of_its_own(
    desk: Desk,
) -> None:
    """The backup knows of attempt 1; what attempt 3 says, which was admitted since, may come."""
    job = await desk.admitted(5)
    chunk = chunk_id(job, 0)
    (planned,) = await desk.said(job, ChunkPlanned)
    heard = Told()
    heard.hear(planned.model_copy(update={"attempt": 3}))
    done = (await repair(desk, {job: heard}))[job]
    assert done.chunks_released == 1
    await admission.admit(desk.tools[0])
    await desk.handle(failed(chunk, 3, retriable=False))
    assert [(row["status"], row["attempt"]) for row in await desk.rows(job)] == [("processing", 4)]


async def test_what_cannot_be_mended_is_said(desk: Desk) -> None:
    """A job of which nothing is known, a round that had not begun, results that are gone."""
    lost = new_job_id()
    early = await desk.admitted(5)
    gone = await desk.admitted(5)
    await desk.upload(chunk_id(gone, 0), 5)
    await desk.blobs.delete(names.result(chunk_id(gone, 0)))
    heard = {lost: Told(asked=1), early: Told(asked=2)}
    done = await repair(desk, heard)
    assert "ask for it again" in done[lost].problems[0]
    assert "round 2" in done[early].problems[0]
    assert "no result" in done[gone].problems[0]


async def test_two_chunks_that_keep_one_image_are_a_problem_and_no_crash(desk: Desk) -> None:
    """Services worked on the old database: nobody can undo what both have written."""
    job = await desk.admitted(10)
    first, second = chunk_id(job, 0), chunk_id(job, 1)
    await desk.claim(first, ["a"], 10)
    await desk.write_verdicts(first, [verdict(0, "a", Outcome.KEPT)])
    await desk.write_verdicts(second, [verdict(0, "a", Outcome.KEPT)])
    done = (await repair(desk))[job]
    assert "another chunk" in done.problems[0]
    assert await desk.column(CLAIMS, j=job) == [first]


async def test_running_services_are_not_tolerated(desk: Desk, module_database: str) -> None:
    """A connection of a service's role is enough, idle or not."""
    await ensure_roles(module_database, {"planner": "secret"})
    engine = connect(service_url(module_database, "planner", "secret"))
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            with pytest.raises(ServicesRun, match="pixcrawler_planner"):
                await repairing.repair(desk.engine, desk.blobs, {})
    finally:
        await engine.dispose()


def test_the_first_closing_counts_whatever_comes_after() -> None:
    """Repetitions say the same; the facts of an open round say nothing of its end."""
    facts = JobFacts(
        round=1,
        closed_round=1,
        status="completed",
        reason="reached",
        total_chunks=1,
        requested=5,
        kept=5,
    )
    heard, job = Told(), new_job_id()
    opened = facts.model_copy(update={"closed_round": 0, "reason": "", "status": "running"})
    for one in (opened, facts, facts):
        heard.hear(JobPlanned(job_id=job, **one.model_dump()))
    assert heard.closings == {1: facts}
