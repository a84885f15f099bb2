"""A process that was paused stops itself before it writes again.

Whoever was paused (SIGSTOP, a frozen container, a blocked event loop) for longer than Kafka's
session timeout has lost its partitions to another replica without knowing it. A task beats on the
event loop; `ensure_fresh`, called right before every write, ends the process if the last beat is
too long ago. The supervisor starts a new one.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable

EXIT_PAUSED = 75
"""EX_TEMPFAIL of sysexits.h: nothing is wrong but the time; start again."""

_BEATS_PER_LIMIT = 10


class Watchdog:
    """Knows when the process last advanced.

    Args:
        limit_s: The longest gap that is no pause: the session timeout, in seconds.
        clock: Monotonic seconds.
        end: Ends the process at once, without any clean-up that might write.
    """

    def __init__(
        self,
        limit_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[int], object] = os._exit,
    ) -> None:
        self.limit_s = limit_s
        self._clock = clock
        self._end = end
        self._last: float | None = None

    def beat(self) -> None:
        """Say that the process advances."""
        self.ensure_fresh()
        self._last = self._clock()

    def ensure_fresh(self) -> None:
        """End the process if it was paused since the last beat (if there was one)."""
        if self._last is None:
            return
        gap_s = self._clock() - self._last
        if gap_s > self.limit_s:
            # Not through logging: a lock in there may be held by whatever was paused.
            print(  # noqa: T201
                f"paused for {gap_s:.1f} s, longer than the session timeout of {self.limit_s:g} s: "
                "stopping before anything is written",
                file=sys.stderr,
                flush=True,
            )
            self._end(EXIT_PAUSED)

    async def run(self) -> None:
        """Beat until cancelled. It shares the event loop with Kafka's heartbeats on purpose."""
        while True:
            self.beat()
            await asyncio.sleep(self.limit_s / _BEATS_PER_LIMIT)
