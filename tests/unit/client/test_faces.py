"""The SDK's two faces take the same and do the same."""

import asyncio
import inspect
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pixcrawler.client import AsyncJob, AsyncPixCrawler, ClientError, Job, PixCrawler
from tests.unit.client.server import JOB, FakeApi


def methods(face: type[object]) -> dict[str, list[tuple[str, Any]]]:
    """Names, and their parameters with defaults."""
    found = inspect.getmembers(face, callable)
    return {
        name: [(each.name, each.default) for each in inspect.signature(method).parameters.values()]
        for name, method in found
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("one", "other"), [(PixCrawler, AsyncPixCrawler), (Job, AsyncJob)])
def test_both_have_the_same(one: type[object], other: type[object]) -> None:
    """Whoever knows one knows the other; only closing has the name that each kind knows it by."""
    blocking, asynchronous = methods(one), methods(other)
    assert blocking.pop("close", []) == asynchronous.pop("aclose", [])
    assert blocking == asynchronous


def test_a_file_of_urls(fake: FakeApi, tmp_path: Path) -> None:
    """It is uploaded, with the columns that are named, before there is a job of it."""
    (tmp_path / "odd.csv").write_text("where,what\nhttps://example.org/1.jpg,a cat\n")
    fake.documents["POST /v1/url-lists"] = {"id": "the-list"}
    fake.documents["POST /v1/jobs"] = {"job_id": JOB, "status": "pending", "max_images": 1}

    async def asked() -> None:
        async with AsyncPixCrawler(fake.url, "key") as client:
            await client.run(urls=tmp_path / "odd.csv", url_column="where", caption_column="what")

    with PixCrawler(fake.url, "key") as client:
        client.run(urls=tmp_path / "odd.csv", url_column="where", caption_column="what")
    asyncio.run(asked())
    uploads, jobs = fake.requests("/v1/url-lists"), fake.requests("/v1/jobs")
    assert [upload.query for upload in uploads] == [
        "name=odd.csv&url_column=where&caption_column=what"
    ] * 2
    assert [json.loads(job.body)["urls"] for job in jobs] == ["the-list"] * 2


LIST = {
    "id": "the-list",
    "rows": 1,
    "rejected": 3,
    "rejected_rows": [{"line": 2, "reason": "no URL", "text": ""}],
}
MOMENT = "2026-03-14T09:26:53Z"
HELD = {
    "worker": "downloader-1",
    "stage": "downloader",
    "chunk_id": f"{JOB}-00000",
    "job_id": JOB,
    "index": 0,
    "attempt": 1,
    "since": MOMENT,
    "last_seen_at": MOMENT,
    "silent_s": 1.5,
    "deadline_at": MOMENT,
}
REASONS = [
    {"code": "waits_for_slot", "sentence": "It waits.", "since": MOMENT, "newer": 1},
    {"code": "chunks_failed", "sentence": "A chunk failed.", "command": "pixcrawler chunks J"},
]


@pytest.fixture
def told(fake: FakeApi) -> FakeApi:
    """An API with a job of a list, of which rows were left out, and a replica that works on it."""
    job = {"job_id": JOB, "status": "pending", "max_images": 1, "url_list_id": "the-list"}
    fake.documents |= {
        "POST /v1/url-lists": LIST,
        "GET /v1/url-lists": {"items": [LIST], "next_cursor": None},
        "GET /v1/url-lists/the-list": LIST,
        "DELETE /v1/url-lists/the-list": {},
        "GET /v1/url-lists/the-list/rejected": {
            "items": [{"line": n, "reason": "no URL", "text": ""} for n in (2, 4, 5)],
            "next_cursor": None,
        },
        "POST /v1/jobs": job,
        f"GET /v1/jobs/{JOB}/explanation": {
            "job_id": JOB,
            "status": "pending",
            "as_of": MOMENT,
            "reasons": REASONS,
        },
        "GET /v1/workers": {"items": [HELD], "next_cursor": None},
    }
    return fake


def test_lists_reasons_and_workers(told: FakeApi, tmp_path: Path) -> None:
    """What was left out of a list, why a job is not done, who works on it."""
    (tmp_path / "list.txt").write_text("http://images.example/1.jpg\n")
    with PixCrawler(told.url, "key") as client:
        listed = client.upload(str(tmp_path / "list.txt"), caption_column="what")
        assert (listed.rejected, listed.rejected_rows[0].line) == (3, 2)
        assert client.url_list("the-list") == listed == next(client.url_lists())
        job = client.run(urls=listed)
        assert [row.line for row in client.rejected_rows(listed)] == [2, 4, 5]
        assert list(job.rejected_rows()) == list(client.rejected_rows("the-list"))
        why = job.explain()
        assert str(why) == "It waits.\nA chunk failed."
        assert (why.reasons[0].code, why.reasons[1].command) == (
            "waits_for_slot",
            "pixcrawler chunks J",
        )
        (held,) = client.workers()
        assert (held.worker, held.job_id, held.silent_s) == ("downloader-1", job.id, 1.5)
        assert list(client.workers(all=True)) == [held]
        client.delete_url_list(listed)
    assert json.loads(told.requests("/v1/jobs")[0].body)["urls"] == "the-list"
    assert told.requests("/v1/url-lists")[0].query == "name=list.txt&caption_column=what"
    assert [asked.query for asked in told.requests("/v1/workers")] == ["", "all=true"]


async def test_the_same_without_blocking(told: FakeApi, tmp_path: Path) -> None:
    """Its other face says the same."""
    (tmp_path / "list.txt").write_text("http://images.example/1.jpg\n")
    async with AsyncPixCrawler(told.url, "key") as client:
        listed = await client.upload(tmp_path / "list.txt")
        assert [found async for found in client.url_lists()] == [await client.url_list(listed.id)]
        job = await client.run(urls=listed)
        assert [row.line async for row in client.rejected_rows(listed)] == [2, 4, 5]
        assert [row.line async for row in job.rejected_rows()] == [2, 4, 5]
        assert [why.code for why in (await job.explain()).reasons] == [
            "waits_for_slot",
            "chunks_failed",
        ]
        assert [held.worker async for held in client.workers(all=True)] == ["downloader-1"]
        await client.delete_url_list(listed.id)


def test_a_job_without_a_list(fake: FakeApi) -> None:
    """Nothing was left out of no list, and nobody is asked."""
    fake.documents[f"GET /v1/jobs/{JOB}"] = {"job_id": JOB, "status": "running", "max_images": 1}
    with PixCrawler(fake.url, "key") as client:
        assert list(client.job(JOB).rejected_rows()) == []
    assert len(fake.asked) == 1


def test_a_text_is_no_list(fake: FakeApi) -> None:
    """The name of a file as a text is not taken for URLs of one character each."""
    with PixCrawler(fake.url, "key") as client, pytest.raises(ClientError, match=r"pathlib\.Path"):
        client.run(urls="list.csv")
    assert fake.asked == []


async def test_over_all_jobs(fake: FakeApi) -> None:
    """Where a URL was, page by page; what was dropped since a moment; whose the slots are."""
    finding = {
        "job_id": JOB,
        "job_created_at": MOMENT,
        "owner": "ann",
        "chunk_id": f"{JOB}-00000",
        "chunk_status": "completed",
        "url": "http://a",
        "outcome": "kept",
    }
    looked = {"searched_chunks": 1, "searched_since": MOMENT}
    fake.documents |= {
        "GET /v1/urls": [
            {"items": [finding], "next_cursor": "more", **looked},
            {"items": [finding | {"outcome": None}], "next_cursor": None, **looked},
        ]
        * 2,
        "GET /v1/drops": {
            "since": MOMENT,
            "as_of": MOMENT,
            "outcomes": [
                {"outcome": "corrupt", "count": 2, "reasons": [{"name": "cut", "count": 2}]}
            ],
        },
        "GET /v1/capacity": {
            "active_chunks": 1,
            "max_chunks": 2,
            "available": 1,
            "utilization": 50.0,
            "owners": [{"owner": "ann", "active_chunks": 1}],
        },
    }
    moment = datetime.fromisoformat(MOMENT)
    with PixCrawler(fake.url, "key") as client:
        assert [each.outcome for each in client.find_url("http://a", all=True)] == ["kept", None]
        assert client.drops(moment).outcomes[0].reasons[0].name == "cut"
        (share,) = client.capacity(by_owner=True).owners or ()
        assert (share.owner, share.active_chunks) == ("ann", 1)
    async with AsyncPixCrawler(fake.url, "key") as other:
        found = [each.outcome async for each in other.find_url("http://a", job_id=JOB)]
        assert found == ["kept", None]
        assert (await other.drops(all=True)).outcomes[0].count == 2
        assert (await other.capacity()).max_chunks == 2
    queries = [asked.query for asked in fake.requests("/v1/drops")]
    assert queries == ["since=2026-03-14T09%3A26%3A53%2B00%3A00", "all=true"]
    asked = [each.query for each in fake.requests("/v1/urls")]
    assert asked[:2] == ["url=http%3A%2F%2Fa&all=true", "url=http%3A%2F%2Fa&all=true&cursor=more"]
