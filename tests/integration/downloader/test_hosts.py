"""Hosts that fail or ask for a pause: candidates wait, and come to the outcome that is theirs."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.documents import Fetched
from pixcrawler.common.outcomes import Outcome
from pixcrawler.downloader.tools import Tools
from tests.integration.downloader.harness import settings, tools
from tests.integration.downloader.web import hang, serving

IMAGE = b"\xff\xd8\xff\xe0" + bytes(range(256))


@asynccontextmanager
async def replica(database: str, path: Path, **others: object) -> AsyncIterator[Tools]:
    told: dict[str, object] = {"breaker_failures": 3, "breaker_recovery_s": 0.3}
    async with tools(settings(database, **(told | others)), LocalBlobs(path)) as made:
        yield made


async def fetch_all(made: Tools, urls: list[str]) -> list[Fetched]:
    """All at once, as a chunk does."""
    async with asyncio.timeout(60):
        answers = await asyncio.gather(
            *(made.fetcher.fetch(position, url) for position, url in enumerate(urls))
        )
    for answer in answers:
        if answer.body is not None:
            answer.body.close()
    return [answer.fetched for answer in answers]


def outcomes(fetched: list[Fetched]) -> Counter[Outcome | None]:
    return Counter(one.outcome for one in fetched)


async def test_a_dead_host_costs_one_probe(module_database: str, tmp_path: Path) -> None:
    """It was there for its robots.txt, then falls silent: 200 candidates share what a second
    robots.txt came to, after a handful of requests; each of 600 tries would cost a timeout."""
    async with serving() as site, replica(module_database, tmp_path, fetch_per_host=4) as made:
        site.page("/robots.txt", b"User-agent: *\nDisallow:\n")
        site.page("/first", IMAGE)
        assert outcomes(await fetch_all(made, [site.url("/first")])) == {None: 1}
        site.pages["/robots.txt"] = hang
        urls = [site.url(f"/{number}") for number in range(200)]
        site.pages |= {f"/{number}": hang for number in range(200)}
        began = time.monotonic()
        found = await fetch_all(made, urls)
        assert outcomes(found) == {Outcome.TIMEOUT: 200}
        assert sum(site.hits[f"/{number}"] for number in range(200)) <= 3 + 2 * 4
        assert time.monotonic() - began < 10
        assert {one.detail for one in found} <= {
            "no byte in time",
            "robots.txt: no byte in time",
        }
        [name] = [
            sample.labels["name"]
            for metric in REGISTRY.collect()
            for sample in metric.samples
            if sample.name == "pixcrawler_breaker_open" and str(site.port) in sample.labels["name"]
        ]
        assert name == site.url("")


async def test_a_host_that_is_there_decides_each_url(module_database: str, tmp_path: Path) -> None:
    """Its breaker opens, and delays: whatever is well in the end is fetched, and only that."""
    tries: Counter[str] = Counter()

    async def second_time(request: web.BaseRequest) -> web.StreamResponse:
        tries[request.path] += 1
        if tries[request.path] < 2:
            return web.Response(status=503)
        return web.Response(body=IMAGE)

    async with serving() as site, replica(module_database, tmp_path, fetch_per_host=2) as made:
        bad = [f"/bad/{number}" for number in range(20)]
        late = [f"/late/{number}" for number in range(10)]
        for path in bad:
            site.page(path, status=500)
        site.pages |= dict.fromkeys(late, second_time)
        site.page("/good", IMAGE)
        found = await fetch_all(made, [site.url(path) for path in (*bad, *late, "/good")])
        assert outcomes(found) == {Outcome.HTTP_ERROR: 20, None: 11}
        assert {one.http_status for one in found if one.outcome} == {500}
        assert site.hits["/robots.txt"] >= 2
        assert all(site.hits[path] == 3 for path in bad)


async def test_a_host_that_comes_back_is_gone_on_with(module_database: str, tmp_path: Path) -> None:
    """Away when its breaker opens, back when it is probed: nothing that waited is lost."""
    async with serving() as site, replica(module_database, tmp_path, fetch_per_host=1) as made:

        async def broken(request: web.BaseRequest) -> web.StreamResponse:
            assert request.transport is not None
            if site.hits["/robots.txt"] < 2:
                request.transport.abort()
            return web.Response(body=IMAGE)

        paths = [f"/{number}" for number in range(30)]
        site.pages |= dict.fromkeys(paths, broken)
        found = await fetch_all(made, [site.url(path) for path in paths])
    assert outcomes(found) == {None: 30}


async def test_a_host_that_asks_for_a_pause_gets_it_from_all(
    module_database: str, tmp_path: Path
) -> None:
    """429 with Retry-After for one URL: nobody asks the host before that time."""
    asked_at: list[float] = []

    async def busy_once(_: web.BaseRequest) -> web.StreamResponse:
        asked_at.append(time.monotonic())
        if len(asked_at) == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return web.Response(body=IMAGE)

    async with serving() as site, replica(module_database, tmp_path, fetch_per_host=1) as made:
        site.pages |= {f"/{number}": busy_once for number in range(12)}
        found = await fetch_all(made, [site.url(f"/{number}") for number in range(12)])
    assert outcomes(found) == {None: 12}
    assert asked_at[1] - asked_at[0] >= 0.95


@pytest.mark.parametrize("wait_s", [1, 3600])
async def test_pauses_are_bounded(module_database: str, tmp_path: Path, wait_s: int) -> None:
    """A host that asks for pauses for ever holds its candidates up once, and not for ever."""
    told = {"fetch_retry_after_max_s": 1.2, "fetch_per_host": 4}
    async with serving() as site, replica(module_database, tmp_path, **told) as made:
        for number in range(40):
            site.page(f"/{number}", status=429, Retry_After=str(wait_s))
        began = time.monotonic()
        found = await fetch_all(made, [site.url(f"/{number}") for number in range(40)])
        assert time.monotonic() - began < 12
    assert outcomes(found) == {Outcome.HTTP_ERROR: 40}
    assert {one.http_status for one in found} == {429}
