"""Azure Blob Storage as a blob store, against Azurite."""

import asyncio
import uuid
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from pixcrawler.common.blobs import open_blobs
from pixcrawler.common.blobs.azure import AzureBlobs
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.errors import Retry, SettingsError
from tests.integration.blobs.contract import Contract


@pytest_asyncio.fixture
async def store(azurite: str) -> AsyncIterator[BlobStore]:
    """A container of the test's own, which does not exist yet."""
    blobs = open_blobs(f"azure://test-{uuid.uuid4().hex[:12]}", azurite)
    yield blobs
    await blobs.close()


class TestAzureBlobs(Contract):
    """The contract, on Azurite."""


async def test_links_work_without_credentials(store: BlobStore) -> None:
    """A link reads its one object, under the file name asked for, until it expires."""
    await store.create("datasets/j/chunk.zip", b"zip")
    link = await store.link("datasets/j/chunk.zip", expires_s=60, filename='rote "Pändas".zip')
    stale = await store.link("datasets/j/chunk.zip", expires_s=-60, filename="x.zip")
    assert link is not None
    assert stale is not None
    async with aiohttp.ClientSession() as session:
        async with session.get(link) as answer:
            assert await answer.read() == b"zip"
            disposition = answer.headers["Content-Disposition"]
            assert disposition == "attachment; filename*=UTF-8''rote%20%22P%C3%A4ndas%22.zip"
        async with session.get(stale) as answer:
            assert answer.status == 403
        async with session.get(link.replace("chunk.zip", "other.zip")) as answer:
            assert answer.status == 403


async def test_a_store_that_is_away_is_retry() -> None:
    """After its tries the adapter says: come back later."""
    nowhere = (
        "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YWJj;"
        "BlobEndpoint=http://127.0.0.1:9/a;"
    )
    blobs = AzureBlobs(nowhere, "datasets", tries=2, wait_s=0.01)
    try:
        with pytest.raises(Retry):
            await asyncio.wait_for(blobs.read("a/b"), 20)
        with pytest.raises(Retry):
            await asyncio.wait_for(blobs.check(), 20)
    finally:
        await blobs.close()


@pytest.mark.parametrize(("bad", "stored"), [(4, True), (5, False)])
async def test_a_busy_store_is_asked_five_times(bad: int, stored: bool) -> None:
    """Four answers of 503 harm nothing; after the fifth the caller is told to come back later."""
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.query.get("restype") == "container":
            return web.Response(status=201)
        asked.append(request.method)
        return web.Response(status=503 if len(asked) <= bad else 201)

    async with RawTestServer(answer) as server:
        busy = (
            "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YWJj;"
            f"BlobEndpoint={server.make_url('/a')};"
        )
        blobs = AzureBlobs(busy, "datasets", wait_s=0.01)
        try:
            if stored:
                assert await blobs.create("a/b", b"x")
            else:
                with pytest.raises(Retry):
                    await blobs.create("a/b", b"x")
        finally:
            await blobs.close()
    assert asked == ["PUT"] * 5


async def test_a_missing_connection_string_is_said() -> None:
    """Azure without its connection string stops the program with one line."""
    with pytest.raises(SettingsError, match="AZURE_STORAGE_CONNECTION_STRING"):
        open_blobs("azure://datasets")
