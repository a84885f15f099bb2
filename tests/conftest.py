"""Fixtures that every test may use; what they give is started when it is first asked for.

`postgres_url` and `azurite` are shared by the whole session: take a database of your own from
`database`. `fresh_kafka` is a broker that nobody else uses, for tests that run the pipeline with
its fixed topic names; those of the consumer loop share one, and make topics of their own.
"""

import gc
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.scratch import reachable_folder, remove_leftovers
from tests.spreading import ByRoom, first_things_first
from tests.stack import Stack, make_stack, new_database


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported stays, so that nobody looks through it for garbage, now or later.

    A tenth of the work of a worker otherwise.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    first_things_first(items)


def pytest_sessionstart(session: pytest.Session) -> None:
    """What a killed run has left is removed, once a run."""
    if not hasattr(session.config, "workerinput"):
        remove_leftovers()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByRoom:
    """Workers get whole rooms."""
    return ByRoom(config, log)


@pytest.fixture(scope="session", autouse=True)
def _interruptible() -> None:
    """A shell's background job ignores SIGINT, and so would every program that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest_asyncio.fixture(scope="session")
async def stack() -> Stack:
    """Starts parts: a test that must kill what it uses takes its own from here."""
    return make_stack()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def fresh_kafka(stack: Stack) -> AsyncIterator[str]:
    """Bootstrap servers of a broker of the module's own, without any topic."""
    async with stack.kafka() as bootstrap_servers:
        yield bootstrap_servers


@pytest_asyncio.fixture(scope="session")
async def postgres_url(stack: Stack) -> AsyncIterator[str]:
    """The superuser's URL of the session's server, ``postgresql+asyncpg://…/postgres``."""
    async with stack.postgres() as url:
        yield url


@pytest_asyncio.fixture(scope="session")
async def azurite(stack: Stack) -> AsyncIterator[str]:
    """Connection string of the session's Azurite."""
    async with stack.azurite() as connection_string:
        yield connection_string


@pytest_asyncio.fixture
async def empty_database(postgres_url: str) -> AsyncIterator[str]:
    """URL of a database of the test's own, without any table."""
    async with new_database(postgres_url) as url:
        yield url


@pytest_asyncio.fixture(scope="session")
async def schema(postgres_url: str) -> AsyncIterator[str]:
    """The name of a database with the schema, to be copied: migrating takes four times as long."""
    from pixcrawler.common.db.migrate import upgrade

    async with new_database(postgres_url) as url:
        await upgrade(url)
        yield url.rpartition("/")[2]


@pytest_asyncio.fixture
async def database(postgres_url: str, schema: str) -> AsyncIterator[str]:
    """URL of a database of the test's own, with the schema, as the superuser."""
    async with new_database(postgres_url, schema) as url:
        yield url


@pytest_asyncio.fixture
async def service_urls(database: str) -> dict[str, str]:
    """URLs of the `database` as each service's role, by service."""
    from pixcrawler.common.db.roles import ensure_roles, service_url
    from pixcrawler.common.db.tables import OWNERS

    passwords = dict.fromkeys(OWNERS, "secret")
    await ensure_roles(database, passwords)
    return {service: service_url(database, service, "secret") for service in OWNERS}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def module_database(postgres_url: str, schema: str) -> AsyncIterator[str]:
    """The same, shared by the tests of a module."""
    async with new_database(postgres_url, schema) as url:
        yield url


@pytest.fixture
def reachable_path() -> Iterator[Path]:
    """A temporary directory that fits as a data directory also where we are root."""
    with reachable_folder() as directory:
        yield directory
