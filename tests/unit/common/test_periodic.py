"""Passes that are made again and again."""

import asyncio

import pytest

from pixcrawler.common.errors import Fatal
from pixcrawler.common.periodic import Periodic, beat


async def test_a_hint_makes_a_pass_at_once() -> None:
    """With an hour between passes."""
    made: asyncio.Queue[int] = asyncio.Queue()
    periodic = Periodic("test", lambda: made.put(1), interval_s=3600)
    task = asyncio.create_task(periodic.run())
    async with asyncio.timeout(5):
        await made.get()
        periodic.hint()
        await made.get()
        await periodic.stop()
        await task


async def test_a_hint_during_a_pass_is_not_lost() -> None:
    """What came too late for this pass has the next one."""
    began, go = asyncio.Semaphore(0), asyncio.Event()

    async def make_pass() -> None:
        began.release()
        await go.wait()

    periodic = Periodic("test", make_pass, interval_s=3600)
    task = asyncio.create_task(periodic.run())
    async with asyncio.timeout(5):
        await began.acquire()
        periodic.hint()
        go.set()
        await began.acquire()
        await periodic.stop()
        await task


async def test_a_failed_pass_is_made_again() -> None:
    """And does not end the program."""
    passes = 0
    enough = asyncio.Event()

    async def make_pass() -> None:
        nonlocal passes
        passes += 1
        if passes < 3:
            raise ConnectionError("away")
        enough.set()

    periodic = Periodic("test", make_pass, interval_s=0.001)
    task = asyncio.create_task(periodic.run())
    async with asyncio.timeout(5):
        await enough.wait()
        await periodic.stop()
        await task


async def test_only_fatal_ends_it() -> None:
    """`Fatal` is passed on to whoever runs it."""

    async def make_pass() -> None:
        raise Fatal("broken")

    with pytest.raises(Fatal):
        await Periodic("test", make_pass, interval_s=0.001).run()


async def test_a_pass_that_never_ends_is_not_alive() -> None:
    """Health tells a loop that hangs from one that waits."""
    now = 0.0
    began = asyncio.Event()

    async def make_pass() -> None:
        began.set()
        await asyncio.Event().wait()

    periodic = Periodic("test", make_pass, interval_s=1.0, clock=lambda: now)
    task = asyncio.create_task(periodic.run())
    await began.wait()
    assert periodic.alive()
    now = 120.0
    assert not periodic.alive()
    task.cancel()
    await asyncio.wait([task])


async def test_stop_before_start() -> None:
    """`stop` may come at any time and any number of times."""
    passes = 0

    async def make_pass() -> None:
        nonlocal passes
        passes += 1

    periodic = Periodic("test", make_pass, interval_s=3600)
    await periodic.stop()
    await periodic.stop()
    async with asyncio.timeout(5):
        await periodic.run()
    assert passes == 0


async def test_a_long_pass_is_alive_while_it_advances() -> None:
    """It may take hours as long as it says so, from whatever it calls; silent, it is stuck."""
    now, alive = 0.0, list[bool]()

    async def step(*, says_so: bool) -> None:
        nonlocal now
        now += 50.0
        if says_so:
            beat()

    async def make_pass() -> None:
        for says_so in (True, True, True, False, False):
            await asyncio.create_task(step(says_so=says_so))
            alive.append(periodic.alive())
        await periodic.stop()

    periodic = Periodic("test", make_pass, interval_s=1.0, clock=lambda: now)
    beat()  # of nobody
    await asyncio.wait_for(periodic.run(), 5)
    assert alive == [True, True, True, True, False]
    assert periodic.alive()
