"""What the web can say that once upset a whole chunk, and what a cancelled fetch leaves behind."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.documents import Candidates, Fetched
from pixcrawler.common.events import Slice
from pixcrawler.common.ids import chunk_id, new_job_id
from pixcrawler.common.outcomes import Outcome
from pixcrawler.downloader.candidates import resolve
from pixcrawler.downloader.sources import Result, SearchPage
from tests.integration.downloader.harness import HOME, settings, tools
from tests.integration.downloader.web import serving


class Cut:
    """A search whose service cuts texts through the middle of a character."""

    async def search(self, keyword: str, offset: int, limit: int) -> SearchPage:  # noqa: ARG002
        found = (
            Result("https://a.example/1", title="panda \ud83d", creator="\udc3c\0"),
            Result("https://a.example/2", title="panda \U0001f43c"),
        )
        return SearchPage(found[offset : offset + limit], exhausted=True)


async def test_half_a_character_spoils_nothing() -> None:
    """Candidates can be stored and read whatever a search says about them."""
    slices = [Slice(source="cut", keyword="panda", offset=0, limit=2)]
    found = await resolve(chunk_id(new_job_id(), 0), slices, {"cut": Cut()})
    assert Candidates.parse(found.dump()) == found
    assert [(one.title, one.creator) for one in found.items] == [
        ("panda \N{REPLACEMENT CHARACTER}", 2 * "\N{REPLACEMENT CHARACTER}"),
        ("panda \U0001f43c", ""),
    ]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 302 Found\r\nLocation: /caf\xe9\xff\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://caf\xe9.example/\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: ht\xfftp://[caf\xe9/\r\n",
        b"HTTP/1.1 200 \xe9\xff\r\nContent-Encoding: \xe9\r\n",
        b"HTTP/1.1 200 OK\r\nX-Robots-Tag: no\xe9\r\nX-\xe9: \xff\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xe9\r\n",
        b"HTTP/1.1 429 \xff\r\nRetry-After: \xe9\r\n",
        b"\xff\xfe HTTP\r\n",
    ],
)
async def test_headers_of_any_bytes(module_database: str, tmp_path: Path, head: bytes) -> None:
    """Whatever stands in a header, the candidate has an outcome or bytes that can be stored."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        robots = b"GET /robots.txt" in asked
        writer.write(b"HTTP/1.1 404 None\r\n" if robots else head)
        writer.write(b"Connection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, HOME, 0)
    port = server.sockets[0].getsockname()[1]
    async with server, tools(settings(module_database), LocalBlobs(tmp_path)) as made:
        found = await made.fetcher.fetch(0, f"http://{HOME}:{port}/x")
        if found.body is not None:
            found.body.close()
    assert Fetched.model_validate_json(found.fetched.model_dump_json()) == found.fetched
    assert found.fetched.outcome in {
        None,
        Outcome.HTTP_ERROR,
        Outcome.NETWORK_ERROR,
        Outcome.REDIRECT,
    }


async def test_a_fetch_cancelled_at_its_end_gives_its_memory_back(
    module_database: str, tmp_path: Path
) -> None:
    """Also while its connection is being closed, when the body is complete."""
    closing = asyncio.Event()
    async with (
        serving() as site,
        tools(settings(module_database), LocalBlobs(tmp_path)) as made,
    ):
        site.page("/image", b"\xff\xd8\xff" * 1000)
        connection = made.budgets.connection

        @asynccontextmanager
        async def slow_to_close(name: str) -> AsyncIterator[aiohttp.ClientSession]:
            async with connection(name) as session:
                yield session
                if "/image" in site.hits:
                    closing.set()
                    await asyncio.Event().wait()

        made.budgets.connection = slow_to_close  # type: ignore[method-assign]
        memory = made.fetcher._spooler.memory
        before = memory.left
        task = asyncio.create_task(made.fetcher.fetch(0, site.url("/image")))
        async with asyncio.timeout(10):
            await closing.wait()
        assert memory.left < before
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert memory.left == before
