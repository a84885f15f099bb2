"""One small web for all tests of this folder, served in this process."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, ClientTimeout

from pixcrawler.miniweb import plans
from pixcrawler.miniweb.names import private_names
from pixcrawler.miniweb.server import Server
from pixcrawler.miniweb.site import Site, hosting

CONTACT = {"User-Agent": "miniweb-tests/1.0 (tests@example.org)"}


@pytest.fixture(scope="package")
async def hosted() -> AsyncIterator[tuple[Site, Server]]:
    async with hosting(plans.small_plan(private_names()), seed=7) as both:
        yield both


@pytest.fixture
def site(hosted: tuple[Site, Server]) -> Site:
    return hosted[0]


@pytest.fixture
def server(hosted: tuple[Site, Server]) -> Server:
    return hosted[1]


@pytest.fixture(scope="package")
async def client() -> AsyncIterator[ClientSession]:
    async with ClientSession(headers=CONTACT, timeout=ClientTimeout(total=10)) as session:
        yield session
