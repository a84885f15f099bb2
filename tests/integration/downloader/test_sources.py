"""Searches against local servers that answer as the real ones do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pixcrawler.common.errors import GiveUp, Retry
from pixcrawler.downloader.breakers import Terms
from pixcrawler.downloader.sources import Away
from pixcrawler.downloader.sources.commons import Commons
from pixcrawler.downloader.sources.openverse import Openverse
from pixcrawler.downloader.sources.web import Asker
from pixcrawler.miniweb.plans import Plan
from pixcrawler.miniweb.server import Mood
from pixcrawler.miniweb.site import hosting
from tests.integration.downloader.web import Web, serving


@asynccontextmanager
async def unlimited(_: str) -> AsyncIterator[None]:
    """A host without a budget."""
    yield


@asynccontextmanager
async def asking(name: str, wait_s: float = 5.0) -> AsyncIterator[Asker]:
    async with aiohttp.ClientSession(headers={"User-Agent": "PixCrawler/0 (a@b.org)"}) as session:
        yield Asker(name, session, unlimited, wait_s=wait_s, deadline_s=5.0)


def numbers(urls: list[str]) -> list[int]:
    return [int(url.rpartition("/")[2]) for url in urls]


def openverse(site: Web, results: int, gaps: frozenset[int] = frozenset()) -> None:
    """Serve so many results as Openverse does to the anonymous, dead links left out."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        page, size = int(request.query["page"]), int(request.query["page_size"])
        assert request.query["q"] == "red panda"
        assert size <= 20
        assert page <= 20
        shown = range((page - 1) * size, min(page * size, results))
        found = [{"url": f"http://i.example/{n}"} for n in shown if n not in gaps]
        count = min(20, -(-results // size))
        return web.json_response({"page_count": count, "page": page, "results": found})

    site.pages["/v1/images/"] = answer


@pytest.mark.parametrize(
    ("offset", "limit", "expected", "exhausted"),
    [
        (0, 10, range(10), False),
        (15, 10, range(15, 25), False),
        (20, 40, range(20, 60), False),
        (60, 100, range(60, 73), True),
        (72, 1, range(72, 73), True),
        (73, 5, range(0), True),
        (100, 5, range(0), True),
        (399, 500, range(0), True),
        (400, 20, range(0), True),
    ],
)
async def test_openverse_by_offset_and_limit(
    offset: int, limit: int, expected: range, exhausted: bool
) -> None:
    """Offsets are places in the search, whatever the pages are; its end is known."""
    async with serving() as site, asking("openverse") as asker:
        openverse(site, 73)
        page = await Openverse(asker, site.url("")).search("red panda", offset, limit)
    assert numbers([one.url for one in page.candidates]) == list(expected)
    assert page.exhausted is exhausted


async def test_openverse_shows_400_results_to_the_anonymous() -> None:
    """There may be millions: after 20 pages of 20 the search has ended for us."""
    async with serving() as site, asking("openverse") as asker:
        openverse(site, 1_000_000)
        source = Openverse(asker, site.url("/"))
        page = await source.search("red panda", 350, 500)
        assert numbers([one.url for one in page.candidates]) == list(range(350, 400))
        assert page.exhausted
        assert not (await source.search("red panda", 0, 399)).exhausted


async def test_openverses_dead_links_do_not_end_a_search() -> None:
    """A page with fewer results than its size is not the last one."""
    async with serving() as site, asking("openverse") as asker:
        openverse(site, 60, gaps=frozenset(range(30, 40)))
        page = await Openverse(asker, site.url("")).search("red panda", 20, 20)
    assert len(page.candidates) == 10
    assert not page.exhausted


async def test_openverse_may_refuse_pages_beyond_the_last() -> None:
    """Then the first page tells that the search has ended; other refusals are refusals."""
    async with serving() as site, asking("openverse") as asker:
        openverse(site, 30)
        answer = site.pages["/v1/images/"]

        async def strict(request: web.BaseRequest) -> web.StreamResponse:
            if int(request.query["page"]) > 2:
                return web.json_response({"detail": "Invalid page."}, status=404)
            return await answer(request)

        site.pages["/v1/images/"] = strict
        assert await Openverse(asker, site.url("")).search("red panda", 200, 20) == ((), True)


async def test_openverses_answers_are_kept_for_a_while() -> None:
    """A chunk that is tried again does not spend the day's quota anew."""
    async with serving() as site, asking("openverse") as asker:
        openverse(site, 400)
        source = Openverse(asker, site.url(""))
        first = await source.search("red panda", 0, 200)
        assert await source.search("red panda", 0, 200) == first
        assert site.hits["/v1/images/"] == 10


def commons(site: Web, results: int, version: int, piece: int) -> None:
    """Serve so many results as MediaWiki does; only `piece` pages an answer have their property."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        query = request.query
        assert (query["generator"], query["gsrnamespace"], query["action"]) == (
            "search",
            "6",
            "query",
        )
        offset, limit = int(query.get("gsroffset", 0)), int(query["gsrlimit"])
        assert limit <= 500
        ranks = list(range(offset, min(offset + limit, results)))
        start = int(query.get("iicontinue", "0"))
        pages: list[dict[str, Any]] = []
        for place, rank in enumerate(ranks):
            page: dict[str, Any] = {"pageid": 9_000 - rank, "ns": 6, "title": f"File:{rank}.jpg"}
            page["index"] = rank + 1
            if start <= place < start + piece:
                page["imageinfo"] = [{"url": f"http://u.example/{rank}", "mime": "image/jpeg"}]
            pages.append(page)
        reply = _reply(pages, offset + limit, done=start + piece, results=results, version=version)
        return web.json_response(reply)

    site.pages["/w/api.php"] = answer


def _reply(
    pages: list[dict[str, Any]], next_offset: int, *, done: int, results: int, version: int
) -> dict[str, Any]:
    """Either the rest of the batch follows, or the next batch, or nothing."""
    pages = sorted(pages, key=lambda page: int(page["pageid"]))
    reply: dict[str, Any] = {}
    if pages:
        listed = pages if version == 2 else {str(page["pageid"]): page for page in pages}
        reply["query"] = {"pages": listed}
    if done < len(pages):
        return reply | {"continue": {"iicontinue": str(done), "continue": "||"}}
    reply["batchcomplete"] = True if version == 2 else ""
    if next_offset < results:
        reply["continue"] = {"gsroffset": next_offset, "continue": "gsroffset||"}
    return reply


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("piece", [3, 500])
@pytest.mark.parametrize(
    ("offset", "limit", "expected", "exhausted"),
    [
        (0, 10, range(10), False),
        (7, 20, range(7, 27), False),
        (20, 30, range(20, 35), True),
        (30, 5, range(30, 35), True),
        (35, 5, range(0), True),
        (10_000, 5, range(0), True),
    ],
)
async def test_commons_by_offset_and_limit(
    *, version: int, piece: int, offset: int, limit: int, expected: range, exhausted: bool
) -> None:
    """Batches that come whole or in pieces, in both formats: in rank order, complete."""
    async with serving() as site, asking("commons") as asker:
        commons(site, 35, version, piece)
        source = Commons(asker, site.url("/w/api.php"))
        page = await source.search("red panda", offset, limit)
    assert numbers([one.url for one in page.candidates]) == list(expected)
    assert page.exhausted is exhausted


async def test_commons_gives_500_at_a_time() -> None:
    """More are asked for in batches."""
    async with serving() as site, asking("commons") as asker:
        commons(site, 2000, 2, 500)
        page = await Commons(asker, site.url("/w/api.php")).search("x", 100, 1200)
        assert numbers([one.url for one in page.candidates]) == list(range(100, 1300))
        assert site.hits["/w/api.php"] == 3


async def test_a_short_wait_is_waited_for() -> None:
    """Told to come back in a second, we do, and know the answer then."""
    async with serving() as site, asking("openverse") as asker:
        openverse(site, 20)
        page = site.pages["/v1/images/"]
        times = []

        async def busy_once(request: web.BaseRequest) -> web.StreamResponse:
            times.append(asyncio.get_running_loop().time())
            if len(times) == 1:
                return web.json_response({}, status=429, headers={"Retry-After": "1"})
            return await page(request)

        site.pages["/v1/images/"] = busy_once
        found = await Openverse(asker, site.url("")).search("red panda", 0, 20)
    assert len(found.candidates) == 20
    assert times[1] - times[0] >= 1.0


@pytest.mark.parametrize(
    ("status", "body", "headers", "error"),
    [
        (429, b"{}", {"Retry_After": "7200"}, Retry),
        (200, b"<html>maintenance</html>", {}, Retry),
        (200, b"[]", {}, Retry),
        (200, b'{"results": null}', {}, Retry),
        (401, b"{}", {}, GiveUp),
        (400, b"{}", {}, GiveUp),
    ],
)
async def test_no_answer_is_never_taken_for_no_results(
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    headers: dict[str, Any],
    error: type[Exception],
) -> None:
    """Errors, maintenance pages and odd documents: the chunk is tried again later."""
    monkeypatch.setattr("pixcrawler.downloader.sources.web._pause", lambda _: 0.0)
    async with serving() as site, asking("openverse") as asker:
        site.page("/v1/images/", body, status=status, **headers)
        with pytest.raises(error):
            await Openverse(asker, site.url("")).search("red panda", 0, 20)


async def test_a_spent_quota_is_not_asked_again() -> None:
    """None left today: the next question is not even sent."""
    async with serving() as site, asking("openverse") as asker:
        body = json.dumps({"page_count": 9, "results": [{"url": "http://i.example/0"}]}).encode()
        limit: dict[str, Any] = {
            "X_RateLimit_Limit_sustained": "200/day",
            "X_RateLimit_Available_sustained": "0",
        }
        site.page("/v1/images/", body, **limit)
        source = Openverse(asker, site.url(""))
        assert (await source.search("red panda", 0, 20)).candidates
        with pytest.raises(Retry, match="quota"):
            await source.search("red panda", 20, 20)
        assert site.hits["/v1/images/"] == 1


async def test_searches_that_hiccup_are_asked_again() -> None:
    """The miniature web's searches fail at first, each in its way; then all results are there."""
    plan = Plan((("photo", 30),), hiccups=1)
    async with (
        hosting(plan) as (site, _),
        asking("openverse") as one,
        asking("commons") as two,
    ):
        first = Openverse(one, site.env["PIXCRAWLER_SOURCE_OPENVERSE_URL"])
        second = Commons(two, site.env["PIXCRAWLER_SOURCE_COMMONS_URL"])
        keyword = site.keywords[0]
        pages = await asyncio.gather(first.search(keyword, 0, 100), second.search(keyword, 0, 100))
    assert {found.url for page in pages for found in page.candidates} == set(site.truth)
    assert all(page.exhausted for page in pages)


@asynccontextmanager
async def resting(wait_s: float = 5.0) -> AsyncIterator[Asker]:
    """An asker that leaves its service alone after two failures, for a moment."""
    async with aiohttp.ClientSession() as session:
        yield Asker(
            "openverse",
            session,
            unlimited,
            wait_s=wait_s,
            deadline_s=5.0,
            rests=Terms(failures=2, recovery_s=0.4),
        )


async def test_a_service_that_fails_rests_and_is_tried_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After two failures nobody asks; then one question tells; then all goes on."""
    monkeypatch.setattr("pixcrawler.downloader.sources.web._pause", lambda _: 0.0)
    async with serving() as site, resting() as asker:
        site.page("/v1/images/", b"", status=503)
        source = Openverse(asker, site.url(""))
        for _ in range(3):
            with pytest.raises(Away, match=r"^openverse cannot answer now \(503\)$") as away:
                await source.search("red panda", 0, 20)
            assert away.value.final
            assert away.value.rest_s is not None
            assert 0 < away.value.rest_s <= 0.4
        assert site.hits["/v1/images/"] == 2
        await asyncio.sleep(away.value.rest_s or 0.4)
        with pytest.raises(Away):
            await asyncio.gather(*(source.search("red panda", 0, 20) for _ in range(5)))
        assert site.hits["/v1/images/"] == 3
        openverse(site, 40)
        await asyncio.sleep(0.4)
        assert len((await source.search("red panda", 0, 40)).candidates) == 40


async def test_words_for_people() -> None:
    """A source that cannot be reached is told in words, without names of exceptions."""
    async with resting() as asker:
        for url, said in (
            ("http://127.0.0.1:1", "the connection was refused"),
            ("http://no-such-source.invalid", "no DNS answer for no-such-source.invalid"),
        ):
            with pytest.raises(Away) as away:
                await Openverse(asker, url).search("red panda", 0, 20)
            assert str(away.value) == f"openverse cannot be reached ({said})"
            await asyncio.sleep(away.value.rest_s or 0.0)


async def test_a_named_time_is_kept_by_all_questions() -> None:
    """Told to come back in an hour, the service is not asked again, whatever the question."""
    async with serving() as site, asking("openverse") as asker:
        site.page("/v1/images/", b"{}", status=429, Retry_After="3600")
        source = Openverse(asker, site.url(""))
        with pytest.raises(Away, match=r"asks for patience \(429, for 60 min\)") as first:
            await source.search("red panda", 0, 20)
        with pytest.raises(Away, match="no quota left for us for 60 min") as second:
            await source.search("black cat", 0, 20)
        assert (first.value.final, second.value.final) == (True, True)
        assert site.hits["/v1/images/"] == 1


async def test_patience_ends_without_a_breaker_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that leaves question after question unanswered is given up on in the end."""
    monkeypatch.setattr("pixcrawler.downloader.sources.web._pause", lambda _: 0.0)
    async with serving() as site, aiohttp.ClientSession() as session:
        site.page("/v1/images/", b"", status=503)
        asker = Asker(
            "openverse",
            session,
            unlimited,
            wait_s=5.0,
            deadline_s=5.0,
            patience=2,
            rests=Terms(failures=1000),
        )
        finals = []
        for _ in range(3):
            with pytest.raises(Away) as away:
                await Openverse(asker, site.url("")).search("red panda", 0, 20)
            finals.append(away.value.final)
    assert finals == [False, True, True]


async def test_a_search_in_a_mood() -> None:
    """The miniature web's searches can be away, or have nothing left for us, and be well again."""
    async with hosting(Plan((("photo", 8),))) as (site, server), resting(wait_s=0.5) as asker:
        source = Openverse(asker, site.env["PIXCRAWLER_SOURCE_OPENVERSE_URL"])
        server.moods["openverse"] = Mood("spent", 1)
        with pytest.raises(Away, match="asks for patience"):
            await source.search(site.keywords[0], 0, 20)
        server.moods["openverse"] = Mood("away")
        await asyncio.sleep(1.1)
        with pytest.raises(Away, match="cannot be reached"):
            await source.search(site.keywords[0], 0, 20)
        server.moods.clear()
        await asyncio.sleep(0.5)
        assert (await source.search(site.keywords[0], 0, 20)).candidates
