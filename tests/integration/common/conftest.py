"""What the tests of the consumer loop share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.common.bench import Bench, new_bench
from tests.stack import Stack


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def kafka(stack: Stack) -> AsyncIterator[str]:
    """Bootstrap servers of the package's broker, which ends with it: an idle one is not free."""
    async with stack.kafka() as bootstrap_servers:
        yield bootstrap_servers


@pytest_asyncio.fixture
async def bench(kafka: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A topic of the test's own with two partitions."""
    made, publisher = await new_bench(kafka, monkeypatch)
    yield made
    await publisher.stop()
