"""The Faust app as something that runs until it is stopped, and notices when it is stuck."""

import asyncio
import time
from collections.abc import Mapping

import faust
from faust.exceptions import ConsumerNotStarted
from faust.types import TP

from pixcrawler.common import topics
from pixcrawler.common.errors import Fatal
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

    name = "table"

    def __init__(self, settings: Settings, shown: Shown) -> None:
        self._settings = settings
        self._shown = shown
        self._stopping = asyncio.Event()
        self._looked_at = time.monotonic()
        self._halted = ""

    async def check(self) -> None:
        """Raise if it takes nothing (readiness); the message says why."""
        if self._halted:
            raise Fatal(self._halted)

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            RuntimeError: the app crashed, or its commits stand still: a new process may do better.
        """
        self._looked_at = time.monotonic()  # it may have waited long for its start
        tracker = Tracker(self._settings, self._shown)
        app, commits = tracker.app, Commits(self._settings.tracker_stall_s)
        await app.start()
        try:
            while not self._stopping.is_set() and not tracker.halted:
                self._looked_at = time.monotonic()
                if app.crashed:
                    raise RuntimeError("the Faust app crashed") from app.crash_reason
                commits.check(_committed(app), _ends(app), time.monotonic())
                await self._wait()
            # What is in hand is in the dead letters, and will not be acknowledged.
            app.conf.stream_wait_empty = not tracker.halted
            self._halted = tracker.halted
        finally:
            await app.stop()
        while not self._stopping.is_set():
            self._looked_at = time.monotonic()
            await self._wait()

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


def _committed(app: faust.App) -> dict[TP, int]:
    """The offset up to which each partition is committed, as far as it is known."""
    # Its public face knows only what this process committed, not what it found.
    known: dict[TP, int | None] = app.consumer._committed_offset  # type: ignore[attr-defined]  # noqa: SLF001
    return {tp: offset for tp, offset in known.items() if offset is not None}


def _ends(app: faust.App) -> dict[TP, int]:
    """The end of each assigned partition that is read; none before the first assignment."""
    try:
        assigned = app.consumer.assignment()
    except ConsumerNotStarted:
        return {}
    ends = {tp: app.consumer.highwater(tp) for tp in assigned if tp.topic == topics.TRACKER_EVENTS}
    return {tp: end for tp, end in ends.items() if end is not None}


class Commits:
    """Notices partitions whose committed offset stands still though there are records beyond it.

    After a rebalance under load Faust was seen to skip records of a partition that it kept: their
    offsets are never acknowledged, so nothing beyond them is committed, for ever. A new process
    reads them again, and reading twice harms nothing.

    Args:
        limit_s: For how long they may.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._seen: dict[TP, tuple[int, float]] = {}

    def check(self, committed: Mapping[TP, int], ends: Mapping[TP, int], now: float) -> None:
        """Take note of where each assigned partition is committed and where it ends.

        Raises:
            RuntimeError: one has stood still for too long.
        """
        seen, self._seen = self._seen, {}
        for partition, end in ends.items():
            offset = committed.get(partition, 0)
            before, since = seen.get(partition, (offset, now))
            if offset >= end or offset != before:
                since = now
            if now - since > self._limit_s:
                raise RuntimeError(
                    f"{partition.topic}/{partition.partition} has stood still at {offset} of {end} "
                    f"for {self._limit_s:g} s"
                )
            self._seen[partition] = (offset, since)
