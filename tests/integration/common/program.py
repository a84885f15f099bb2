"""A small program of the pipeline, for tests that kill, pause and stop a real process."""

import asyncio
import functools
import time
from collections.abc import Sequence

from pydantic import Field

from pixcrawler.common import service
from pixcrawler.common.context import Context
from pixcrawler.common.errors import Fatal, SettingsError
from pixcrawler.common.events import ChunkDownloaded, ChunkPlanned, Event
from pixcrawler.common.service import Runnable, Runtime
from pixcrawler.common.settings import StageSettings
from pixcrawler.common.stage import Route


class Settings(StageSettings):
    """Settings of its own."""

    capacity: int = Field(default=1)
    unlucky: bool = False
    stubborn_s: float = 0
    stuck: bool = False


async def handle(
    event: ChunkPlanned, context: Context, *, unlucky: bool, stubborn_s: float
) -> Sequence[Event]:
    """Answer at once, or end the process; or be held by a thread, and by nothing that ends it."""
    if unlucky:
        raise Fatal("bad luck")
    if stubborn_s:
        await asyncio.to_thread(time.sleep, stubborn_s)
    await context.check()
    return [
        ChunkDownloaded(
            chunk_id=event.chunk_id, attempt=context.attempt, candidates=0, downloaded=0, bytes=0
        )
    ]


class Stuck:
    """A runnable that never advances."""

    name = "stuck"

    def __init__(self) -> None:
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until stopped."""
        await self._stopping.wait()

    async def stop(self) -> None:
        """Let it return."""
        self._stopping.set()

    def alive(self) -> bool:
        """It is not."""
        return False


async def build(settings: Settings, runtime: Runtime) -> Sequence[Runnable]:
    """The composition root."""
    if settings.capacity < 1:
        raise SettingsError("PIXCRAWLER_CAPACITY: below one chunk; give it more")
    handler = functools.partial(handle, unlucky=settings.unlucky, stubborn_s=settings.stubborn_s)
    stage = runtime.stage([Route(ChunkPlanned, handler)], watch_jobs=False)
    return [stage, Stuck()] if settings.stuck else [stage]


if __name__ == "__main__":
    service.main("downloader", Settings, build)
