"""Three replicas at the same time: what one decides the others find."""

import asyncio

from pixcrawler.common.events import ChunkPlanned, JobCancelled, JobCreated, JobPlanned
from pixcrawler.planner import admission, timer
from tests.integration.planner.desk import Desk, failed, uploaded


def closings(said: list[object]) -> list[int]:
    """The rounds that were closed, as often as it was said."""
    planned = [event for event in said if isinstance(event, JobPlanned)]
    return [event.closed_round for event in planned if event.closed_round == event.round]


async def test_split_by_all(replicas: Desk) -> None:
    """The same job.created at three replicas at once makes each chunk once."""
    job = await replicas.create(50)
    event = JobCreated(job_id=job, round=1, reason="start")
    await asyncio.gather(*(replicas.handle(event, replica) for replica in range(3)))
    assert [row["chunk_index"] for row in await replicas.rows(job)] == list(range(10))
    assert len(await replicas.said(job)) == 1


async def test_the_last_two_chunks(replicas: Desk) -> None:
    """Two replicas that each end one of the last two chunks do not both look away."""
    for _ in range(10):
        job = await replicas.admitted(10)
        chunks = [row["chunk_id"] for row in await replicas.rows(job)]
        for chunk in chunks:
            await replicas.complete(chunk, 5)
        await asyncio.gather(
            replicas.handle(uploaded(chunks[0]), 0), replicas.handle(uploaded(chunks[1]), 1)
        )
        assert closings(list(await replicas.said(job))) == [1]


async def test_closed_once(replicas: Desk) -> None:
    """However many replicas look at once, a round is closed once."""
    job = await replicas.admitted(5)
    chunk = (await replicas.rows(job))[0]["chunk_id"]
    await replicas.complete(chunk, 5)
    await asyncio.gather(
        *(replicas.handle(uploaded(chunk), replica) for replica in range(3)),
        *(timer.review(tools) for tools in replicas.tools),
    )
    facts = await replicas.facts(job)
    assert facts.status == "completed"
    assert {facts.model_dump_json()} == {
        event.facts().model_dump_json()
        for event in await replicas.said(job)
        if isinstance(event, JobPlanned) and event.closed_round
    }


async def test_refilled_once(replicas: Desk) -> None:
    """A refill that three replicas find necessary is planned once."""
    job = await replicas.admitted(5)
    chunk = (await replicas.rows(job))[0]["chunk_id"]
    await replicas.complete(chunk, 4)
    await asyncio.gather(*(replicas.handle(uploaded(chunk), replica) for replica in range(3)))
    rows = await replicas.rows(job)
    assert len(rows) == 2
    assert rows[1]["image_range"]["start"] == 5


async def test_failed_and_completed_at_once(replicas: Desk) -> None:
    """Giving up and completing at the same time: the result decides, for the row too."""
    for _ in range(10):
        job = await replicas.admitted(5)
        chunk = (await replicas.rows(job))[0]["chunk_id"]

        async def complete(chunk: str = chunk) -> None:
            await replicas.complete(chunk, 5)
            await replicas.handle(uploaded(chunk), 1)

        await asyncio.gather(replicas.handle(failed(chunk, retriable=False), 0), complete())
        row = (await replicas.rows(job))[0]
        stored = await replicas.result_status(chunk)
        assert row["status"] == stored


async def test_taken_back_once(replicas: Desk) -> None:
    """A silent chunk that three replicas find is planned again once."""
    job = await replicas.admitted(5)
    await replicas.silence((await replicas.rows(job))[0]["chunk_id"])
    await asyncio.gather(*(timer.watch_deadlines(tools) for tools in replicas.tools))
    assert (await replicas.rows(job))[0]["attempt"] == 2
    assert len(await replicas.said(job, ChunkPlanned)) == 2


async def test_cancel_against_admission(replicas: Desk) -> None:
    """A job that is cancelled while it is admitted ends with every chunk failed, no slot held."""
    for _ in range(5):
        job = await replicas.started(25)
        await replicas.cancel(job)
        await asyncio.gather(
            replicas.handle(JobCancelled(job_id=job), 0),
            *(admission.admit(tools) for tools in replicas.tools),
        )
        await replicas.handle(JobCancelled(job_id=job), 1)
        assert set(await replicas.statuses(job)) == {"failed"}
        assert (await replicas.facts(job)).status == "cancelled"


async def test_everything_again(replicas: Desk) -> None:
    """Every event of a job that is over, again, at three replicas at once, changes nothing."""
    job = await replicas.admitted(10)
    first, second = [row["chunk_id"] for row in await replicas.rows(job)]
    await replicas.handle(failed(first))
    await admission.admit(replicas.tools[0])
    await replicas.upload(first, 5)
    await replicas.upload(second, 5)
    before, said = await replicas.dump(), await replicas.said(job)
    again = [
        JobCreated(job_id=job, round=1, reason="start"),
        failed(first),
        uploaded(first, 2),
        uploaded(second),
        failed(second, retriable=False),
    ]
    await asyncio.gather(
        *(replicas.handle(event, replica) for event in again for replica in range(3))
    )
    assert await replicas.dump() == before
    assert await replicas.said(job) == said
