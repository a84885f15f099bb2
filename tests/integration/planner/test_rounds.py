"""Rounds: splitting, ending, refilling, closing; one replica."""

import pytest
from sqlalchemy import event as sqlalchemy_event

from pixcrawler.common import names
from pixcrawler.common.chunks import result_of
from pixcrawler.common.documents import Stream, Unanswered
from pixcrawler.common.events import JobCancelled, JobCreated
from pixcrawler.common.outcomes import Outcome
from pixcrawler.planner import admission, timer
from tests.integration.planner.desk import Desk, failed, slices_of, uploaded, verdict

CAT = Stream(source="commons", keyword="cat")


async def test_split_exactly(desk: Desk) -> None:
    """2500 images in chunks of 500 are five chunks, 0-499 to 2000-2499, dealt over the searches."""
    job = await desk.started(2500, chunk_size=500, keywords=["cat", "dog"])
    rows = await desk.rows(job)
    assert [(r["image_range"]["start"], r["image_range"]["end"]) for r in rows] == [
        (0, 499),
        (500, 999),
        (1000, 1499),
        (1500, 1999),
        (2000, 2499),
    ]
    assert [(s.keyword, s.offset, s.limit) for s in slices_of(rows[1])] == [
        ("cat", 250, 250),
        ("dog", 250, 250),
    ]
    facts = await desk.facts(job)
    assert (facts.status, facts.round, facts.closed_round, facts.total_chunks) == (
        "pending",
        1,
        0,
        5,
    )
    assert [c.next_offset for c in (await desk.book(job)).cursors] == [1250, 1250]


async def test_one_bulk_insert_a_job(desk: Desk) -> None:
    """However many chunks a job has, they are made by one statement."""
    inserts: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        if "INSERT INTO job_chunks" in statement:
            inserts.append(statement)

    sqlalchemy_event.listen(desk.engine.sync_engine, "before_cursor_execute", note)
    job = await desk.started(20_000, chunk_size=5)
    assert len(await desk.rows(job)) == 4000
    assert len(inserts) == 1


async def test_split_once(desk: Desk) -> None:
    """A repeated job.created makes no further chunk and says nothing."""
    job = await desk.started(12)
    said = await desk.said(job)
    await desk.handle(JobCreated(job_id=job, round=1, reason="start"))
    assert len(await desk.rows(job)) == 3
    assert await desk.said(job) == said


async def test_unknown_and_unstarted(desk: Desk) -> None:
    """A job that nobody knows, or nobody started, is left alone."""
    unstarted = await desk.create(10, started=False)
    await desk.handle(JobCreated(job_id=unstarted, round=1, reason="start"))
    await desk.handle(JobCancelled(job_id="0199a000-0000-7000-8000-000000000000"))
    assert await desk.rows(unstarted) == []
    assert await desk.said(unstarted) == []


async def test_reached(desk: Desk) -> None:
    """When every chunk has ended and the number is reached, the round closes as completed."""
    job = await desk.admitted(10)
    first, second = [row["chunk_id"] for row in await desk.rows(job)]
    await desk.upload(first, 5)
    assert (await desk.facts(job)).closed_round == 0
    await desk.upload(second, 5)
    facts = await desk.facts(job)
    assert (facts.status, facts.reason, facts.closed_round) == ("completed", "reached", 1)
    assert (facts.kept, facts.requested, facts.completed, facts.failed) == (10, 10, "0-1", "")
    assert facts.images.candidates == 10
    assert facts.closed_at is not None
    assert (await desk.book(job)).facts == facts


async def test_closed_facts_never_change(desk: Desk) -> None:
    """Whatever comes after the closing, the round's facts stay, and nothing more is said."""
    job = await desk.admitted(5)
    chunk = (await desk.rows(job))[0]["chunk_id"]
    await desk.upload(chunk, 5)
    before, said = await desk.dump(), await desk.said(job)
    await desk.handle(uploaded(chunk))
    await desk.handle(failed(chunk))
    await desk.handle(JobCreated(job_id=job, round=1, reason="start"))
    await desk.cancel(job)
    await desk.handle(JobCancelled(job_id=job))
    assert await desk.dump() == before
    assert await desk.said(job) == said


async def test_refill_goes_on_where_searches_stopped(desk: Desk) -> None:
    """What is missing is planned from the cursors on, with the numbering continued."""
    job = await desk.admitted(10)
    for row in await desk.rows(job):
        await desk.upload(row["chunk_id"], 4)
    rows = await desk.rows(job)
    assert len(rows) > 2
    assert rows[2]["image_range"]["start"] == 10
    assert slices_of(rows[2])[0].offset == 10
    facts = await desk.facts(job)
    assert (facts.status, facts.closed_round, facts.kept) == ("running", 0, 8)


async def test_refill_until_exactly(desk: Desk) -> None:
    """Refills follow each other until the number is reached."""
    job = await desk.admitted(20)
    while (await desk.facts(job)).closed_round == 0:
        for row in await desk.rows(job):
            missing = 20 - (await desk.facts(job)).kept
            if row["status"] == "processing":
                await desk.upload(row["chunk_id"], min(missing, 2))
        await admission.admit(desk.tools[0])
    facts = await desk.facts(job)
    assert (facts.status, facts.kept) == ("completed", 20)


async def test_exhausted(desk: Desk) -> None:
    """A search that ran dry is not asked again; without any other the round closes."""
    job = await desk.admitted(5)
    await desk.upload((await desk.rows(job))[0]["chunk_id"], 3, exhausted=[CAT])
    facts = await desk.facts(job)
    assert (facts.status, facts.reason, facts.kept) == ("incomplete", "exhausted", 3)


async def test_only_dry_searches_are_skipped(desk: Desk) -> None:
    """A refill asks the searches that may have more."""
    job = await desk.admitted(6, chunk_size=6, keywords=["cat", "dog"])
    await desk.upload((await desk.rows(job))[0]["chunk_id"], 3, candidates=6, exhausted=[CAT])
    assert {s.keyword for s in slices_of((await desk.rows(job))[1])} == {"dog"}


async def test_empty_chunk_shows_that_a_search_is_dry(desk: Desk) -> None:
    """A chunk that completed without a candidate is the end of its searches."""
    job = await desk.admitted(5)
    await desk.upload((await desk.rows(job))[0]["chunk_id"], 0, candidates=0)
    facts = await desk.facts(job)
    assert (facts.status, facts.reason) == ("failed", "exhausted")


async def test_urls_end_where_the_list_ends(desk: Desk) -> None:
    """A list of 7 URLs makes two chunks for 20 images, and no refill."""
    urls = [f"http://web.test/{n}" for n in range(7)]
    job = await desk.admitted(20, sources=["urls"], keywords=[], urls=urls)
    rows = await desk.rows(job)
    assert [r["image_range"] for r in rows] == [{"start": 0, "end": 4}, {"start": 5, "end": 6}]
    for row in rows:
        await desk.upload(row["chunk_id"], 2)
    facts = await desk.facts(job)
    assert (facts.status, facts.reason, facts.kept) == ("incomplete", "exhausted", 4)


async def test_budget(desk: Desk) -> None:
    """Candidates planned never exceed the factor; then the round closes."""
    job = await desk.admitted(10, refill_factor=3.0)
    for _ in range(20):
        for row in await desk.rows(job):
            if row["status"] == "processing":
                await desk.upload(row["chunk_id"], 0)
        await admission.admit(desk.tools[0])
    rows = await desk.rows(job)
    assert sum(s.limit for row in rows for s in slices_of(row)) == 30
    facts = await desk.facts(job)
    assert (facts.status, facts.reason) == ("failed", "budget")


async def test_extend(desk: Desk) -> None:
    """An extension opens a new round, which the refill fills up to the new number."""
    job = await desk.admitted(5)
    await desk.upload((await desk.rows(job))[0]["chunk_id"], 5)
    assert await desk.request(job, "extend", images=4)
    await desk.handle(JobCreated(job_id=job, round=2, reason="extend"))
    facts = await desk.facts(job)
    assert (facts.round, facts.closed_round, facts.status) == (2, 1, "pending")
    assert (facts.requested, facts.total_chunks) == (9, len(await desk.rows(job)))
    await admission.admit(desk.tools[0])
    assert (await desk.facts(job)).status == "running"
    open_chunks = [r["chunk_id"] for r in await desk.rows(job) if r["status"] == "processing"]
    for number, chunk in enumerate(open_chunks):
        await desk.upload(chunk, 4 if number == 0 else 0)
    facts = await desk.facts(job)
    assert (facts.closed_round, facts.status, facts.kept) == (2, "completed", 9)


async def test_extension_while_open(desk: Desk) -> None:
    """An extension of an open round counts at its closing, which closes the latest round."""
    job = await desk.admitted(5)
    await desk.request(job, "extend", images=1)
    await desk.upload((await desk.rows(job))[0]["chunk_id"], 5)
    facts = await desk.facts(job)
    assert (facts.round, facts.closed_round, facts.kept, facts.requested) == (2, 0, 5, 6)


async def test_retry_makes_a_new_chunk(desk: Desk) -> None:
    """A retry has the same slices and range; the failed chunk is history and no longer counts."""
    job = await desk.admitted(10)
    first, second = [row["chunk_id"] for row in await desk.rows(job)]
    await desk.handle(failed(first, retriable=False))
    await desk.upload(second, 5, exhausted=[CAT])
    assert (await desk.facts(job)).status == "incomplete"
    assert await desk.request(job, "retry", chunk_ids=[first])
    await desk.handle(JobCreated(job_id=job, round=2, reason="retry"))
    old, _, new = await desk.rows(job)
    assert (new["retry_of"], new["slices"], new["image_range"]) == (
        first,
        old["slices"],
        old["image_range"],
    )
    assert (old["status"], new["status"]) == ("failed", "pending")
    facts = await desk.facts(job)
    assert (facts.failed, facts.superseded, facts.total_chunks) == ("0", "0", 3)
    await admission.admit(desk.tools[0])
    await desk.upload(new["chunk_id"], 5)
    facts = await desk.facts(job)
    assert (facts.status, facts.kept, facts.closed_round) == ("completed", 10, 2)
    assert facts.images.candidates == 10


async def test_retry_twice_makes_one(desk: Desk) -> None:
    """Asking twice for the same retry, by name and for all, makes one chunk."""
    job = await desk.admitted(5)
    chunk = (await desk.rows(job))[0]["chunk_id"]
    await desk.handle(failed(chunk, retriable=False))
    await desk.request(job, "retry", chunk_ids=[chunk, chunk])
    await desk.request(job, "retry")
    await desk.handle(JobCreated(job_id=job, round=3, reason="retry"))
    await desk.handle(JobCreated(job_id=job, round=2, reason="retry"))
    assert [r["retry_of"] for r in await desk.rows(job)].count(chunk) == 1
    await desk.request(job, "retry", chunk_ids=[chunk])
    await desk.handle(JobCreated(job_id=job, round=4, reason="retry"))
    assert [r["retry_of"] for r in await desk.rows(job)].count(chunk) == 1


async def test_cancel(desk: Desk) -> None:
    """Cancelling gives up every open chunk and closes the round; what was uploaded stays."""
    job = await desk.admitted(15)
    done, running, _ = [row["chunk_id"] for row in await desk.rows(job)]
    await desk.upload(done, 5)
    await desk.write_verdicts(
        running, [verdict(0, "a", Outcome.KEPT), verdict(1, "b", Outcome.HTTP_ERROR)]
    )
    await desk.cancel(job)
    await desk.handle(JobCancelled(job_id=job))
    rows = await desk.rows(job)
    assert [r["status"] for r in rows] == ["completed", "failed", "failed"]
    assert [r["error"] for r in rows] == [None, "cancelled", "cancelled"]
    facts = await desk.facts(job)
    assert (facts.status, facts.reason, facts.kept) == ("cancelled", "cancelled", 5)
    assert (facts.completed, facts.failed, facts.closed_round) == ("0", "1-2", 1)
    result = await result_of(desk.blobs, running)
    assert result is not None
    assert (result.error, result.images.dropped) == ("cancelled", {"failed": 1, "http_error": 1})


async def test_cancel_of_an_unstarted_job(desk: Desk) -> None:
    """It makes a round without chunks, which closes as cancelled."""
    job = await desk.create(5, started=False)
    await desk.cancel(job)
    await desk.handle(JobCancelled(job_id=job))
    facts = await desk.facts(job)
    assert (facts.status, facts.round, facts.closed_round, facts.total_chunks) == (
        "cancelled",
        1,
        1,
        0,
    )


async def test_cancel_against_completion(desk: Desk) -> None:
    """A chunk whose completed result was there first is completed, though the job is cancelled."""
    job = await desk.admitted(5)
    chunk = (await desk.rows(job))[0]["chunk_id"]
    await desk.complete(chunk, 5)
    await desk.cancel(job)
    await desk.handle(JobCancelled(job_id=job))
    assert await desk.statuses(job) == ["completed"]
    facts = await desk.facts(job)
    assert (facts.status, facts.kept, facts.completed) == ("cancelled", 5, "0")


async def test_delete_erases_again_and_again(desk: Desk) -> None:
    """The rows of a deleted job go, also if something brings them back; nothing more is said."""
    job = await desk.admitted(5)
    said = await desk.said(job)
    await desk.delete(job)
    await desk.handle(JobCancelled(job_id=job, deleted=True))
    assert await desk.dump() == []
    await desk.execute(
        "INSERT INTO job_rounds (job_id, round, cursors) VALUES (:j, 1, '[]')", j=job
    )
    await timer.review(desk.tools[0])
    await desk.handle(JobCreated(job_id=job, round=1, reason="start"))
    assert await desk.dump() == []
    assert await desk.said(job) == said


async def test_uploaded_after_giving_up(desk: Desk) -> None:
    """A late chunk.uploaded of a chunk that was given up changes nothing."""
    job = await desk.admitted(5)
    chunk = (await desk.rows(job))[0]["chunk_id"]
    await desk.handle(failed(chunk, retriable=False, error="no_valid_images"))
    await desk.complete(chunk, 5)
    before = (await desk.rows(job))[0]
    await desk.handle(uploaded(chunk))
    assert (await desk.rows(job))[0] == before
    assert before["status"] == "failed"


async def test_giving_up_after_completion(desk: Desk) -> None:
    """Giving up on a chunk that has a completed result makes it completed."""
    job = await desk.admitted(5)
    chunk = (await desk.rows(job))[0]["chunk_id"]
    await desk.complete(chunk, 5)
    await desk.handle(failed(chunk, retriable=False))
    assert await desk.statuses(job) == ["completed"]
    assert (await desk.facts(job)).status == "completed"


async def test_uploaded_without_a_result(desk: Desk) -> None:
    """Only the result says how a chunk ended: an event alone does not."""
    job = await desk.admitted(5)
    await desk.handle(uploaded((await desk.rows(job))[0]["chunk_id"]))
    assert await desk.statuses(job) == ["processing"]


async def test_released_claims_are_won_back(desk: Desk) -> None:
    """What a completed chunk dropped for an image whose chunk failed later is run again, first."""
    job = await desk.admitted(4, chunk_size=2)
    one, two = [row["chunk_id"] for row in await desk.rows(job)]
    await desk.claim(one, ["a", "b"], 4)
    await desk.claim(two, ["a", "c"], 4)
    await desk.write_verdicts(
        two, [verdict(0, "a", Outcome.DUPLICATE, "a"), verdict(1, "c", Outcome.KEPT)]
    )
    await self_upload(desk, two, {"duplicate": 1}, valid=1)
    await desk.handle(failed(one, retriable=False))
    rows = await desk.rows(job)
    assert len(rows) == 3
    assert rows[2]["slices"] == rows[1]["slices"]
    assert rows[2]["retry_of"] is None
    assert (await desk.facts(job)).superseded == ""


async def test_rerun_ends(desk: Desk) -> None:
    """A run that gained nothing is not repeated: then the searches go on."""
    job = await desk.admitted(4, chunk_size=2)
    one, two = [row["chunk_id"] for row in await desk.rows(job)]
    await desk.claim(one, ["a", "b"], 4)
    await desk.write_verdicts(
        two, [verdict(0, "a", Outcome.DUPLICATE, "a"), verdict(1, "c", Outcome.KEPT)]
    )
    await desk.claim(two, ["a", "c"], 4)
    await self_upload(desk, two, {"duplicate": 1}, valid=1)
    await desk.handle(failed(one, retriable=False))
    again = (await desk.rows(job))[2]["chunk_id"]
    await admission.admit(desk.tools[0])
    await desk.write_verdicts(
        again, [verdict(0, "a", Outcome.HTTP_ERROR), verdict(1, "c", Outcome.DUPLICATE, "c")]
    )
    await self_upload(desk, again, {"duplicate": 1, "http_error": 1}, valid=0)
    rows = await desk.rows(job)
    assert [slices_of(row)[0].offset for row in rows[3:]] == [4, 6, 8][: len(rows) - 3]


async def test_surplus_is_wanted_after_an_extension(desk: Desk) -> None:
    """Images that were surplus before are the first that an extension takes."""
    job = await desk.admitted(2, chunk_size=3)
    chunk = (await desk.rows(job))[0]["chunk_id"]
    await desk.claim(chunk, ["a", "b", "c"], 2)
    await desk.write_verdicts(
        chunk,
        [
            verdict(0, "a", Outcome.KEPT),
            verdict(1, "b", Outcome.KEPT),
            verdict(2, "c", Outcome.SURPLUS),
        ],
    )
    await self_upload(desk, chunk, {"surplus": 1}, valid=2)
    await desk.request(job, "extend", images=1)
    await desk.handle(JobCreated(job_id=job, round=2, reason="extend"))
    rows = await desk.rows(job)
    assert [row["slices"] for row in rows[1:]] == [rows[0]["slices"]]


async def self_upload(desk: Desk, chunk: str, dropped: dict[str, int], *, valid: int) -> None:
    """Complete a chunk with these counts and tell the planner."""
    from pixcrawler.common.documents import ChunkResult
    from pixcrawler.common.events import ImageTotals

    totals = ImageTotals(candidates=valid + sum(dropped.values()), valid=valid, dropped=dropped)
    result = ChunkResult(chunk_id=chunk, status="completed", images=totals)
    await desk.blobs.create(names.result(chunk), result.model_dump_json().encode())
    await desk.handle(uploaded(chunk))


@pytest.mark.parametrize("shown", [False, True])
async def test_repeated_until_shown(desk: Desk, *, shown: bool) -> None:
    """job.planned is repeated until the shown progress has the round finished."""
    job = await desk.admitted(5)
    await desk.upload((await desk.rows(job))[0]["chunk_id"], 5)
    said = await desk.said(job)
    if shown:
        await desk.show_finished(job, 1)
    await timer.review(desk.tools[0])
    assert (await desk.said(job))[len(said) :] == ([] if shown else said[-1:])


async def test_deletion_repeated_until_gone(desk: Desk) -> None:
    """For a deleted job job.cancelled is repeated until its progress is gone."""
    job = await desk.started(5)
    await desk.show_finished(job, 0)
    await desk.delete(job)
    await timer.review(desk.tools[0])
    await timer.review(desk.tools[0])
    assert len(await desk.said(job, JobCancelled)) == 1 + 2
    await desk.forget_progress(job)
    await timer.review(desk.tools[0])
    assert len(await desk.said(job, JobCancelled)) == 1 + 2


async def test_timer_heals_a_lost_event(desk: Desk) -> None:
    """A job whose events were all lost is split, and a closed round is found, by the timer."""
    job = await desk.create(5)
    await timer.review(desk.tools[0])
    assert await desk.statuses(job) == ["pending"]
    await desk.cancel(job)
    await timer.review(desk.tools[0])
    assert (await desk.facts(job)).status == "cancelled"


async def test_unanswered_slices_come_back(desk: Desk) -> None:
    """They stand in the row and cost no budget; their search rests, and the next round closes the
    gap with the very slices."""
    job = await desk.admitted(10, chunk_size=10, sources=["openverse", "commons"])
    [row] = await desk.rows(job)
    owed = Unanswered(source="openverse", keyword="cat", offset=0, limit=5, reason="away")
    await desk.upload(row["chunk_id"], 3, candidates=5, exhausted=[CAT], unanswered=[owed])
    facts = await desk.facts(job)
    assert (facts.status, facts.reason, facts.closed_round) == ("incomplete", "unavailable", 1)
    [row] = await desk.rows(job)
    assert [Unanswered.model_validate(one) for one in row["unanswered"]] == [owed]
    assert await desk.column("SELECT spent FROM job_rounds WHERE job_id = :j", j=job) == [5]

    await desk.request(job, "retry")
    await desk.handle(JobCreated(job_id=job, round=2, reason="retry"))
    _, again, *more = await desk.rows(job)
    planned = [piece for row in (again, *more) for piece in slices_of(row)]
    assert (planned[0].source, planned[0].offset, planned[0].limit) == ("openverse", 0, 5)
    assert {piece.source for piece in planned} == {"openverse"}
    assert [piece.offset for piece in planned[1:]] == [5] * len(planned[1:])


async def test_a_chunk_that_no_source_answered_is_retried(desk: Desk) -> None:
    """The round closes as unavailable; an extension asks again with the same slices, as a retry."""
    job = await desk.admitted(5)
    [row] = await desk.rows(job)
    await desk.handle(failed(row["chunk_id"], retriable=False, error="source_unavailable"))
    facts = await desk.facts(job)
    assert (facts.status, facts.reason) == ("failed", "unavailable")
    await desk.request(job, "extend", images=1)
    await desk.handle(JobCreated(job_id=job, round=2, reason="extend"))
    old, new = (await desk.rows(job))[:2]
    assert (new["retry_of"], new["slices"]) == (old["chunk_id"], old["slices"])
    assert (await desk.facts(job)).superseded == "0"
