"""Jobs over HTTP, on a real database."""

import asyncio
import uuid
from typing import Any

import pytest
from sqlalchemy import text

from pixcrawler.common.events import JobCancelled, JobCreated
from tests.integration.api.conftest import BODY, World

JOB_FIELDS = [
    "job_id",
    "project_id",
    "name",
    "status",
    "keywords",
    "sources",
    "max_images",
    "priority",
    "options",
    "total_chunks",
    "active_chunks",
    "completed_chunks",
    "failed_chunks",
    "chunk_progress",
    "created_at",
    "started_at",
    "finished_at",
    "round",
    "webhook_url",
]


async def test_create(world: World) -> None:
    """A job is stored and started with its event in one transaction, and answered in full."""
    job = await world.job(name="pandas", project_id=7)
    assert list(job) == JOB_FIELDS
    assert job["sources"] == ["openverse", "commons"]
    assert job["options"] == {
        "min_size": 64,
        "near_duplicates": 6,
        "refill_factor": 5.0,
        "format": "zip",
        "upright": False,
        "resize_mode": "none",
        "image_size": None,
        "resize_only_if_bigger": False,
        "image_format": "original",
        "quality": 95,
    }
    assert (job["name"], job["project_id"], job["priority"]) == ("pandas", "7", 5)
    assert (job["status"], job["round"], job["total_chunks"]) == ("pending", 1, 0)
    assert job["started_at"] is not None
    assert await world.get(f"/v1/jobs/{job['job_id']}") == job
    assert await world.events(job["job_id"]) == [
        JobCreated(job_id=job["job_id"], round=1, reason="start")
    ]
    assert await world.requests(job["job_id"]) == [(1, "start", 0, None)]
    assert world.hints


async def test_progress_right_after_creation(world: World) -> None:
    """Zeros, not 404."""
    job = await world.job()
    progress = await world.get(f"/v1/jobs/{job['job_id']}/progress")
    assert set(progress) == {
        *("job_id", "status", "progress", "total_chunks", "pending_chunks", "active_chunks"),
        *("completed_chunks", "failed_chunks", "chunk_progress", "images", "started_at"),
        *("finished_at", "eta_s", "updated_at"),
    }
    assert progress["status"] == "pending"
    assert progress["progress"] == progress["total_chunks"] == progress["chunk_progress"] == 0
    assert progress["images"] == {
        "candidates": 0,
        "downloaded": 0,
        "valid": 0,
        "dropped": {},
        "bytes": 0,
        "requested": 2500,
    }
    chunks = await world.get(f"/v1/jobs/{job['job_id']}/chunks/progress")
    assert set(chunks) == {
        *("job_id", "total_chunks", "pending_chunks", "processing_chunks", "completed_chunks"),
        *("failed_chunks", "completion_percentage", "is_complete", "timestamp"),
    }
    assert (chunks["total_chunks"], chunks["is_complete"]) == (0, False)


async def test_urls_are_enough(world: World) -> None:
    """A list of URLs needs neither keywords nor a number; repeated ones count once."""
    response = await world.client.post(
        "/v1/jobs", json={"urls": ["http://a/1.jpg", "ftp://b/2.jpg", "http://a/1.jpg"]}
    )
    job = response.json()
    assert (job["sources"], job["max_images"], job["keywords"]) == (["urls"], 2, [])
    both = await world.job(urls=["http://a/1.jpg"])
    assert both["sources"] == ["openverse", "commons", "urls"]


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"priority": 11}, "priority", "priority must be between 0 and 10"),
        ({"priority": -1}, "priority", "priority must be between 0 and 10"),
        ({"max_images": 0}, "max_images", "max_images must be positive"),
        ({"max_images": None}, "max_images", "max_images is required"),
        ({"max_images": 10**8}, "max_images", "max_images must be at most 10000000"),
        ({"max_images": "many"}, "max_images", "max_images: Input should be a valid integer"),
        ({"max_images": "5"}, "max_images", "max_images: Input should be a valid integer"),
        ({"max_images": True}, "max_images", "max_images: Input should be a valid integer"),
        ({"start": 0}, "start", "start: Input should be a valid boolean"),
        ({"keywords": []}, "keywords", "keywords must not be empty"),
        ({"keywords": ["a\0b"]}, "keywords.0", "must not contain a NUL"),
        ({"keywords": [" "]}, "keywords.0", "at least 1 character"),
        ({"sources": ["altavista"]}, "sources.0", "sources: 'altavista' is unknown; choose from"),
        ({"sources": ["urls"]}, "urls", "urls must not be empty"),
        ({"options": {"min_size": 0}}, "options.min_size", "options.min_size"),
        ({"options": {"sharpness": 1}}, "options.sharpness", "Extra inputs"),
        ({"options": {"resize_mode": "squash"}}, "options.resize_mode", "options.resize_mode"),
        (
            {"options": {"resize_mode": "keep_ratio"}},
            "options.image_size",
            "image_size is required by resize_mode keep_ratio",
        ),
        ({"options": {"image_size": 9}}, "options.image_size", "image_size needs resize_mode"),
        (
            {"options": {"resize_mode": "center_crop", "image_size": 9000}},
            "options.image_size",
            "options.image_size",
        ),
        (
            {"options": {"resize_only_if_bigger": True, "image_format": "png"}},
            "options.resize_only_if_bigger",
            "resize_only_if_bigger needs resize_mode",
        ),
        (
            {"options": {"image_format": "png", "quality": 80}},
            "options.quality",
            "quality is of jpeg and webp",
        ),
        ({"options": {"quality": 80}}, "options.quality", "quality needs"),
        ({"prioritty": 1}, "prioritty", "Extra inputs"),
        ({"webhook_url": "ftp://x/y"}, "webhook_url", "must be an http or https URL"),
        ({"webhook_url": "http://169.254.169.254/x"}, "webhook_url", "webhook_url is not allowed"),
        ({"webhook_url": "http://2130706433/x"}, "webhook_url", "webhook_url is not allowed"),
    ],
)
async def test_wrong_values_name_the_field(
    world: World, change: dict[str, Any], field: str, message: str
) -> None:
    """A wrong value is a 422 that says which field and why."""
    response = await world.client.post("/v1/jobs", json={**BODY, **change})
    assert response.status_code == 422, response.text
    problem = response.json()
    assert problem["errors"][0]["field"] == field
    assert message in problem["errors"][0]["message"]
    assert message in problem["detail"]


async def test_the_options_of_a_job_make_another(world: World) -> None:
    """What the API says of a job can be asked for again, whatever was given and what was not."""
    wished = {"resize_mode": "center_crop", "image_size": 256, "image_format": "png"}
    options = (await world.job(options=wished))["options"]
    assert options | wished == options
    assert (await world.job(options=options))["options"] == options


async def test_idempotency_key(world: World) -> None:
    """The same key and body make one job, at the same time too; another body is a conflict."""
    headers = {"Idempotency-Key": uuid.uuid4().hex}

    async def create(body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        response = await world.client.post("/v1/jobs", json=body, headers=headers)
        return response.status_code, response.json()

    answers = await asyncio.gather(*(create(dict(BODY)) for _ in range(8)))
    assert {status for status, _ in answers} == {202}
    assert len({job["job_id"] for _, job in answers}) == 1
    job_id = answers[0][1]["job_id"]
    assert len(await world.events(job_id)) == 1
    assert (await create({**BODY, "max_images": 1}))[0] == 409
    other = await world.key("somebody else")
    foreign = await world.client.post("/v1/jobs", json=dict(BODY), headers={**headers, **other})
    assert foreign.json()["job_id"] != job_id
    await world.client.delete(f"/v1/jobs/{job_id}")
    assert (await create(dict(BODY)))[0] == 409


async def test_start_later(world: World) -> None:
    """A job made without start waits for it; starting again gives the same answer, always."""
    job = await world.job(start=False)
    path = f"/v1/jobs/{job['job_id']}"
    assert (job["round"], job["started_at"]) == (0, None)
    assert await world.events(job["job_id"]) == []
    answers = await asyncio.gather(
        *(world.client.post(f"{path}/start", json={"sources": ["commons"]}) for _ in range(5))
    )
    started = answers[0].json()
    assert started == {
        "job_id": job["job_id"],
        "status": "pending",
        "total_chunks": 5,
        "chunk_ids": [f"{job['job_id']}-{index:05d}" for index in range(5)],
    }
    assert [answer.json() for answer in answers] == [started] * 5
    assert (await world.get(path))["sources"] == ["commons"]
    assert len(await world.events(job["job_id"])) == 1
    await world.client.post(f"{path}/chunks?max_images=5000")
    assert (await world.client.post(f"{path}/start")).json() == started


async def test_start_with_sources_that_do_not_fit(world: World) -> None:
    """A job without URLs cannot be started on `urls`."""
    job = await world.job(start=False)
    response = await world.client.post(
        f"/v1/jobs/{job['job_id']}/start", json={"sources": ["urls"]}
    )
    assert response.status_code == 422
    assert (await world.get(f"/v1/jobs/{job['job_id']}"))["round"] == 0


NO_WAIT = {
    "body": {"json": {"wait": False}},
    "query": {"params": {"wait": "false"}},
    "both": {"params": {"wait": "true"}, "json": {"wait": False}},
}


@pytest.mark.parametrize("told", NO_WAIT.values(), ids=NO_WAIT.keys())
async def test_start_without_waiting(world: World, told: dict[str, Any]) -> None:
    """`wait=false`, in the body or the query, starts only where there is room, and leaves no trace
    where there is none."""
    busy = await world.job()
    await world.plan(busy["job_id"], *["processing"] * 25, *["pending"] * 6)
    job = await world.job(start=False)
    path = f"/v1/jobs/{job['job_id']}/start"
    try:
        refused = await world.client.post(path, **told)
        assert refused.status_code == 409
        assert refused.json()["title"] == "Insufficient capacity"
        assert refused.json()["detail"].startswith("Insufficient capacity")
        assert (await world.get(f"/v1/jobs/{job['job_id']}"))["round"] == 0
        small = await world.job(start=False, max_images=2000)
        fits = await world.client.post(f"/v1/jobs/{small['job_id']}/start", **told)
        assert fits.status_code == 202
        waits = await world.client.post(path, params={"wait": "true"}, json={"wait": True})
        assert waits.status_code == 202
    finally:
        async with world.db.begin() as connection:
            await connection.execute(text("DELETE FROM job_chunks"))


async def test_extend(world: World) -> None:
    """Extending grows the number by a further round; many at once lose nothing."""
    job = await world.job()
    path = f"/v1/jobs/{job['job_id']}"
    answers = await asyncio.gather(
        *(world.client.post(f"{path}/chunks?max_images=10&priority=7") for _ in range(6))
    )
    assert {answer.status_code for answer in answers} == {202}
    extended = await world.get(path)
    assert (extended["max_images"], extended["round"], extended["priority"]) == (2560, 7, 7)
    assert await world.requests(job["job_id"]) == [
        (1, "start", 0, None),
        *((number, "extend", 10, None) for number in range(2, 8)),
    ]
    assert await world.events(job["job_id"]) == [
        JobCreated(job_id=job["job_id"], round=1, reason="start"),
        *(JobCreated(job_id=job["job_id"], round=n, reason="extend") for n in range(2, 8)),
    ]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("max_images=0", "max_images must be positive"),
        ("max_images=5&priority=11", "priority must be between 0 and 10"),
        ("", "max_images"),
        ("max_images=9999999", "max_images must be at most 10000000"),
    ],
)
async def test_extend_with_wrong_values(world: World, query: str, message: str) -> None:
    """Query parameters are checked like bodies."""
    job = await world.job()
    response = await world.client.post(f"/v1/jobs/{job['job_id']}/chunks?{query}")
    assert response.status_code == 422
    assert message in response.json()["detail"]


async def test_extend_before_start(world: World) -> None:
    """A job that was not started only grows; its start is still round 1."""
    job = await world.job(start=False, max_images=500)
    path = f"/v1/jobs/{job['job_id']}"
    extended = (await world.client.post(f"{path}/chunks?max_images=500")).json()
    assert (extended["round"], extended["max_images"]) == (0, 1000)
    assert (await world.client.post(f"{path}/start")).json()["total_chunks"] == 2


async def test_a_finished_job_is_open_again_when_extended(world: World) -> None:
    """After an extend the last round's end is not shown as this round's."""
    job = await world.job()
    path = f"/v1/jobs/{job['job_id']}"
    await world.show(job["job_id"], "completed", finished=1, valid=2500)
    assert (await world.get(path))["status"] == "completed"
    assert (await world.get(path))["finished_at"] is not None
    assert (await world.get(f"{path}/progress"))["progress"] == 100
    await world.client.post(f"{path}/chunks?max_images=2500")
    shown, progress = await world.get(path), await world.get(f"{path}/progress")
    assert (shown["status"], shown["finished_at"]) == ("pending", None)
    assert (progress["status"], progress["progress"]) == ("pending", 50.0)
    assert (progress["images"]["requested"], progress["finished_at"]) == (5000, None)


async def test_retry(world: World) -> None:
    """Failed chunks are asked for again as a round; without any it is a conflict."""
    job = await world.job()
    path = f"/v1/jobs/{job['job_id']}/retry"
    assert (await world.client.post(path)).status_code == 409
    made = await world.plan(job["job_id"], "completed", "failed", "completed")
    retried = await world.client.post(path)
    assert (retried.status_code, retried.json()["round"]) == (202, 2)
    assert await world.requests(job["job_id"]) == [(1, "start", 0, None), (2, "retry", 0, None)]
    await world.change_chunk(made[2], retry_of=made[1])
    assert (await world.client.post(path)).status_code == 409
    assert (await world.get(f"/v1/jobs/{job['job_id']}"))["failed_chunks"] == 0


async def test_retry_one_chunk(world: World) -> None:
    """One failed chunk, by index or id; one that has not failed, or was retried, is a conflict."""
    job = await world.job()
    made = await world.plan(job["job_id"], "completed", "failed", "failed", "pending")
    path = f"/v1/jobs/{job['job_id']}/chunks"
    assert (await world.client.post(f"{path}/0/retry")).status_code == 409
    assert (await world.client.post(f"{path}/9/retry")).status_code == 404
    first = await world.client.post(f"{path}/1/retry")
    assert (first.status_code, first.json()["chunk_id"]) == (202, made[1])
    assert (await world.client.post(f"{path}/{made[2]}/retry")).status_code == 202
    assert await world.requests(job["job_id"]) == [
        (1, "start", 0, None),
        (2, "retry", 0, [made[1]]),
        (3, "retry", 0, [made[2]]),
    ]
    await world.change_chunk(made[3], retry_of=made[1])
    assert (await world.client.post(f"{path}/1/retry")).status_code == 409


async def test_cancel(world: World) -> None:
    """Cancelling is told once; a cancelled job is neither started, extended nor retried."""
    job = await world.job()
    path = f"/v1/jobs/{job['job_id']}"
    await world.plan(job["job_id"], "failed")
    for _ in range(2):
        assert (await world.client.post(f"{path}/cancel")).status_code == 202
    assert (await world.events(job["job_id"]))[1:] == [JobCancelled(job_id=job["job_id"])]
    for action in ("retry", "chunks/0/retry", "chunks?max_images=1"):
        assert (await world.client.post(f"{path}/{action}")).status_code == 409
    await world.close_round(job["job_id"], 1)
    assert (await world.client.post(f"{path}/cancel")).status_code == 409


async def test_cancel_what_never_started(world: World) -> None:
    """It gets a round, so that it closes like any other; it cannot be started any more."""
    job = await world.job(start=False)
    path = f"/v1/jobs/{job['job_id']}"
    cancelled = (await world.client.post(f"{path}/cancel")).json()
    assert cancelled["round"] == 1
    assert await world.requests(job["job_id"]) == [(1, "cancel", 0, None)]
    assert await world.events(job["job_id"]) == [JobCancelled(job_id=job["job_id"])]


async def test_cancel_what_is_finished(world: World) -> None:
    """A closed round cannot be cancelled, one that was opened after it can."""
    job = await world.job()
    path = f"/v1/jobs/{job['job_id']}"
    await world.close_round(job["job_id"], 1)
    assert (await world.client.post(f"{path}/cancel")).status_code == 409
    assert len(await world.events(job["job_id"])) == 1
    await world.client.post(f"{path}/chunks?max_images=1")
    assert (await world.client.post(f"{path}/cancel")).status_code == 202


async def test_cancel_waits_for_the_planner(world: World) -> None:
    """Either the round is closed or the job is cancelled: never both."""
    job = await world.job()
    async with world.db.begin() as planner:
        await planner.execute(
            text("SELECT pg_advisory_xact_lock(1, hashtext(:job_id))"), {"job_id": job["job_id"]}
        )
        cancelling = asyncio.create_task(world.client.post(f"/v1/jobs/{job['job_id']}/cancel"))
        done, _ = await asyncio.wait([cancelling], timeout=0.3)
        assert not done
        await planner.execute(
            text("""
                INSERT INTO job_rounds (job_id, round, cursors, closed_at)
                VALUES (:job_id, 1, '[]', now())"""),
            {"job_id": job["job_id"]},
        )
    assert (await asyncio.wait_for(cancelling, 10)).status_code == 409


async def test_delete(world: World) -> None:
    """A deleted job is gone at once, and told; its row stays as a tombstone."""
    job = await world.job()
    path = f"/v1/jobs/{job['job_id']}"
    assert (await world.client.delete(path)).status_code == 204
    for method, route in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/start"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("POST", "/chunks?max_images=1"),
        ("GET", "/progress"),
        ("GET", "/chunks"),
        ("GET", "/outcomes"),
        ("GET", "/dataset"),
    ):
        assert (await world.client.request(method, path + route)).status_code == 404
    assert (await world.get("/v1/jobs"))["items"] == []
    assert (await world.events(job["job_id"]))[-1] == JobCancelled(
        job_id=job["job_id"], deleted=True
    )
    async with world.db.connect() as connection:
        row = await connection.execute(
            text("SELECT cancelled_at, deleted_at FROM crawl_jobs WHERE job_id = :job_id"),
            {"job_id": job["job_id"]},
        )
        assert None not in row.one()


async def test_list(world: World) -> None:
    """Pages follow each other, the latest first, and filters hold."""
    jobs = [await world.job(project_id=f"p{index % 2}") for index in range(5)]
    newest_first = [job["job_id"] for job in reversed(jobs)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await world.get("/v1/jobs", limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [job["job_id"] for job in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == newest_first
    one = await world.get("/v1/jobs", project_id="p1")
    assert [job["job_id"] for job in one["items"]] == [newest_first[1], newest_first[3]]
    await world.show(jobs[0]["job_id"], "incomplete", finished=1)
    await world.show(jobs[1]["job_id"], "running", finished=0)
    await world.plan(jobs[2]["job_id"], "processing")
    for status, expected in (
        ("incomplete", [jobs[0]]),
        ("running", [jobs[2], jobs[1]]),
        ("pending", [jobs[4], jobs[3]]),
        ("failed", []),
    ):
        found = await world.get("/v1/jobs", status=status)
        assert [job["job_id"] for job in found["items"]] == [job["job_id"] for job in expected]
    for query in ("status=done", "cursor=nonsense", "limit=0", "limit=1000", "cursor=WyJhIiwgMV0"):
        assert (await world.client.get(f"/v1/jobs?{query}")).status_code == 422


@pytest.mark.parametrize("given", ["4bf92f3577b34da6a3ce929d0e0e4736", ""])
async def test_a_job_has_one_trace(world: World, given: str) -> None:
    """It is that of the request that made the job, else one named after it; whatever is asked of
    the job later, in whichever trace, belongs to it."""
    headers = {"traceparent": f"00-{given}-00f067aa0ba902b7-01"} if given else {}
    job = (await world.client.post("/v1/jobs", json=dict(BODY), headers=headers)).json()["job_id"]
    other = {"traceparent": f"00-{'5' * 32}-{'6' * 16}-01"}
    for path in (f"/v1/jobs/{job}/chunks?max_images=5", f"/v1/jobs/{job}/cancel"):
        answer = await world.client.post(path, headers=other)
        assert answer.status_code == 202, answer.text
    await world.client.delete(f"/v1/jobs/{job}", headers=other)
    async with world.db.connect() as connection:
        found = await connection.execute(
            text("SELECT headers FROM outbox WHERE key = :key"), {"key": job.encode()}
        )
        told = [dict(headers) for headers in found.scalars()]
    traces = [each["traceparent"].split("-") for each in told]
    assert {trace[1] for trace in traces} == {given or uuid.UUID(job).hex}
    assert len({trace[2] for trace in traces} | {"00f067aa0ba902b7"}) == len(told) + 1 == 5
    assert {each["ce_source"] for each in told} == {"/api/test"}
