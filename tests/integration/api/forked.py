"""The api as a program that starts at once: forked from a process that has imported it.

Its imports take seconds of a core, and a test that lets it die at every point starts it often.
"""

import asyncio
import multiprocessing
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from multiprocessing.process import BaseProcess

import httpx

from pixcrawler.api import __main__ as api

DEADLINE_S = 60.0

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


def serve(told: Mapping[str, str]) -> None:
    """Be the program, with nothing in its environment but what it is told."""
    os.environ.clear()
    os.environ.update(told)
    api.main()


@asynccontextmanager
async def forked(told: Mapping[str, str]) -> AsyncIterator[BaseProcess]:
    """The running program, killed at the end if it is still there."""
    process = _FORKS.Process(target=serve, args=(dict(told),))
    await asyncio.to_thread(process.start)
    try:
        yield process
    finally:
        process.kill()
        await ended(process)
        process.close()


async def ready(client: httpx.AsyncClient, process: BaseProcess) -> None:
    """Wait until `/readyz` says so."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            assert process.exitcode is None
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.05)


async def ended(process: BaseProcess) -> int | None:
    """Wait for its end, and get its exit code; None if it goes on."""
    await asyncio.to_thread(process.join, DEADLINE_S)
    return process.exitcode
