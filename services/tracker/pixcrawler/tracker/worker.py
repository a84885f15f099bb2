"""The Faust app as something that runs until it is stopped, and notices when it is stuck."""

import asyncio
import time

from pixcrawler.tracker.app import Tracker
from pixcrawler.tracker.settings import Settings
from pixcrawler.tracker.shown import Shown

CHECK_S = 1.0
"""Seconds between two looks at the app."""

ALIVE_S = 30.0
"""The longest time without a look that still counts as alive."""


class Worker:
    """Runs the Faust app.

    Args:
        settings: Addresses and times.
        shown: What changed.
    """

    name = "tracker"

    def __init__(self, settings: Settings, shown: Shown) -> None:
        self._settings = settings
        self._shown = shown
        self._stopping = asyncio.Event()
        self._looked_at = time.monotonic()

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            RuntimeError: the app crashed, or its commits stand still: a new process may do better.
        """
        app = Tracker(self._settings, self._shown).app
        commits = Commits(self._settings.tracker_stall_s)
        await app.start()
        try:
            while not self._stopping.is_set():
                self._looked_at = time.monotonic()
                if app.crashed:
                    raise RuntimeError("the Faust app crashed") from app.crash_reason
                committed = sum(app.monitor.tp_committed_offsets.values())
                commits.check(committed, app.monitor.messages_received_total, time.monotonic())
                await self._wait()
        finally:
            await app.stop()

    async def stop(self) -> None:
        """Let `run` return soon."""
        self._stopping.set()

    def alive(self) -> bool:
        """Whether the last look is recent."""
        return time.monotonic() - self._looked_at < ALIVE_S

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(CHECK_S):
                await self._stopping.wait()
        except TimeoutError:
            pass


class Commits:
    """Notices commits that stand still while events come.

    Args:
        limit_s: For how long they may.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._committed = -1
        self._received = -1
        self._since = 0.0

    def check(self, committed: int, received: int, now: float) -> None:
        """Take note of the sums of committed offsets and of records received.

        Raises:
            RuntimeError: records came and nothing was committed, for too long.
        """
        if committed != self._committed:
            self._committed, self._received, self._since = committed, received, now
        elif received == self._received:
            self._since = now
        elif now - self._since > self._limit_s:
            raise RuntimeError(f"committed offsets have stood still for {self._limit_s:g} s")
