"""Lists of URLs over HTTP, on a real database, and in both stores."""

import asyncio
import dataclasses
import gzip
import os
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import text

from pixcrawler.api.app import create_app
from pixcrawler.api.lists import store
from pixcrawler.api.lists.uploads import Told, Uploads
from pixcrawler.api.problems import Problem
from pixcrawler.api.settings import Settings
from pixcrawler.common import names
from pixcrawler.common.blobs import open_blobs
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.ids import new_list_id
from pixcrawler.common.url_lists import ListedRow, read_rejected, read_rows
from tests.integration.api.conftest import World

LIST = b"url,caption\nhttp://a/1,one\nhttp://a/2,two\nftp://a/3,three\nhttp://a/1,again\n"


async def upload(world: World, data: bytes = LIST, **params: str) -> dict[str, object]:
    response = await world.client.post(
        "/v1/url-lists", content=data, params={"name": "list.csv", **params}
    )
    assert response.status_code == 201, response.text
    return dict(response.json())


async def objects(world: World) -> list[str]:
    return [found.name async for found in world.blobs.list(names.LISTS)]


async def test_upload(world: World) -> None:
    """The answer has counts and the first bad rows; it is shown again, also in the list."""
    made = await upload(world)
    assert {name: made[name] for name in made if name not in {"id", "created_at"}} == {
        "name": "list.csv",
        "format": "csv",
        "columns": {"url": "url", "title": "caption"},
        "rows": 3,
        "repeated": 1,
        "rejected": 1,
        "rejected_rows": [{"line": 4, "reason": "not an http or https URL", "text": "ftp://a/3"}],
        "bytes": len(LIST),
    }
    later = await upload(world, b"http://b/1\n", name="b.txt")
    assert await world.get(f"/v1/url-lists/{made['id']}") == made
    assert await world.get("/v1/url-lists") == {"items": [later, made], "next_cursor": None}
    first = await world.get("/v1/url-lists", limit=1)
    second = await world.get("/v1/url-lists", limit=1, cursor=first["next_cursor"])
    assert [*first["items"], *second["items"]] == [later, made]


async def test_all_bad_rows_are_to_be_had(world: World) -> None:
    """Page by page, in their order."""
    made = await upload(world, b"nope\n" * 777 + b"http://a/1\n", name="x.txt")
    path, found = f"/v1/url-lists/{made['id']}/rejected", list[int]()
    page = await world.get(path, limit=200)
    while True:
        found += [row["line"] for row in page["items"]]
        if not page["next_cursor"]:
            break
        page = await world.get(path, limit=200, cursor=page["next_cursor"])
    assert found == list(range(1, 778))
    good = await upload(world, b"http://a/1\n", name="x.txt")
    assert (await world.get(f"/v1/url-lists/{good['id']}/rejected"))["items"] == []


async def test_a_job_of_a_list(world: World) -> None:
    """All of it unless fewer are asked for; the chunks that start names cover it."""
    data = "".join(f"http://a/{number}\n" for number in range(1200)).encode()
    made = await upload(world, data + b"http://a/7\n", name="x.txt")
    response = await world.client.post("/v1/jobs", json={"urls": made["id"], "start": False})
    assert response.status_code == 202, response.text
    job = response.json()
    assert (job["max_images"], job["sources"]) == (1200, ["urls"])
    assert job["url_list_id"] == made["id"]
    started = await world.client.post(f"/v1/jobs/{job['job_id']}/start")
    assert started.json()["total_chunks"] == 3
    few = await world.job(keywords=[], urls=made["id"], max_images=10)
    assert few["max_images"] == 10
    both = await world.job(urls=made["id"])
    assert both["sources"] == ["openverse", "commons", "urls"]


@pytest.mark.parametrize("urls", ["nope", "e14f626b-8d92-4f94-b823-ed778a9028a8", "http://a/1"])
async def test_a_list_that_is_none(world: World, urls: str) -> None:
    """422 that names the field."""
    response = await world.client.post("/v1/jobs", json={"urls": urls})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "urls"
    assert response.json()["detail"].startswith("urls")


async def test_a_list_is_its_owners(world: World) -> None:
    """Another owner neither sees nor uses nor deletes it."""
    made = await upload(world)
    other = await world.key(f"other-{uuid.uuid4().hex}")
    for path in ("", "/rejected"):
        got = await world.client.get(f"/v1/url-lists/{made['id']}{path}", headers=other)
        assert got.status_code == 404
    gone = await world.client.delete(f"/v1/url-lists/{made['id']}", headers=other)
    assert gone.status_code == 404
    asked = await world.client.post("/v1/jobs", json={"urls": made["id"]}, headers=other)
    assert asked.status_code == 422
    reader = await world.key(f"reader-{uuid.uuid4().hex}", "read")
    refused = await world.client.post("/v1/url-lists", content=LIST, headers=reader)
    assert refused.status_code == 403


async def test_a_list_in_use_is_not_deleted(world: World) -> None:
    """409 while a job may read it; then it is gone with its objects, and the jobs stay."""
    made = await upload(world)
    path = f"/v1/url-lists/{made['id']}"
    job = await world.job(keywords=[], urls=made["id"])
    waiting = await world.job(keywords=[], urls=made["id"], start=False)
    refused = await world.client.delete(path)
    assert refused.status_code == 409
    assert str(job["job_id"]) in refused.json()["detail"]
    await world.close_round(job["job_id"], 1)
    assert (await world.client.delete(path)).status_code == 409  # the other one may still start
    assert (await world.client.delete(f"/v1/jobs/{waiting['job_id']}")).status_code == 204
    assert any(str(made["id"]) in name for name in await objects(world))
    assert (await world.client.delete(path)).status_code == 204
    assert (await world.client.get(path)).status_code == 404
    assert (await world.client.delete(path)).status_code == 404
    assert not any(str(made["id"]) in name for name in await objects(world))
    again = await world.client.post("/v1/jobs", json={"urls": made["id"]})
    assert again.status_code == 422
    assert (await world.get(f"/v1/jobs/{job['job_id']}"))["round"] == 1


async def test_repeating_a_creation_needs_no_list(world: World) -> None:
    """The same Idempotency-Key gives the same job, though its list is gone by now."""
    made = await upload(world)
    key, body = {"Idempotency-Key": "once"}, {"urls": made["id"]}
    first = await world.client.post("/v1/jobs", json=body, headers=key)
    await world.close_round(first.json()["job_id"], 1)
    assert (await world.client.delete(f"/v1/url-lists/{made['id']}")).status_code == 204
    second = await world.client.post("/v1/jobs", json=body, headers=key)
    assert second.json()["job_id"] == first.json()["job_id"]
    other = await world.client.post("/v1/jobs", json={**body, "priority": 1}, headers=key)
    assert other.status_code == 409


async def test_a_deleted_list_is_buried_after_its_jobs(world: World) -> None:
    """Its row stays as long as a job names it."""
    made = await upload(world)
    job = await world.job(keywords=[], urls=made["id"])
    await world.close_round(job["job_id"], 1)
    await world.client.delete(f"/v1/url-lists/{made['id']}")
    ours = {"id": made["id"], "job": job["job_id"]}
    async with world.db.begin() as connection:
        await connection.execute(
            text("UPDATE url_lists SET deleted_at = now() - interval '9 d' WHERE list_id = :id"),
            ours,
        )
        assert await store.bury(connection, 8) == 0
        await connection.execute(text("DELETE FROM crawl_jobs WHERE job_id = :job"), ours)
        assert await store.bury(connection, 8) == 1


@pytest.mark.parametrize(
    ("data", "name", "sentence"),
    [
        (b"\x89PNG\r\n\x1a\n", "list.csv", "list.csv is no list of URLs but a PNG image"),
        (b"", "list.csv", "list.csv is empty"),
        (gzip.compress(b"http://a/1")[:-6], "a.gz", "a.gz is a gzip file that was cut off"),
        (b"PAR1" * 9, "a.parquet", "a.parquet is a damaged Parquet file"),
    ],
    ids=["image", "empty", "cut", "damaged"],  # a gzip file holds its time: no name of a test
)
async def test_a_file_that_is_nothing_of_the_kind(
    world: World, data: bytes, name: str, sentence: str
) -> None:
    """422 with one sentence, and nothing is left."""
    response = await world.client.post("/v1/url-lists", content=data, params={"name": name})
    assert response.status_code == 422
    assert response.json()["detail"].startswith(sentence)
    assert response.json()["errors"][0]["field"] == "body"
    assert (await objects(world), (await world.get("/v1/url-lists"))["items"]) == ([], [])


async def test_limits(world: World) -> None:
    """The route has a limit of its own, and refuses forms in words."""
    parts = world.app.state.parts
    bounds = {"api_body_limit_bytes": 1024, "api_list_limit_bytes": 4096}
    changed = dataclasses.replace(parts, settings=parts.settings.model_copy(update=bounds))
    transport = httpx.ASGITransport(create_app(changed), raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://api", headers=world.client.headers
    ) as client:
        for size, status in ((3000, 201), (5000, 413)):
            lines = (b"http://a/1\n" * 500)[:size]

            async def pieces(data: bytes = lines) -> AsyncIterator[bytes]:
                for start in range(0, len(data), 700):
                    yield data[start : start + 700]

            for content in (lines, pieces()):
                got = await client.post("/v1/url-lists", content=content)
                assert got.status_code == status, got.text
        form = await client.post("/v1/url-lists", files={"file": b"http://a/1"})
        assert form.status_code == 415
        job = await client.post("/v1/jobs", json={"keywords": ["x" * 2000], "max_images": 1})
        assert job.status_code == 413


@pytest_asyncio.fixture(params=["local", "azure"])
async def blobs(
    request: pytest.FixtureRequest, tmp_path: Path, azurite: str
) -> AsyncIterator[BlobStore]:
    """An empty store: a folder, and a container of Azurite."""
    if request.param == "local":
        made = open_blobs(f"file://{tmp_path}")
    else:
        made = open_blobs(f"azure://lists-{uuid.uuid4().hex[:12]}", azurite)
    yield made
    await made.close()


def uploads(blobs: BlobStore, **told: object) -> Uploads:
    return Uploads(
        blobs, Settings(database_url="postgresql+asyncpg://nowhere").model_copy(update=told)
    )


async def body(data: bytes, size: int = 1 << 16) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def test_stretches(blobs: BlobStore) -> None:
    """Any stretch is read by itself, without repetitions, in a folder as in Azure."""
    listed = [ListedRow(f"http://a/{n % 1100}", f"title {n}") for n in range(1234)]
    table = "url\ttitle\n" + "".join(f"{row.url}\t{row.title}\nbad\n" for row in listed)
    list_id = new_list_id()
    taken = await uploads(blobs).take(list_id, Told("x.tsv"), body(table.encode()))
    assert (taken.answer.rows, taken.answer.repeated, taken.answer.rejected) == (1234, 134, 1234)
    for offset, limit in (
        (0, 500),
        (0, 1),
        (499, 2),
        (700, 500),
        (1000, 500),
        (0, 9999),
        (1234, 5),
    ):
        rows = await read_rows(blobs, list_id, offset, limit)
        assert list(rows) == listed[offset : min(offset + limit, 1100)]
    bad = await read_rejected(blobs, list_id, 1230, 10)
    assert [row.line for row in bad] == [2 * n + 3 for n in range(1230, 1234)]


async def test_a_body_that_breaks_off(blobs: BlobStore) -> None:
    """It leaves no object and no process, and room for others."""
    taking = uploads(blobs, api_list_uploads=1)

    async def breaking() -> AsyncIterator[bytes]:
        yield b"http://a/1\n" * 100_000
        raise Problem(400, "the upload broke off")

    for _ in range(2):
        with pytest.raises(Problem, match="broke off"):
            await taking.take(new_list_id(), Told("x.txt"), breaking())
    assert [found async for found in blobs.list("")] == []


async def test_too_many_at_a_time(blobs: BlobStore) -> None:
    """429, and when to come again; a cancelled one makes room."""
    taking, begun = uploads(blobs, api_list_uploads=1), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"http://a/1\n"
        begun.set()
        await asyncio.Event().wait()

    first = asyncio.create_task(taking.take(new_list_id(), Told("x.txt"), endless()))
    async with asyncio.timeout(60):
        await begun.wait()
    with pytest.raises(Problem, match="are being uploaded") as caught:
        await taking.take(new_list_id(), Told("x.txt"), body(b"http://a/1"))
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "10"})
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await taking.take(new_list_id(), Told("x.txt"), body(b"http://a/1"))


async def test_a_reader_that_dies(tmp_path: Path) -> None:
    """Whatever kills it is the file's fault, and the api goes on."""
    blobs = open_blobs(f"file://{tmp_path}")
    list_id = new_list_id()

    async def deadly() -> AsyncIterator[bytes]:
        yield b"http://a/1\n"
        (pid,) = [pid for pid in children() if b"lists.reading" in command(pid)]
        os.kill(pid, signal.SIGKILL)
        for _ in range(10):
            yield b"http://a/1\n" * 50_000

    with pytest.raises(Problem, match=r"x\.txt could not be read") as caught:
        await uploads(blobs).take(list_id, Told("x.txt"), deadly())
    assert caught.value.status == 422
    with pytest.raises(Problem, match=r"x\.txt takes more memory to read than is allowed"):
        await uploads(blobs, api_list_memory_bytes=1 << 20).take(
            list_id, Told("x.txt"), body(b"http://a/1\n" * 50_000)
        )
    assert [found async for found in blobs.list("")] == []
    await blobs.close()


def children() -> list[int]:
    """The processes that this one has started."""
    found = Path("/proc/self/task").glob("*/children")
    return [int(pid) for path in found for pid in path.read_text().split()]


def command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
