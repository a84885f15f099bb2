"""A process of its own for each piece of work: an event loop that stops between any two effects.

Handlers run here as they are, with their tasks, threads and timeouts: what they hand to a thread is
done at once, time passes only when nothing else is left to do, and which of several tasks has its
effect next is chance. So a schedule is its seed, and a process can stop for ever at any effect.
"""

import asyncio
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from random import Random
from typing import Any, TypeVar, cast

T = TypeVar("T")


class Loop:
    """As much of an event loop as handlers use.

    Args:
        rng: Which of several tasks goes on.
    """

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._ready: deque[asyncio.Handle] = deque()
        self.at_effects: list[asyncio.Future[None]] = []
        self._timers: list[tuple[float, int, asyncio.Handle]] = []
        self._count = 0
        self._now = 0.0
        self.asleep = False
        self.dead = False
        self.trouble: list[dict[str, Any]] = []

    @property
    def _itself(self) -> asyncio.AbstractEventLoop:
        """As asyncio knows it: enough of one."""
        return cast("asyncio.AbstractEventLoop", self)

    # ---- what asyncio asks for

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run it after what waits already."""
        handle = asyncio.Handle(callback, args, self._itself, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Run it when nothing else is left to do and so much time has passed."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Likewise."""
        handle = asyncio.TimerHandle(when, callback, args, self._itself, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def time(self) -> float:
        """Seconds, as far as this process knows."""
        return self._now

    def create_future(self) -> "asyncio.Future[Any]":
        """A future."""
        return asyncio.Future(loop=self._itself)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> "asyncio.Task[Any]":
        """A task."""
        return asyncio.Task(coro, loop=self._itself, name=name, context=context)

    def run_in_executor(
        self, _executor: Any, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """What a thread would do, at once."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - the caller's
            future.set_exception(error)
        return future

    def get_debug(self) -> bool:
        """No."""
        return False

    def is_running(self) -> bool:
        """Always, as far as anybody in it knows."""
        return True

    def is_closed(self) -> bool:
        """No."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Something failed and nobody looked."""
        self.trouble.append(context)

    # ---- steps

    def drain(self) -> None:
        """Go on until everybody waits: for an effect, for time, or for each other."""
        events._set_running_loop(self._itself)
        try:
            while self._ready:
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            events._set_running_loop(None)

    def go_on(self) -> None:
        """Let one of those have its effect, or let time pass if there are none; then drain."""
        self.at_effects = [waiting for waiting in self.at_effects if not waiting.done()]
        if self.at_effects:
            self.at_effects.pop(int(self._rng.random() * len(self.at_effects))).set_result(None)
        elif self._timers:
            when, _, handle = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            self._ready.append(handle)
        else:
            raise AssertionError("it waits for what never comes")
        self.drain()


def current() -> Loop | None:
    """The process that this runs in, if it is one."""
    loop: object = asyncio.get_running_loop()
    return loop if isinstance(loop, Loop) else None


async def effect() -> None:
    """Called before everything that others can see: here a process may stop.

    Raises:
        CancelledError: it is dead; nothing of what it does now can be seen.
    """
    loop = current()
    if loop is None:
        return  # in a test of the fakes
    if not loop.dead:
        waiting = asyncio.get_running_loop().create_future()
        loop.at_effects.append(waiting)
        await waiting
    if loop.dead:
        raise asyncio.CancelledError


def process(loop: Loop, work: Callable[[], Coroutine[Any, Any, T]]) -> Generator[None, None, T]:
    """Work in a process of its own, yielding before each effect; closing it kills the process."""
    task: asyncio.Task[T] = loop.create_task(work())
    try:
        loop.drain()
        while not task.done():
            yield
            loop.go_on()
    finally:
        if not task.done():
            loop.dead = True
            task.cancel()
            loop.drain()
            while not task.done():
                loop.go_on()
    assert not loop.trouble, loop.trouble
    return task.result()
