"""Something that is done again and again, and at once when there is a hint that it is worth it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from pixcrawler.common import logs
from pixcrawler.common.errors import Fatal

log = logs.get(__name__)

_STUCK_S = 60.0

_pass: ContextVar["Periodic | None"] = ContextVar("pass", default=None)


def beat() -> None:
    """Say that the pass in hand advances, from anywhere within it; nothing outside of a pass.

    A pass over thousands of things may take long, and is alive all the same.
    """
    periodic = _pass.get()
    if periodic is not None:
        periodic.beat()


class Periodic:
    """A runnable that makes one pass after another until it is stopped.

    A pass that fails is logged and made again after the interval; only `Fatal` ends the program.

    Args:
        name: For logs and health.
        make_pass: One pass.
        interval_s: Seconds between the end of a pass and the next one, unless hinted.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        make_pass: Callable[[], Awaitable[object]],
        *,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._make_pass = make_pass
        self._interval_s = interval_s
        self._clock = clock
        self._advanced_at = clock()
        self._hinted = asyncio.Event()
        self._stopping = False

    def hint(self) -> None:
        """Ask for a pass now, or right after the one that is being made."""
        self._hinted.set()

    def beat(self) -> None:
        """Say that the pass in hand advances."""
        self._advanced_at = self._clock()

    def alive(self) -> bool:
        """Whether a pass began, advanced or ended lately."""
        return self._clock() - self._advanced_at < self._interval_s + _STUCK_S

    async def run(self) -> None:
        """Make passes until stopped."""
        while not self._stopping:
            self._hinted.clear()
            failed = await self._try_pass()
            self.beat()
            await (asyncio.sleep(self._interval_s) if failed else self._wait())

    async def stop(self) -> None:
        """Let `run` return after the pass in hand; also before it was started, and twice."""
        self._stopping = True
        self._hinted.set()

    async def _try_pass(self) -> bool:
        """Returns: whether it failed."""
        self.beat()
        _pass.set(self)
        try:
            await self._make_pass()
        except Fatal:
            raise
        except Exception as error:  # the next pass starts from what is there
            log.warning(
                "a pass failed", action=self.name, error=str(error) or repr(error), exc_info=True
            )
            return True
        return False

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._interval_s):
                await self._hinted.wait()
        except TimeoutError:
            pass
