"""The SDK's two faces take the same and do the same."""

import asyncio
import inspect
import json
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


def test_a_text_is_no_list(fake: FakeApi) -> None:
    """The name of a file as a text is not taken for URLs of one character each."""
    with PixCrawler(fake.url, "key") as client, pytest.raises(ClientError, match=r"pathlib\.Path"):
        client.run(urls="list.csv")
    assert fake.asked == []
