"""A small local web server whose answers a test writes down, and which remembers its visitors."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.integration.downloader.harness import HOME

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass
class Web:
    """Answers by path; other paths are 404. `raw` has what was asked for, as it was sent."""

    port: int = 0
    pages: dict[str, Answer] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)
    raw: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    active: int = 0
    busiest: int = 0

    def url(self, path: str, host: str = HOME) -> str:
        return f"http://{host}:{self.port}{path}"

    def page(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> "Web":
        """Serve this; `_` in a header's name stands for `-`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def answer(_: web.BaseRequest) -> web.StreamResponse:
            return web.Response(body=body, status=status, headers=named)

        self.pages[path] = answer
        return self

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.hits[request.path] += 1
        self.raw.append(request.raw_path)
        self.headers.append(dict(request.headers))
        self.active += 1
        self.busiest = max(self.busiest, self.active)
        try:
            page = self.pages.get(request.path)
            return await page(request) if page else web.Response(status=404)
        finally:
            self.active -= 1


@asynccontextmanager
async def serving(host: str = HOME) -> AsyncIterator[Web]:
    """A server that lives as long as the context."""
    site = Web()
    runner = web.ServerRunner(
        web.Server(site.handle, access_log=None), handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    listener = web.TCPSite(runner, host, 0)
    await listener.start()
    site.port = runner.addresses[0][1]
    try:
        yield site
    finally:
        await runner.cleanup()


async def hang(_: web.BaseRequest) -> web.StreamResponse:
    """Says nothing."""
    await asyncio.Event().wait()
    raise AssertionError
