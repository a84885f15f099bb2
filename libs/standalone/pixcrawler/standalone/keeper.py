"""Keeps a component running: whatever dies is started again, for ever."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from .errors import StandaloneError
from .process import Child

FIRST_PAUSE_S = 0.5
EXIT_USAGE = 2  # a service's word for a setting that is wrong
_STEADY_S = 20.0  # who lived this long starts with the first pause again
_POLL_S = 0.1
_TRIM_EVERY_S = 60.0


class Component(Protocol):
    """What a keeper needs of a component."""

    @property
    def name(self) -> str:
        """Such as ``downloader-1``; names its log too."""

    @property
    def service(self) -> str:
        """Such as ``downloader``."""

    @property
    def address(self) -> str:
        """``host:port``."""

    @property
    def child(self) -> Child:
        """Its process."""

    def spawn(self) -> None:
        """Start the process; nothing if it runs."""

    async def answers(self) -> bool:
        """Whether it does its work."""


class Keeper:
    """Starts a component, and again when it dies, until cancelled; cancelling leaves it running."""

    def __init__(
        self,
        component: Component,
        on_change: Callable[["Keeper"], None],
        longest_pause_s: float,
    ) -> None:
        """``on_change`` is called when the process was started or has died.

        Before each start after a death there is a pause twice as long as the last, up to
        ``longest_pause_s``.
        """
        self.component = component
        self.restarts = 0
        self.last_failure: StandaloneError | None = None
        self._on_change = on_change
        self._longest_pause_s = longest_pause_s

    async def run(self) -> None:
        """Keep it running."""
        loop = asyncio.get_running_loop()
        first_pause_s = pause_s = min(FIRST_PAUSE_S, self._longest_pause_s)
        while True:
            born = loop.time()
            await self._live()
            if loop.time() - born > _STEADY_S:
                pause_s = first_pause_s
            self._on_change(self)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._longest_pause_s)
            self.restarts += 1

    async def _live(self) -> None:
        """From birth to death."""
        child = self.component.child
        try:
            self.component.spawn()
        except StandaloneError as error:  # no log, no process: the next try may find room
            self.last_failure = error
            return
        self._on_change(self)
        while not await child.wait(_TRIM_EVERY_S, _POLL_S):
            child.trim_log()
        self.last_failure = child.failure("ended")

    async def wait_ready(self, timeout_s: float, deaths: int = 3) -> None:
        """Wait until the component does its work.

        Raises:
            StandaloneError: It died ``deaths`` times, or once because of a wrong setting, or was
                not ready in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not (self.component.child.running and await self.component.answers()):
            tries = 1 if self.component.child.returncode == EXIT_USAGE else deaths
            if self.last_failure is not None and self.restarts >= tries - 1:
                raise self.last_failure
            if loop.time() >= deadline:
                raise self.component.child.failure(f"was not ready within {timeout_s:.0f} s")
            await asyncio.sleep(_POLL_S)
