"""What is too much: requests of a key, jobs and images of an owner."""

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from pixcrawler.api.buckets import Buckets
from pixcrawler.common import keys
from pixcrawler.common.keys import KeyLimits
from tests.integration.api.conftest import BODY, World


async def limited(world: World, **limits: int) -> None:
    """Let the client use a key of a new owner with these limits."""
    async with world.db.begin() as connection:
        made = await keys.create(
            connection,
            f"owner-{uuid.uuid4().hex}",
            "write",
            name="small",
            limits=KeyLimits(**limits),
        )
    world.client.headers["Authorization"] = f"Bearer {made.text}"


def is_over(response: httpx.Response, limit: str, maximum: int) -> bool:
    """Whether this limit has refused it, and says until when."""
    problem = response.json()
    assert response.status_code == 429, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) >= 1
    return bool((problem["limit"], problem["maximum"]) == (limit, maximum) and problem["detail"])


def test_a_bucket_fills_again() -> None:
    """A minute's worth at once, then as fast as it fills; another key has its own."""
    now = [0.0]
    buckets = Buckets(lambda: now[0])
    assert [buckets.take("a", 60) for _ in range(60)] == [0.0] * 60
    assert buckets.take("a", 60) == pytest.approx(1.0)
    assert buckets.take("b", 60) == 0.0
    now[0] = 0.5
    assert buckets.take("a", 60) == pytest.approx(0.5)
    now[0] = 1.0
    assert buckets.take("a", 60) == 0.0
    assert buckets.take("a", 60) > 0
    now[0] = 1000.0
    assert [buckets.take("a", 60) for _ in range(61)].count(0.0) == 60


async def test_requests_of_a_key(world: World) -> None:
    """What a key may ask in a minute is its own; another of the same owner's is not affected."""
    await limited(world, requests_per_minute=3)
    for _ in range(3):
        await world.get("/v1/sources")
    assert is_over(await world.client.get("/v1/sources"), "requests_per_minute", 3)
    assert (await world.client.get("/healthz")).status_code == 200
    await limited(world)
    await world.get("/v1/sources")
    await limited(world, requests_per_minute=0)
    for _ in range(10):
        await world.get("/v1/sources")


async def create(world: World, **body: Any) -> httpx.Response:
    """Ask for a job."""
    return await world.client.post("/v1/jobs", json={**BODY, **body})


async def test_jobs_at_once(world: World) -> None:
    """Of ten requests at the same time three pass; one more does when a job is over or deleted."""
    await limited(world, active_jobs=3)
    answers = await asyncio.gather(*(create(world) for _ in range(10)))
    passed = [answer.json()["job_id"] for answer in answers if answer.status_code == 202]
    assert len(passed) == 3
    assert all(is_over(each, "active_jobs", 3) for each in answers if each.status_code != 202)
    assert len((await world.get("/v1/jobs"))["items"]) == 3
    await world.close_round(passed[0], 1)
    assert (await create(world)).status_code == 202
    await world.client.delete(f"/v1/jobs/{passed[1]}")
    assert (await create(world, start=False)).status_code == 202
    assert is_over(await create(world, start=False), "active_jobs", 3)
    extend = f"/v1/jobs/{passed[2]}/chunks?max_images=1"
    assert (await world.client.post(extend)).status_code == 202
    again = f"/v1/jobs/{passed[0]}/chunks?max_images=1"
    assert is_over(await world.client.post(again), "active_jobs", 3)
    await world.plan(passed[0], "failed")
    for path in ("retry", "chunks/0/retry"):
        refused = await world.client.post(f"/v1/jobs/{passed[0]}/{path}")
        assert is_over(refused, "active_jobs", 3)
    assert (await world.get(f"/v1/jobs/{passed[0]}"))["round"] == 1


async def test_repeating_is_not_asking_for_more(world: World) -> None:
    """At the limit the same Idempotency-Key still answers with its job."""
    await limited(world, active_jobs=1, images_per_day=2500)
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    made = await world.client.post("/v1/jobs", json=dict(BODY), headers=headers)
    again = await world.client.post("/v1/jobs", json=dict(BODY), headers=headers)
    assert (again.status_code, again.json()) == (202, made.json())
    assert (await create(world)).status_code == 429


async def test_images_of_a_day(world: World) -> None:
    """Jobs and what they are extended by count for a day, whatever becomes of the jobs."""
    await limited(world, images_per_day=1000)
    answers = await asyncio.gather(*(create(world, max_images=400) for _ in range(6)))
    passed = [answer.json()["job_id"] for answer in answers if answer.status_code == 202]
    assert len(passed) == 2
    assert all(is_over(each, "images_per_day", 1000) for each in answers if each.status_code != 202)
    too_many = await create(world, max_images=1001)
    assert too_many.status_code == 422
    path = f"/v1/jobs/{passed[0]}/chunks?max_images="
    assert (await world.client.post(f"{path}150")).status_code == 202
    assert is_over(await world.client.post(f"{path}51"), "images_per_day", 1000)
    assert (await world.get(f"/v1/jobs/{passed[0]}"))["max_images"] == 550
    await world.client.delete(f"/v1/jobs/{passed[1]}")
    assert is_over(await create(world, max_images=51), "images_per_day", 1000)
    waiting = await create(world, max_images=50, start=False)
    assert waiting.status_code == 202
    assert is_over(await create(world, max_images=1), "images_per_day", 1000)
    started = await world.client.post(f"/v1/jobs/{waiting.json()['job_id']}/start")
    assert started.status_code == 202
    await _a_day_ago(world, passed)
    assert (await create(world, max_images=800)).status_code == 202


async def _a_day_ago(world: World, jobs: list[str]) -> None:
    """These jobs were started yesterday; what one was extended by was asked for just now."""
    async with world.db.begin() as connection:
        await connection.execute(
            text("""
                UPDATE crawl_jobs SET started_at = now() - interval '25 hours'
                WHERE job_id = ANY(:jobs)"""),
            {"jobs": jobs},
        )


async def test_limits_of_the_settings(world: World) -> None:
    """A key without limits has those of the settings, which are generous; 0 lifts them."""
    parts = world.app.state.parts
    assert parts.settings.api_requests_per_minute >= 10_000
    strict = parts.settings.model_copy(update={"api_active_jobs": 1})
    object.__setattr__(parts, "settings", strict)
    assert (await create(world)).status_code == 202
    assert is_over(await create(world), "active_jobs", 1)
    await limited(world, active_jobs=0)
    for _ in range(3):
        assert (await create(world)).status_code == 202
