"""The api as a program that starts at once: forked from a process that has imported it.

Its imports take a second of a core, and a test that lets it die at every point starts it often.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from pixcrawler.standalone import forks
from pixcrawler.standalone.process import Child

DEADLINE_S = 60.0


@asynccontextmanager
async def forked(told: Mapping[str, str], log: Path) -> AsyncIterator[Child]:
    """The running program, with nothing in its environment but what it is told.

    Killed at the end if it is still there.
    """
    forks.prepare(["pixcrawler.api.__main__"])
    child = Child("api", log)
    child.spawn([sys.executable, "-m", "pixcrawler.api"], env=told, fork=True)
    try:
        yield child
    finally:
        await child.stop(number=signal.SIGKILL)


async def ready(client: httpx.AsyncClient, api: Child) -> None:
    """Wait until `/readyz` says so."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            assert api.running, api.last_log_line()
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def ended(api: Child) -> int | None:
    """Wait for its end, and get its exit code; None if it goes on."""
    await api.wait(DEADLINE_S)
    return api.returncode
