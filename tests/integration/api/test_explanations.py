"""Why a job is not done, and who has what, over HTTP: from the rows that the planner writes."""

import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert, text

from pixcrawler.common import names
from pixcrawler.common.db.tables import job_rounds
from pixcrawler.common.events import JobFacts
from tests.integration.api.conftest import World

Made = Callable[[World], Awaitable[str]]


def step(state: str = "running", **changes: Any) -> dict[str, Any]:
    """A step of the first attempt in the downloader of w7, as the planner remembers it."""
    at = (datetime.now(UTC) - timedelta(seconds=40)).isoformat()
    return {
        "attempt": 1,
        "stage": "downloader",
        "worker": "w7",
        "topic": "chunk.planned",
        "state": state,
        "error": "",
        "started_at": at,
        "ended_at": None,
        **changes,
    }


def in_hand(silent_s: float = 2.0) -> dict[str, Any]:
    """The columns of a chunk that the downloader has."""
    seen = datetime.now(UTC) - timedelta(seconds=silent_s)
    told = {"stage": "downloader", "attempt": 1, "attempts": [step()]}
    return {**told, "admitted_at": seen, "last_seen_at": seen}


async def opened(world: World, job_id: str, **facts: Any) -> None:
    """The planner has taken up the first round; with `reason` it has closed it."""
    told = JobFacts.model_validate(
        {
            "round": 1,
            "closed_round": int("reason" in facts),
            "status": "running",
            "total_chunks": 1,
            "requested": 2500,
            "kept": 0,
            **facts,
        }
    )
    closed = datetime.now(UTC) if "reason" in facts else None
    async with world.db.begin() as connection:
        await connection.execute(
            insert(job_rounds).values(
                job_id=job_id,
                round=1,
                cursors=[],
                facts=told.model_dump(mode="json"),
                closed_at=closed,
            )
        )
        await connection.execute(
            text("UPDATE job_rounds SET created_at = created_at - interval '1 h'")
        )


async def planned(world: World, *statuses: str, **columns: Any) -> str:
    """A job with chunks like these."""
    job_id: str = (await world.job())["job_id"]
    await opened(world, job_id)
    await world.plan(job_id, *statuses, **columns)
    return job_id


async def closed(world: World, reason: str, status: str, *, shown: bool = True) -> str:
    """A job whose round is closed like this."""
    job_id: str = (await world.job())["job_id"]
    await opened(world, job_id, reason=reason, status=status, kept=40)
    await world.plan(job_id, "completed")
    if shown:
        await world.show(job_id, status, finished=1)
    return job_id


async def not_started(world: World) -> str:
    """Made with `start=false`."""
    return str((await world.job(start=False))["job_id"])


async def cancelling(world: World) -> str:
    """The planner has not heard of it yet."""
    job_id = await planned(world, "processing", **in_hand())
    await world.client.post(f"/v1/jobs/{job_id}/cancel")
    return job_id


async def event_not_sent(world: World) -> str:
    """The broker is away."""
    job_id: str = (await world.job())["job_id"]
    async with world.db.begin() as connection:
        await connection.execute(
            text("UPDATE outbox SET created_at = now() - interval '20 s' WHERE key = :key"),
            {"key": job_id.encode()},
        )
    return job_id


async def not_planned(world: World) -> str:
    """The event has left, and the planner does not run."""
    job_id: str = (await world.job())["job_id"]
    async with world.db.begin() as connection:
        await connection.execute(text("UPDATE outbox SET sent = true"))
    return job_id


async def overdue(world: World) -> str:
    """Silent for longer than the deadline of 900 s."""
    return await planned(world, "processing", **in_hand(silent_s=1000))


async def after_failure(world: World) -> str:
    """Its first attempt failed, and the second is due in a minute."""
    return await planned(
        world,
        "pending",
        attempt=1,
        attempts=[step("failed", error="blob_store")],
        error="blob_store",
        error_message="the disk is full",
        not_before=datetime.now(UTC) + timedelta(seconds=60),
    )


async def unanswered(world: World) -> str:
    """One of its searches is away."""
    owed = {"source": "openverse", "keyword": "cat", "offset": 0, "limit": 5, "reason": "is away"}
    return await planned(world, "completed", unanswered=[owed], ended_at=datetime.now(UTC))


async def failed(world: World) -> str:
    """A chunk was given up."""
    return await planned(world, "failed", "pending", error="x", error_message="the disk is full")


async def behind(world: World) -> str:
    """The tracker shows nothing of what has ended."""
    return await planned(world, "completed", ended_at=datetime.now(UTC) - timedelta(seconds=30))


async def stored(world: World) -> str:
    """The dataset is there, and the tracker does not know."""
    job_id = await closed(world, "reached", "completed", shown=False)
    await world.blobs.create(names.dataset_index(job_id, 1), b"{}")
    return job_id


CASES: list[tuple[str, Made, str]] = [
    ("not_started", not_started, "start=false"),
    ("cancelling", cancelling, "gives up its open chunks"),
    ("event_not_sent", event_not_sent, "waits in the outbox for 20 s"),
    ("not_planned", not_planned, "the planner has not taken it up yet"),
    ("chunk_overdue", overdue, "no sign of life for 16 min in the downloader on w7"),
    (
        "waits_after_failure",
        after_failure,
        "attempt 1 failed in the downloader on w7: blob_store: the disk is full.",
    ),
    ("waits_for_slot", lambda world: planned(world, "pending"), "1 chunk waits for a slot: it is"),
    (
        "chunk_in_stage",
        lambda world: planned(world, "processing", **in_hand()),
        " on w7; last sign of life ",
    ),
    ("source_unanswered", unanswered, "openverse could not be asked for 'cat': is away."),
    ("chunks_failed", failed, "1 chunk has failed for good, because: the disk is full."),
    (
        "deciding",
        lambda world: planned(world, "completed", ended_at=datetime.now(UTC)),
        "the planner is about to plan more",
    ),
    (
        "dataset_pending",
        lambda world: closed(world, "exhausted", "incomplete", shown=False),
        "Round 1 was closed as incomplete since no search has more to give",
    ),
    ("progress_behind", behind, "0 chunks have ended there, 1 in fact."),
    ("progress_behind", stored, "its dataset is stored"),
    ("finished", lambda world: closed(world, "reached", "completed"), "It is completed: 40 of"),
    ("exhausted", lambda world: closed(world, "exhausted", "incomplete"), "no search has more"),
    ("budget", lambda world: closed(world, "budget", "incomplete"), "refill_factor"),
    ("unavailable", lambda world: closed(world, "unavailable", "failed"), "It has failed: 40 of"),
    ("cancelled", lambda world: closed(world, "cancelled", "cancelled"), "It was cancelled; 40"),
]


@pytest.mark.parametrize(("code", "make", "sentence"), CASES, ids=[case[0] for case in CASES])
async def test_every_reason(world: World, code: str, make: Made, sentence: str) -> None:
    """Each state of the rows has its code and its sentence."""
    job_id = await make(world)
    answer = await world.get(f"/v1/jobs/{job_id}/explanation")
    assert answer["job_id"] == job_id
    [reason] = [reason for reason in answer["reasons"] if reason["code"] == code]
    assert sentence in reason["sentence"]
    if make not in (cancelling, failed, behind):  # which have another one before
        assert answer["reasons"][0] == reason


async def test_a_long_line(world: World) -> None:
    """The place in a line of 5,000 chunks is answered within a second."""
    ahead, job_id = [(await world.job(priority=priority))["job_id"] for priority in (9, 4)]
    async with world.db.begin() as connection:
        for job, chunks, priority in ((ahead, 4_999, 9), (job_id, 1, 4)):
            await connection.execute(
                text("""
                    INSERT INTO job_chunks (chunk_id, job_id, chunk_index, priority, image_range,
                                            slices)
                    SELECT :job || '-' || lpad(n::text, 5, '0'), :job, n, :priority, '{}', '[]'
                    FROM generate_series(1, CAST(:chunks AS int)) AS n"""),
                {"job": job, "chunks": chunks, "priority": priority},
            )
    await opened(world, job_id)
    took = []
    for _ in range(3):
        begun = time.monotonic()
        answer = await world.get(f"/v1/jobs/{job_id}/explanation")
        took.append(time.monotonic() - begun)
    [waits] = answer["reasons"]
    found = re.search(r"it is (\d+)[a-z]+ in a line of (\d+)", waits["sentence"])
    assert found is not None, waits
    assert int(found[2]) >= int(found[1]) >= 5_000
    assert min(took) < 1.0


async def test_a_deleted_job_is_not_there(world: World) -> None:
    """404, as everywhere."""
    job_id = await planned(world, "pending")
    await world.client.delete(f"/v1/jobs/{job_id}")
    got = await world.client.get(f"/v1/jobs/{job_id}/explanation")
    assert got.status_code == 404


async def test_who_has_what(world: World) -> None:
    """Chunks that hold slots, page by page; of everybody only for an admin who asks for it."""
    job_id = await planned(world, "processing", "pending", "processing", **in_hand())
    first = await world.get("/v1/workers", limit=1)
    second = await world.get("/v1/workers", limit=1, cursor=first["next_cursor"])
    found = first["items"] + second["items"]
    assert second["next_cursor"] is None
    assert [held["index"] for held in found] == [0, 2]
    assert {held["job_id"] for held in found} == {job_id}
    [held, _] = found
    assert (held["worker"], held["stage"], held["attempt"]) == ("w7", "downloader", 1)
    assert 2 <= held["silent_s"] < 30
    seen = datetime.fromisoformat(held["last_seen_at"])
    assert datetime.fromisoformat(held["deadline_at"]) - seen == timedelta(seconds=900)

    writer, admin = await world.key("somebody else"), await world.key("an operator", "admin")
    refused = await world.client.get("/v1/workers?all=true", headers=writer)
    assert refused.status_code == 403
    assert "scope admin" in refused.json()["detail"]
    own = await world.client.get("/v1/workers", headers=admin)
    assert own.json()["items"] == []
    everyone = await world.client.get("/v1/workers?all=true&limit=200", headers=admin)
    assert {held["chunk_id"] for held in found} <= {
        held["chunk_id"] for held in everyone.json()["items"]
    }
