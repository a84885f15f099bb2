"""What the tests of the consumer loop share."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.common.bench import Bench, new_bench


@pytest_asyncio.fixture
async def bench(kafka: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A topic of the test's own with two partitions."""
    made, publisher = await new_bench(kafka, monkeypatch)
    yield made
    await publisher.stop()
