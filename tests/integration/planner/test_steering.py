"""What operators want of the planner: priorities, chunks given up, stages and sources paused."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from pixcrawler.common import controls, ids
from pixcrawler.common.controls import PAUSED_MARK, SOURCE_PAUSED, Kind
from pixcrawler.common.documents import Stream, Unanswered
from pixcrawler.common.events import ChunkPlanned, JobCreated
from pixcrawler.planner import admission, timer
from pixcrawler.planner.signs import Signs
from tests.integration.planner.desk import Desk, failed, open_desk, slices_of


@pytest_asyncio.fixture
async def desk(module_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    """The planner, and nothing stopped."""
    async with open_desk(module_database, tmp_path, replicas=2) as opened:
        await opened.execute("TRUNCATE controls, replicas")
        yield opened


async def stop(desk: Desk, kind: Kind, name: str) -> None:
    """As the api does it."""
    async with desk.engine.begin() as connection:
        await controls.begin(connection, kind, name, "")


async def let_go(desk: Desk, kind: Kind, name: str) -> None:
    """Likewise."""
    async with desk.engine.begin() as connection:
        await controls.end(connection, kind, name)


async def tick(desk: Desk) -> None:
    """A second passes."""
    await timer.tick(desk.tools[0], Signs(desk.engine))


async def planned(desk: Desk) -> list[str]:
    """The chunks that were let through, in order."""
    rows = await desk.column(
        "SELECT convert_from(value, 'UTF8')::jsonb->>'chunk_id' FROM outbox "
        "WHERE topic = 'chunk.planned' ORDER BY id"
    )
    return [str(row) for row in rows]


async def test_another_priority(desk: Desk) -> None:
    """Chunks that wait move in the line, those in progress and other jobs' stay; once is enough,
    whichever replica does it; a chunk that comes back, and one that is new, have it too."""
    job, other = await desk.started(10), await desk.started(10)
    assert (await admission.admit_one(desk.tools[0])).answer is admission.Answer.ADMITTED
    await desk.execute("UPDATE crawl_jobs SET priority = 2 WHERE job_id = :j", j=job)
    for tools in (*desk.tools, *desk.tools):
        await timer.obey(tools)
    assert [row["priority"] for row in await desk.rows(job)] == [5, 2]
    assert [row["priority"] for row in await desk.rows(other)] == [5, 5]
    await admission.admit(desk.tools[0])
    assert (await planned(desk))[1:] == [
        *(ids.chunk_id(other, 0), ids.chunk_id(other, 1)),
        ids.chunk_id(job, 1),
    ]
    await desk.handle(failed(ids.chunk_id(job, 0)))
    await timer.obey(desk.tools[0])
    assert (await desk.rows(job))[0]["priority"] == 2
    await admission.admit(desk.tools[0])
    for index in range(2):
        await desk.upload(ids.chunk_id(job, index), 2)
    assert {row["priority"] for row in (await desk.rows(job))[2:]} == {2}


async def test_a_chunk_is_given_up(desk: Desk) -> None:
    """It fails with the reason that was given, its slot is free, and the round goes on without it;
    what a stage says of it later changes nothing, and a retry makes another chunk of it."""
    job = await desk.admitted(10, refill_factor=1.0)
    chunk, waiting = ids.chunk_id(job, 0), ids.chunk_id(job, 1)
    await desk.execute("UPDATE job_chunks SET status = 'pending' WHERE chunk_id = :c", c=waiting)
    for each in (chunk, waiting):
        await desk.execute(
            "INSERT INTO given_up_chunks (chunk_id, job_id, reason) VALUES (:c, :j, 'it hangs')",
            c=each,
            j=job,
        )
    for tools in (*desk.tools, *desk.tools):
        await timer.obey(tools)
    rows = await desk.rows(job)
    assert [(row["status"], row["error"], row["error_message"]) for row in rows] == [
        ("failed", "given_up", "an operator gave it up: it hangs")
    ] * 2
    assert (await desk.facts(job)).status == "failed"
    late = await desk.complete(chunk, 5)
    await desk.upload(chunk, 5)
    await desk.handle(failed(chunk))
    assert await desk.result_status(late.chunk_id) == "failed"
    assert [row["status"] for row in await desk.rows(job)] == ["failed", "failed"]
    await desk.request(job, "retry", chunk_ids=[chunk])
    await desk.handle(JobCreated(job_id=job, round=2, reason="retry"))
    await timer.obey(desk.tools[0])
    again = (await desk.rows(job))[2]
    assert (again["status"], again["retry_of"]) == ("pending", chunk)


async def test_what_completed_first_stays_completed(desk: Desk) -> None:
    """A chunk whose result is there has ended as that says, however late it is given up."""
    job = await desk.admitted(5)
    chunk = ids.chunk_id(job, 0)
    await desk.complete(chunk, 5)
    await desk.execute(
        "INSERT INTO given_up_chunks (chunk_id, job_id, reason) VALUES (:c, :j, '')", c=chunk, j=job
    )
    await tick(desk)
    assert await desk.statuses(job) == ["completed"]
    assert (await desk.facts(job)).status == "completed"


async def test_deadlines_are_held_while_a_stage_is_paused(desk: Desk) -> None:
    """Chunks in front of it are not taken back, those elsewhere are; and after it, the deadline
    begins anew."""
    job = await desk.admitted(10)
    before, elsewhere = ids.chunk_id(job, 0), ids.chunk_id(job, 1)
    await desk.execute("UPDATE job_chunks SET stage = 'validator' WHERE chunk_id = :c", c=elsewhere)
    await stop(desk, "stage", "downloader")
    for chunk in (before, elsewhere):
        await desk.silence(chunk)
    await tick(desk)
    assert [row["takebacks"] for row in await desk.rows(job)] == [0, 1]
    await let_go(desk, "stage", "downloader")
    await tick(desk)
    assert [row["takebacks"] for row in await desk.rows(job)] == [0, 1]
    await desk.execute("UPDATE controls SET ended_at = now() - interval '901 seconds'")
    await tick(desk)
    assert [row["takebacks"] for row in await desk.rows(job)] == [1, 1]


async def test_chunks_of_a_paused_source_wait(desk: Desk) -> None:
    """Those that have another one are let through; what was let through comes back uncounted,
    however often, and goes on when the source does."""
    alone = await desk.started(5, sources=("openverse",))
    both = await desk.started(10, sources=("openverse", "commons"))
    await stop(desk, "source", "openverse")
    await admission.admit(desk.tools[0])
    assert {each.rpartition("-")[0] for each in await planned(desk)} == {both}
    assert await desk.statuses(alone) == ["pending"]
    await let_go(desk, "source", "openverse")
    await admission.admit(desk.tools[0])
    chunk = ids.chunk_id(alone, 0)
    for attempt in range(1, 6):
        await desk.handle(failed(chunk, attempt, error=SOURCE_PAUSED))
        await desk.execute("UPDATE job_chunks SET not_before = NULL WHERE chunk_id = :c", c=chunk)
        row = (await desk.rows(alone))[0]
        assert (row["status"], row["retry_count"]) == ("pending", 0)
        await admission.admit(desk.tools[0])
    assert (await desk.rows(alone))[0]["attempt"] == 6


async def test_a_round_waits_for_a_paused_source(desk: Desk) -> None:
    """Where only that may have more, nothing is planned and the round is not closed; it goes on
    with it as soon as it may be asked, with what it owes first."""
    job = await desk.admitted(4, sources=("openverse", "commons"))
    chunk = ids.chunk_id(job, 0)
    [owed] = [s for s in slices_of((await desk.rows(job))[0]) if s.source == "openverse"]
    await stop(desk, "source", "openverse")
    await desk.upload(
        chunk,
        1,
        candidates=2,
        exhausted=[Stream(source="commons", keyword="cat")],
        unanswered=[Unanswered(**owed.model_dump(), reason=f"{PAUSED_MARK}it is")],
    )
    await timer.review(desk.tools[0])
    assert await desk.statuses(job) == ["completed"]
    assert (await desk.facts(job)).reason == ""
    await let_go(desk, "source", "openverse")
    await timer.review(desk.tools[0])
    new = (await desk.rows(job))[1:]
    assert new
    pieces = [piece for row in new for piece in slices_of(row)]
    assert {piece.source for piece in pieces} == {"openverse"}
    assert min(piece.offset for piece in pieces) == owed.offset
    assert len(await desk.said(job, ChunkPlanned)) == 1
