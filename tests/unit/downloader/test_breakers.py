"""A breaker's states, and what the metric shows of them."""

import asyncio

from prometheus_client import REGISTRY

from pixcrawler.downloader.breakers import Breaker, Terms


def shown(name: str) -> float | None:
    return REGISTRY.get_sample_value("pixcrawler_breaker_open", {"name": name})


async def opened(name: str, recovery_s: float = 0.05) -> Breaker:
    breaker = Breaker(name, Terms(failures=3, recovery_s=recovery_s))
    for _ in range(3):
        assert breaker.closed
        breaker.failed()
    return breaker


async def test_so_many_failures_in_a_row_open_it() -> None:
    """An answer in between begins the count anew."""
    breaker = Breaker("one", Terms(failures=2, recovery_s=60))
    for _ in range(5):
        breaker.failed()
        breaker.answered()
    assert breaker.closed
    assert shown("one") is None
    breaker.failed()
    breaker.failed()
    assert not breaker.closed
    assert 59 < breaker.rest_s <= 60
    assert shown("one") == 1


async def test_half_open_it_closes_with_an_answer() -> None:
    """After its rest it may be tried; then it is as if nothing had been."""
    breaker = await opened("two")
    await asyncio.sleep(breaker.rest_s)
    assert breaker.rest_s == 0
    assert not breaker.closed
    assert shown("two") == 1
    breaker.answered()
    assert breaker.closed
    assert shown("two") is None
    breaker.failed()
    assert breaker.closed


async def test_sources_are_shown_also_while_they_answer() -> None:
    """0, then 1, then 0: an alarm on it can end."""
    breaker = Breaker("lasting", Terms(failures=1, recovery_s=60), lasting=True)
    assert shown("lasting") == 0
    breaker.failed()
    assert shown("lasting") == 1
    breaker.answered()
    assert shown("lasting") == 0


async def test_half_open_it_opens_with_one_failure() -> None:
    """For a whole rest again."""
    breaker = await opened("three")
    await asyncio.sleep(breaker.rest_s)
    breaker.failed()
    assert not breaker.closed
    assert breaker.rest_s > 0.03


async def test_what_was_under_way_does_not_prolong_a_rest() -> None:
    """Requests that began before it opened tell nothing new."""
    breaker = await opened("four", recovery_s=60)
    before = breaker.rest_s
    await asyncio.sleep(0.02)
    breaker.failed()
    assert breaker.rest_s < before
