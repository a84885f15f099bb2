"""How the core reaches the outside: blocking or asynchronous, through one port.

The core is written once, as coroutines over a `Port`. With `Asynchronous` they run on an event
loop. With `Blocking` nothing ever suspends: each call returns when it is done, so `drive` runs the
whole coroutine in one step, on the caller's thread, inside a running event loop (a notebook's) too.
"""

import asyncio
import functools
import ssl
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Sequence,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, AsyncContextManager, Protocol, TypeVar  # noqa: UP035 - of a protocol

import httpx

T = TypeVar("T")
R = TypeVar("R")

TIMEOUT_S = 30.0
"""Without a byte, in seconds."""


@functools.cache
def _tls() -> ssl.SSLContext:
    """Whom clients trust, read once for all of a process: each time takes 25 ms of a core."""
    return httpx.create_ssl_context()


class Port(Protocol):
    """What the core needs of the outside."""

    @property
    def stopped(self) -> bool:
        """Whether what is under way is to end."""
        ...

    def stop(self) -> None:
        """Let no one wait any longer, in whichever thread."""
        ...

    def build(self, method: str, url: str, **request: Any) -> httpx.Request:
        """A request to an address or to a path below the base address."""
        ...

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The answer, read to its end."""
        ...

    def opened(self, request: httpx.Request) -> AsyncContextManager[httpx.Response]:
        """The answer, not read yet."""
        ...

    async def read(self, response: httpx.Response) -> None:
        """Read an opened answer to its end."""
        ...

    def pieces(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        """An opened answer's body as it comes."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; not at all once it is stopped."""
        ...

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Something that keeps the disk or the processor busy."""
        ...

    def each(
        self, work: Callable[[T], Coroutine[Any, Any, R]], items: Sequence[T], at_once: int
    ) -> AsyncGenerator[R]:
        """Work on items, some at once, results in order; one that fails stops the others."""
        ...

    async def close(self) -> None:
        """Let go of the connections."""
        ...


class Blocking:
    """Everything on the caller's thread.

    Args:
        url: The base address.
        headers: Sent with every request.
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, verify=_tls())
        self._stopped = threading.Event()

    @property
    def stopped(self) -> bool:
        """Whether what is under way is to end."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Let no one wait any longer, in whichever thread."""
        self._stopped.set()

    def build(self, method: str, url: str, **request: Any) -> httpx.Request:
        """A request to an address or to a path below the base address."""
        return self._http.build_request(method, url, **request)

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The answer, read to its end."""
        return self._http.send(request)

    @asynccontextmanager
    async def opened(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """The answer, not read yet."""
        response = self._http.send(request, stream=True)
        try:
            yield response
        finally:
            response.close()

    async def read(self, response: httpx.Response) -> None:
        """Read an opened answer to its end."""
        response.read()

    async def pieces(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        """An opened answer's body as it comes."""
        for piece in response.iter_bytes():
            yield piece

    async def sleep(self, seconds: float) -> None:
        """Wait; not at all once it is stopped."""
        self._stopped.wait(seconds)

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Done here and now: it is our caller's thread."""
        return function(*arguments)

    async def each(
        self, work: Callable[[T], Coroutine[Any, Any, R]], items: Sequence[T], at_once: int
    ) -> AsyncGenerator[R]:
        """Some items at once, each on a thread."""
        with ThreadPoolExecutor(at_once) as pool:
            try:
                for result in pool.map(lambda item: drive(work(item)), items):
                    yield result
            except BaseException:
                self.stop()  # the other threads too: nobody waits for them any more
                raise

    async def close(self) -> None:
        """Let go of the connections."""
        self._http.close()


class Asynchronous:
    """Everything on the running event loop; what blocks goes to threads.

    Args:
        url: The base address.
        headers: Sent with every request.
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._http = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=TIMEOUT_S, verify=_tls()
        )

    @property
    def stopped(self) -> bool:
        """Never: what is under way ends by being cancelled."""
        return False

    def stop(self) -> None:
        """Nothing to do: what is under way ends by being cancelled."""

    def build(self, method: str, url: str, **request: Any) -> httpx.Request:
        """A request to an address or to a path below the base address."""
        content = request.get("content")
        if content is not None and not isinstance(content, bytes):
            request["content"] = _pieces_of(content)
        return self._http.build_request(method, url, **request)

    async def send(self, request: httpx.Request) -> httpx.Response:
        """The answer, read to its end."""
        return await self._http.send(request)

    @asynccontextmanager
    async def opened(self, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        """The answer, not read yet."""
        response = await self._http.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    async def read(self, response: httpx.Response) -> None:
        """Read an opened answer to its end."""
        await response.aread()

    async def pieces(self, response: httpx.Response) -> AsyncGenerator[bytes]:
        """An opened answer's body as it comes."""
        async for piece in response.aiter_bytes():
            yield piece

    async def sleep(self, seconds: float) -> None:
        """Let others go on."""
        await asyncio.sleep(seconds)

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """On a thread, so that the loop goes on."""
        return await asyncio.to_thread(function, *arguments)

    async def each(
        self, work: Callable[[T], Coroutine[Any, Any, R]], items: Sequence[T], at_once: int
    ) -> AsyncGenerator[R]:
        """Some items at once, each a task."""
        gate = asyncio.Semaphore(at_once)

        async def gated(item: T) -> R:
            async with gate:
                return await work(item)

        tasks = [asyncio.ensure_future(gated(item)) for item in items]
        try:
            for task in tasks:
                yield await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()


async def _pieces_of(content: Iterable[bytes]) -> AsyncIterator[bytes]:
    """A file that is sent, read on threads."""
    pieces = iter(content)
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


def drive(work: Awaitable[T]) -> T:
    """The result of a coroutine over `Blocking`, which never suspends."""
    steps = work.__await__()
    try:
        next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    raise RuntimeError("something in the core waited for an event loop")


def drive_each(items: AsyncIterator[T]) -> Iterator[T]:
    """The items of an asynchronous generator over `Blocking`, as they come."""
    try:
        while True:
            try:
                item = drive(items.__anext__())
            except StopAsyncIteration:
                return
            yield item
    finally:
        if close := getattr(items, "aclose", None):
            drive(close())
