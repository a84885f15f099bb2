"""Requests that come twice: the same `Idempotency-Key` does nothing more, and answers the same."""

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from pixcrawler.api import idempotency, store
from pixcrawler.common import names
from tests.integration.api.conftest import BODY, World

LIST = b"http://images.example/1.jpg\nhttp://images.example/2.jpg\n"


def new_key() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}


async def a_job(world: World, *statuses: str) -> str:
    """A started job with chunks like these; its path."""
    job_id = (await world.job())["job_id"]
    await world.plan(job_id, *statuses)
    return f"/v1/jobs/{job_id}"


async def post(world: World, path: str, key: dict[str, str], **more: Any) -> httpx.Response:
    return await world.client.post(path, headers=key, **more)


async def rounds(world: World, path: str) -> int:
    return int((await world.get(path))["round"])


ACTIONS = ("/chunks?max_images=10", "/retry", "/chunks/1/retry", "/cancel")


@pytest.mark.parametrize("action", ACTIONS)
async def test_again_is_the_same(world: World, action: str) -> None:
    """Whatever has become of the job since, the answer is that of the first time, byte for byte."""
    path, key = await a_job(world, "completed", "failed"), new_key()
    first = await post(world, path + action, key)
    assert first.status_code == 202, first.text
    told = await world.events(path.rpartition("/")[2])
    if action != "/cancel":
        assert (await world.client.post(f"{path}/chunks?max_images=500")).status_code == 202
    await world.close_round(path.rpartition("/")[2], 9)
    before = await world.get(path)
    again = await post(world, path + action, key)
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert await world.get(path) == before
    assert (await world.events(path.rpartition("/")[2]))[: len(told)] == told


@pytest.mark.parametrize("action", ACTIONS)
async def test_at_the_same_time(world: World, action: str) -> None:
    """Eight at once are one."""
    path, key = await a_job(world, "completed", "failed"), new_key()
    answers = await asyncio.gather(*(post(world, path + action, key) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert await rounds(world, path) == (1 if action == "/cancel" else 2)
    job = await world.get(path)
    assert job["max_images"] == 2500 + (10 if "max_images" in action else 0)
    assert len(await world.events(job["job_id"])) == 2


async def test_a_key_is_for_one_request(world: World) -> None:
    """With another value, action, chunk or job it is a conflict, and nothing happens."""
    path, other = await a_job(world, "failed", "failed"), await a_job(world, "failed", "failed")
    key = new_key()
    assert (await post(world, f"{path}/chunks?max_images=10&priority=3", key)).status_code == 202
    for asked in (
        f"{path}/chunks?max_images=11&priority=3",
        f"{path}/chunks?max_images=10",
        f"{path}/retry",
        f"{path}/chunks/0/retry",
        f"{path}/cancel",
        f"{other}/chunks?max_images=10&priority=3",
        f"{other}/retry",
        "/v1/webhook-secret",
    ):
        refused = await post(world, asked, key)
        assert refused.status_code == 409, asked
        assert "Idempotency-Key was used with another request" in refused.json()["detail"]
    assert (await post(world, "/v1/jobs", key, json=dict(BODY))).status_code == 409
    assert (await post(world, "/v1/url-lists", key, content=LIST)).status_code == 409
    assert (await rounds(world, path), await rounds(world, other)) == (2, 1)
    assert len((await world.get("/v1/jobs"))["items"]) == 2
    assert (await world.get("/v1/url-lists"))["items"] == []
    retry = new_key()
    assert (await post(world, f"{path}/chunks/0/retry", retry)).status_code == 202
    assert (await post(world, f"{path}/chunks/1/retry", retry)).status_code == 409


async def test_a_race_for_a_key(world: World) -> None:
    """Different requests with one key at the same time: one is done, all others are conflicts."""
    jobs = [await a_job(world, "failed") for _ in range(3)]
    key = new_key()
    asked = [f"{path}{what}" for path in jobs for what in ("/retry", "/chunks?max_images=5")]
    answers = await asyncio.gather(
        *(post(world, path, key) for path in asked),
        post(world, "/v1/jobs", key, json=dict(BODY)),
        post(world, "/v1/url-lists", key, content=LIST),
    )
    assert sorted(answer.status_code for answer in answers)[1:] == [409] * 7
    changed = [await rounds(world, path) for path in jobs].count(2)
    made = len((await world.get("/v1/jobs"))["items"]) - 3
    listed = len((await world.get("/v1/url-lists"))["items"])
    assert changed + made + listed == 1


async def test_owners_have_their_own_keys(world: World) -> None:
    """The same text of another owner's is another key."""
    path, key = await a_job(world), new_key()
    other = await world.key(f"owner-{uuid.uuid4().hex}")
    theirs = await post(world, "/v1/jobs", {**key, **other}, json=dict(BODY))
    assert (await post(world, f"{path}/chunks?max_images=10", key)).status_code == 202
    again = await post(world, "/v1/jobs", {**key, **other}, json=dict(BODY))
    assert again.content == theirs.content


async def test_a_refused_request_leaves_its_key_free(world: World) -> None:
    """What was not done is done when it comes again and is right."""
    path, key = await a_job(world, "processing"), new_key()
    assert (await post(world, f"{path}/retry", key)).status_code == 409
    await world.change_chunk(f"{path.rpartition('/')[2]}-00000", status="failed")
    assert (await post(world, f"{path}/retry", key)).status_code == 202
    assert await rounds(world, path) == 2


async def test_without_a_key_each_extend_counts(world: World) -> None:
    """Nobody is kept from asking for the same twice."""
    path = await a_job(world)
    for _ in range(2):
        assert (await world.client.post(f"{path}/chunks?max_images=10")).status_code == 202
    assert (await world.get(path))["max_images"] == 2520


async def test_a_retry_that_waits_is_not_asked_for_twice(world: World) -> None:
    """Without a key too: until the planner has applied a retry, another adds nothing to it."""
    path = await a_job(world, "failed", "failed", "failed")
    for what, number in (
        ("/chunks/0/retry", 2),
        ("/chunks/0/retry", 2),
        ("/chunks/1/retry", 3),
        ("/retry", 4),
        ("/retry", 4),
        ("/chunks/2/retry", 4),
    ):
        assert (await world.client.post(path + what)).status_code == 202
        assert await rounds(world, path) == number, what
    await world.close_round(path.rpartition("/")[2], 4)
    assert (await world.client.post(f"{path}/retry")).json()["round"] == 5


async def test_a_created_job_is_answered_as_it_was(world: World) -> None:
    """The creation's answer does not change with the job, and neither does where it is."""
    key = new_key()
    made = await post(world, "/v1/jobs", key, json=dict(BODY))
    await world.client.post(f"{made.headers['location']}/chunks?max_images=10")
    again = await post(world, "/v1/jobs", key, json=dict(BODY))
    assert (again.status_code, again.content) == (202, made.content)
    assert again.headers["location"] == made.headers["location"]


async def test_a_job_of_the_version_before(world: World) -> None:
    """Its key is in its row only: a repetition finds the job, another request is a conflict."""
    key = new_key()
    made = await post(world, "/v1/jobs", key, json=dict(BODY))
    async with world.db.begin() as connection:
        await connection.execute(text("DELETE FROM idempotency_keys"))
    again = await post(world, "/v1/jobs", key, json=dict(BODY))
    assert again.json() == made.json()
    extend = f"{made.headers['location']}/chunks?max_images=10"
    assert (await post(world, extend, key)).status_code == 409
    assert (await post(world, "/v1/jobs", key, json={**BODY, "priority": 1})).status_code == 409


async def test_an_upload_that_comes_again(world: World) -> None:
    """The same file is one list, at the same time too; another file is a conflict."""
    key, path = new_key(), "/v1/url-lists?name=a.txt"
    first = await post(world, path, key, content=LIST)
    assert first.status_code == 201, first.text
    again = await post(world, path, key, content=LIST)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["location"] == f"/v1/url-lists/{first.json()['id']}"
    assert (await post(world, path, key, content=LIST + b"x")).status_code == 409
    both = new_key()
    answers = await asyncio.gather(*(post(world, path, both, content=LIST) for _ in range(2)))
    assert len({answer.content for answer in answers}) == 1
    listed = [item["id"] for item in (await world.get("/v1/url-lists"))["items"]]
    assert sorted(listed) == sorted({first.json()["id"], answers[0].json()["id"]})
    kept = {blob.name.split("/")[1] async for blob in world.blobs.list(names.LISTS)}
    assert kept == set(listed)
    await world.client.delete(f"/v1/url-lists/{first.json()['id']}")
    assert (await post(world, path, key, content=LIST)).status_code == 409


async def test_a_secret_is_changed_once(world: World) -> None:
    """A repeated change would take the secret away that receivers still know."""
    before = (await world.get("/v1/webhook-secret"))["secret"]
    key = new_key()
    changed = await post(world, "/v1/webhook-secret", key)
    assert changed.json()["secret"] != before
    assert (await post(world, "/v1/webhook-secret", key)).json() == changed.json()
    async with world.db.connect() as connection:
        kept = await connection.execute(
            text("SELECT answer FROM idempotency_keys WHERE key = :key"),
            {"key": key["Idempotency-Key"]},
        )
        assert kept.scalar_one() is None


async def test_keys_are_forgotten(world: World) -> None:
    """With the tombstone of their job; those of other requests as late."""
    path, key = await a_job(world), new_key()
    await post(world, f"{path}/chunks?max_images=1", key)
    await post(world, "/v1/webhook-secret", new_key())
    await world.client.delete(path)
    assert (await post(world, f"{path}/chunks?max_images=1", key)).status_code == 404
    async with world.db.begin() as connection:
        await connection.execute(
            text(
                "UPDATE crawl_jobs SET deleted_at = now() - interval '36 days'"
                " WHERE deleted_at IS NOT NULL"
            )
        )
        await connection.execute(
            text("UPDATE idempotency_keys SET created_at = now() - interval '36 days'")
        )
        await store.bury(connection, 35)
        await idempotency.forget(connection, 35)
        left = await connection.scalar(
            text("""
                SELECT count(*) FROM idempotency_keys
                WHERE key = :key OR (job_id IS NULL AND list_id IS NULL)"""),
            {"key": key["Idempotency-Key"]},
        )
    assert left == 0


@pytest.mark.parametrize("key", ["", " ", "x" * 256])
async def test_what_is_no_key(world: World, key: str) -> None:
    """An empty or endless one is a wrong value."""
    refused = await world.client.post("/v1/jobs", json=dict(BODY), headers={"Idempotency-Key": key})
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["field"] == "idempotency-key"
