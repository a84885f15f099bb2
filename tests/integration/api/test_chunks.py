"""Chunks and capacity over HTTP, on a real database."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from pixcrawler.common.documents import StoredFile
from pixcrawler.common.events import ImageTotals
from tests.integration.api.conftest import World

CHUNK_FIELDS = {
    "chunk_id",
    "job_id",
    "index",
    "status",
    "stage",
    "priority",
    "image_range",
    "attempt",
    "retry_count",
    "retry_of",
    "error_message",
    "images",
    "archive",
    "created_at",
    "updated_at",
    "attempts",
}


async def test_chunk_routes(world: World) -> None:
    """A chunk is found by index and by id, with everything that is known of it."""
    job_id = (await world.job())["job_id"]
    made = await world.plan(job_id, "completed", "failed")
    archive = StoredFile(name="datasets/x.zip", size=3, sha256="ab")
    step = {
        "attempt": 1,
        "stage": "downloader",
        "worker": "w",
        "topic": "chunk.planned",
        "partition": 3,
        "offset": 7,
        "state": "done",
        "error": "",
        "started_at": datetime(2026, 1, 1, tzinfo=UTC).isoformat(),
        "ended_at": None,
    }
    await world.change_chunk(
        made[0],
        images=ImageTotals(candidates=5, downloaded=4, valid=3, bytes=9).model_dump(),
        archive=archive.model_dump(),
        attempts=[step],
        stage="uploader",
    )
    await world.change_chunk(made[1], error="cancelled", error_message="the job was cancelled")
    path = f"/v1/jobs/{job_id}/chunks"
    chunk = await world.get(f"{path}/0")
    assert chunk == await world.get(f"{path}/{made[0]}")
    assert set(chunk) >= CHUNK_FIELDS
    assert chunk["image_range"] == {"start": 0, "end": 499}
    assert chunk["images"] == {
        "candidates": 5,
        "downloaded": 4,
        "valid": 3,
        "dropped": {},
        "bytes": 9,
    }
    assert chunk["archive"] == archive.model_dump()
    assert chunk["attempts"][0] | step == chunk["attempts"][0] | {"started_at": step["started_at"]}
    failed = await world.get(f"{path}/1")
    assert (failed["status"], failed["error_message"]) == ("failed", "cancelled")
    other = (await world.job())["job_id"]
    for wrong in ("2", "x", "-1", "1" * 30, f"{other}-00000", "00000-0", "%00"):
        assert (await world.client.get(f"{path}/{wrong}")).status_code == 404, wrong


async def test_list_chunks(world: World) -> None:
    """Chunks come by index, in pages, filtered by status."""
    job_id = (await world.job())["job_id"]
    made = await world.plan(job_id, "completed", "failed", "pending", "failed", "processing")
    path = f"/v1/jobs/{job_id}/chunks"
    first = await world.get(path, limit=3)
    rest = await world.get(path, limit=3, cursor=first["next_cursor"])
    assert [c["chunk_id"] for c in first["items"] + rest["items"]] == made
    assert rest["next_cursor"] is None
    failed = await world.get(path, status="failed", limit=1)
    again = await world.get(path, status="failed", limit=1, cursor=failed["next_cursor"])
    assert [c["index"] for c in failed["items"] + again["items"]] == [1, 3]
    assert (await world.client.get(path, params={"status": "cancelled"})).status_code == 422


async def test_counts_leave_superseded_chunks_out(world: World) -> None:
    """A failed chunk that was retried does not count, in the job and in its chunks' progress."""
    job_id = (await world.job())["job_id"]
    made = await world.plan(job_id, "completed", "failed", "failed", "processing", "pending")
    await world.change_chunk(made[3], retry_of=made[1])
    job = await world.get(f"/v1/jobs/{job_id}")
    assert (job["total_chunks"], job["active_chunks"]) == (4, 1)
    assert (job["completed_chunks"], job["failed_chunks"], job["chunk_progress"]) == (1, 1, 50.0)
    progress = await world.get(f"/v1/jobs/{job_id}/chunks/progress")
    assert progress.pop("timestamp").startswith("2026-01-02T03:04:05")
    assert progress == {
        "job_id": job_id,
        "total_chunks": 4,
        "pending_chunks": 1,
        "processing_chunks": 1,
        "completed_chunks": 1,
        "failed_chunks": 1,
        "completion_percentage": 50.0,
        "is_complete": False,
    }
    await world.show(job_id, "incomplete", finished=1)
    assert (await world.get(f"/v1/jobs/{job_id}/chunks/progress"))["is_complete"]
    superseded = await world.get(f"/v1/jobs/{job_id}/chunks/1")
    assert superseded["superseded"]


async def test_capacity(world: World) -> None:
    """25 of 35: available 10, utilization 71.4; `can_start` only where it was asked for."""
    async with world.db.begin() as connection:
        await connection.execute(text("DELETE FROM job_chunks"))
    job_id = (await world.job())["job_id"]
    await world.plan(job_id, *["processing"] * 25, "pending", "completed")
    assert await world.get("/v1/capacity") == {
        "active_chunks": 25,
        "max_chunks": 35,
        "available": 10,
        "utilization": 71.4,
        "environment": "local",
    }
    assert (await world.get("/v1/capacity", required_chunks=10))["can_start"] is True
    assert (await world.get("/v1/capacity", required_chunks=11))["can_start"] is False


async def test_sources(world: World) -> None:
    """What can be searched, with its limits."""
    listed = await world.get("/v1/sources")
    assert [source["name"] for source in listed["items"]] == ["openverse", "commons", "urls"]
    assert listed["next_cursor"] is None


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"])
async def test_what_needs_no_key(world: World, path: str) -> None:
    """Health, metrics and documentation are open."""
    response = await world.client.get(path, headers={"Authorization": ""})
    assert response.status_code == 200
