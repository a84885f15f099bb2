"""A browser, and what it looks at: an api on a real database, or a whole system."""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright, expect

from pixcrawler.api.server import WebServer
from tests.browser.tab import Tab
from tests.integration.api.conftest import World, api_url, app_over, world  # fixtures

__all__ = ["api_url", "app_over", "world"]

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
DRAIN_S = 1.0

# Its five seconds are nothing on two cores that do much else.
expect.set_options(timeout=20_000)


def browser_path() -> str:
    """The browser of this machine. Where `CI` is set it has to be there."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        missing = "no Chromium on this machine: `make browser` (Debian: apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest_asyncio.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A headless browser for the whole session."""
    path = browser_path()
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield started
        await started.close()


@pytest_asyncio.fixture
async def tab(browser: Browser) -> AsyncIterator[Tab]:
    """A page in a profile of its own. At its end: no errors, nothing that the policy forbids."""
    context = await browser.new_context(
        locale="en-GB", timezone_id="UTC", viewport={"width": 1280, "height": 900}
    )
    opened = Tab(await context.new_page())
    await opened.watch()
    yield opened
    problems = await opened.problems()
    await context.close()
    assert not problems, problems


class Served:
    """The world's api on a port; it can go away and come back."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.port = 0
        self._server: WebServer | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        """The key of the world's owner."""
        return str(self.world.client.headers["Authorization"]).removeprefix("Bearer ")

    @property
    def link(self) -> str:
        """What signs in."""
        return f"{self.url}/#key={self.key}"

    async def start(self) -> None:
        """Serve, on the same port as before."""
        self._server = WebServer(self.world.app, "127.0.0.1", self.port, drain_s=DRAIN_S)
        self._server.listen()
        self.port = self._server.port
        self._running = asyncio.create_task(self._server.run())

    async def stop(self) -> None:
        """Be away, streams and all."""
        if self._server and self._running:
            await self._server.stop()
            await self._running
        self._server = self._running = None


@pytest_asyncio.fixture
async def served(world: World) -> AsyncIterator[Served]:
    """The world's api, for browsers."""
    made = Served(world)
    await made.start()
    yield made
    await made.stop()


NETWORK = re.compile(r"Failed to load resource")
"""What a browser's console says of an answer that is an error, whoever expected it."""
