"""The load test does what it says, with a few users for a few seconds."""

import asyncio

import pytest

from bench.load import __main__ as load
from bench.load.users import FOLLOW, ROUTES, Measured, use
from pixcrawler.miniweb.site import Site
from tests.e2e.system import System

DEADLINE_S = 60


def test_users_create_follow_and_look(system: System, small_web: Site) -> None:
    """Every route is asked, jobs are followed to their end, and nothing goes wrong."""
    urls = [url for url, true in small_web.truth.items() if true.kind == "photo"][:2]

    def enough(measured: Measured) -> bool:
        return measured.finished >= 4 and all(measured.seconds[route] for route in ROUTES)

    async def work() -> tuple[Measured, float]:
        asked = use(system.api.url, [system.key], urls, users=4, over=enough, think_s=0.1)
        return await asyncio.wait_for(asked, DEADLINE_S)

    measured, seconds = asyncio.run(work())
    assert not measured.failures, measured.errors
    assert measured.finished >= 4
    load.report(measured, 4, seconds)


def test_what_goes_wrong_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """An API that is not there is an error at each request; percentiles are of the nearest rank."""

    nowhere, over = "http://127.0.0.1:1", lambda measured: measured.failures >= 2
    asked = use(nowhere, ["key"], ["http://x"], users=1, over=over, think_s=0.01)
    measured, seconds = asyncio.run(asked)
    assert measured.error_share == 1.0
    load.report(measured, 1, seconds)
    assert "POST /v1/jobs: ClientConnectorError" in capsys.readouterr().out
    measured.seconds[FOLLOW] = [n / 100 for n in range(100, 0, -1)]
    assert [measured.percentile(FOLLOW, p) for p in (0.5, 0.95, 0.99)] == [0.5, 0.95, 0.99]
    assert measured.error_share == measured.failures / measured.requests < 1
