"""Stages and sources that are paused, replicas that are drained, priorities, chunks given up."""

from typing import Any

import pytest
from sqlalchemy import text

from pixcrawler.common.steering import Steering
from tests.integration.api.conftest import World

Json = dict[str, Any]


@pytest.fixture(autouse=True)
async def _nothing_is_stopped(world: World) -> None:
    async with world.db.begin() as connection:
        await connection.execute(text("TRUNCATE controls, replicas"))


async def post(world: World, path: str, headers: dict[str, str] | None = None, **p: str) -> Json:
    """What is answered, its status among it."""
    response = await world.client.post(f"/v1{path}", headers=headers, params=p)
    return {"code": response.status_code, **response.json()}


async def reasons(world: World, job_id: str) -> dict[str, str]:
    """What the job's explanation says, by code."""
    told = await world.get(f"/v1/jobs/{job_id}/explanation")
    return {reason["code"]: reason["sentence"] for reason in told["reasons"]}


async def audited(world: World, admin: dict[str, str], kind: str) -> list[tuple[str, str, str]]:
    """The lines of one kind: what, to what, why; the latest first."""
    found = await world.client.get("/v1/audit", headers=admin, params={"action": kind})
    lines = [line for line in found.json()["items"] if line["owner"] in {"", "boss"}]
    return [(line["action"], line["subject"], line["reason"]) for line in lines]


async def test_a_stage_is_paused_and_resumed(world: World) -> None:
    """Once, however often it is asked for; the list, jobs and chunks say so; one line each."""
    admin = await world.key("boss", "admin")
    job_id = (await world.job(max_images=1000))["job_id"]
    chunk, _ = await world.plan(job_id, "processing", "processing", stage="downloader")
    await world.change_chunk(chunk, stage="uploader")
    for why in ("the proxy", "again"):
        paused = await post(world, "/stages/downloader/pause", admin, reason=why)
        assert (paused["code"], paused["paused"], paused["reason"]) == (202, True, "the proxy")
    assert [one["name"] for one in (await world.get("/v1/controls"))["items"]] == ["downloader"]
    told = await reasons(world, job_id)
    assert "downloader is paused since" in told["stage_paused"]
    assert "(the proxy)" in told["stage_paused"]
    held = {one["index"]: one["deadline_at"] for one in (await world.get("/v1/workers"))["items"]}
    assert held[1] is None
    assert held[0] is not None
    for _ in range(2):
        resumed = await post(world, "/stages/downloader/resume", admin)
        assert (resumed["code"], resumed["paused"]) == (202, False)
    assert (await world.get("/v1/controls"))["items"] == []
    assert "stage_paused" not in await reasons(world, job_id)
    assert await audited(world, admin, "stage") == [
        ("stage.resume", "downloader", ""),
        ("stage.pause", "downloader", "the proxy"),
    ]


async def test_a_stage_that_a_job_has_behind_it(world: World) -> None:
    """Is no reason why it waits; the last one is, as long as its dataset is not there."""
    admin = await world.key("boss", "admin")
    job_id = (await world.job())["job_id"]
    await world.plan(job_id, "processing", stage="uploader")
    await post(world, "/stages/validator/pause", admin)
    assert "stage_paused" not in await reasons(world, job_id)
    await post(world, "/stages/uploader/pause", admin)
    assert "uploader is paused" in (await reasons(world, job_id))["stage_paused"]
    await world.close_round(job_id, 1)
    assert "uploader is paused" in (await reasons(world, job_id))["stage_paused"]


async def test_a_source_is_paused(world: World) -> None:
    """Jobs that search there say so, others do not."""
    admin = await world.key("boss", "admin")
    mine = (await world.job(sources=["openverse"]))["job_id"]
    other = (await world.job(sources=["commons"]))["job_id"]
    for job_id in (mine, other):
        await world.plan(job_id, "pending")
    paused = await post(world, "/sources/openverse/pause", admin, reason="they asked us to")
    assert (paused["code"], paused["kind"]) == (202, "source")
    assert "(they asked us to)" in (await reasons(world, mine))["source_paused"]
    assert "source_paused" not in await reasons(world, other)
    assert (await post(world, "/sources/openverse/resume", admin))["paused"] is False
    assert "source_paused" not in await reasons(world, mine)


async def test_a_replica_is_drained(world: World) -> None:
    """One that tells of itself; the drain ends with it, or when it is resumed."""
    admin = await world.key("boss", "admin")
    replica = Steering(world.db, "validator", "validator-1")
    await replica.tell("working", 2)
    [shown] = (await world.get("/v1/replicas"))["items"]
    assert (shown["worker"], shown["state"], shown["in_hand"], shown["alive"]) == (
        *("validator-1", "working"),
        *(2, True),
    )
    drained = await post(world, "/replicas/validator-1/drain", admin, reason="odd disk")
    assert (drained["code"], drained["kind"], drained["paused"]) == (202, "replica", True)
    await replica.look()
    assert replica.drained is not None
    assert replica.drained.reason == "odd disk"
    assert (await post(world, "/replicas/validator-1/resume", admin))["paused"] is False
    await replica.look()
    assert replica.drained is None
    await post(world, "/replicas/validator-1/drain", admin)
    await Steering(world.db, "validator", "validator-1").tell("working", 0)  # restarted
    assert (await world.get("/v1/controls"))["items"] == []
    again = await post(world, "/replicas/validator-1/drain", admin)
    assert again["paused"] is True
    assert [line[0] for line in await audited(world, admin, "replica")] == [
        *("replica.drain", "replica.drain", "replica.resume", "replica.drain")
    ]


async def test_names_that_are_none(world: World) -> None:
    """Each is told what there is; a replica that fell silent is not there, and two of one name are
    not told apart."""
    admin = await world.key("boss", "admin")
    await Steering(world.db, "uploader", "uploader-1").tell("working", 0)
    await Steering(world.db, "uploader", "uploader-9").tell("working", 0)
    async with world.db.begin() as connection:
        await connection.execute(
            text("UPDATE replicas SET seen_at = now() - interval '31 s' WHERE worker LIKE '%9'")
        )
    for path, says in {
        "/stages/tracker/pause": "choose from downloader, validator, uploader",
        "/stages/planner/resume": "choose from downloader, validator, uploader",
        "/sources/flickr/pause": "choose from openverse, commons, urls",
        "/replicas/uploader-9/drain": "there are uploader-1",
        "/replicas/nobody/resume": "there are uploader-1",
    }.items():
        answer = await post(world, path, admin)
        assert answer["code"] == 404, path
        assert says in answer["detail"], path
    await Steering(world.db, "planner", "uploader-1").tell("working", 0)
    assert (await post(world, "/replicas/uploader-1/drain", admin))["code"] == 409


async def test_who_may(world: World) -> None:
    """Who may write jobs may not stop what all share; anybody may see what is stopped."""
    for path in ("/stages/downloader/pause", "/sources/urls/resume", "/replicas/x/drain"):
        assert (await post(world, path))["code"] == 403
    reader = await world.key("reader", "read")
    for path in ("/v1/controls", "/v1/replicas"):
        assert (await world.client.get(path, headers=reader)).status_code == 200


async def test_another_priority(world: World) -> None:
    """It is the job's at once, and has one line; a job that is over, and a number that is none, are
    refused."""
    job_id = (await world.job())["job_id"]
    path = f"/v1/jobs/{job_id}"
    for _ in range(2):
        changed = await world.client.patch(path, json={"priority": 9}, params={"reason": "late"})
        assert (changed.status_code, changed.json()["priority"]) == (200, 9)
    found = (await world.get("/v1/audit", job_id=job_id))["items"]
    assert [(line["details"], line["reason"]) for line in found] == [
        ({"priority": {"before": 5, "after": 9}}, "late")
    ]
    for wrong in ({"priority": 11}, {"priority": -1}, {"priority": "5"}, {}, {"name": "x"}):
        assert (await world.client.patch(path, json=wrong)).status_code == 422
    stranger = await world.key("stranger")
    other = await world.client.patch(path, json={"priority": 1}, headers=stranger)
    assert other.status_code == 404
    await world.close_round(job_id, 1)
    over = await world.client.patch(path, json={"priority": 1})
    assert (over.status_code, over.json()["detail"]) == (409, "the job is finished")
    cancelled = (await world.job())["job_id"]
    await world.client.post(f"/v1/jobs/{cancelled}/cancel")
    refused = await world.client.patch(f"/v1/jobs/{cancelled}", json={"priority": 1})
    assert (refused.status_code, refused.json()["detail"]) == (409, "the job is cancelled")


async def test_a_chunk_is_given_up(world: World) -> None:
    """The wish is stored once, with a line; what has ended, is not there, or is cancelled is not
    given up."""
    job_id = (await world.job())["job_id"]
    chunks = await world.plan(job_id, "processing", "completed", stage="validator")
    for name in ("0", chunks[0]):
        asked = await post(world, f"/jobs/{job_id}/chunks/{name}/give-up", reason="it hangs")
        assert (asked["code"], asked["chunk_id"]) == (202, chunks[0])
    async with world.db.connect() as connection:
        rows = await connection.execute(
            text("SELECT chunk_id, reason FROM given_up_chunks WHERE job_id = :j"), {"j": job_id}
        )
        assert [tuple(row) for row in rows] == [(chunks[0], "it hangs")]
    [line] = (await world.get("/v1/audit", job_id=job_id))["items"]
    assert (line["action"], line["subject"]) == ("chunk.give_up", chunks[0])
    assert line["details"] == {"status": "processing", "stage": "validator", "attempt": 0}
    ended = await post(world, f"/jobs/{job_id}/chunks/1/give-up")
    assert (ended["code"], ended["detail"]) == (409, "chunk 1 has ended: it is completed")
    assert (await post(world, f"/jobs/{job_id}/chunks/7/give-up"))["code"] == 404
    await world.client.post(f"/v1/jobs/{job_id}/cancel")
    assert (await post(world, f"/jobs/{job_id}/chunks/0/give-up"))["code"] == 409
