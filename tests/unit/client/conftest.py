from collections.abc import Iterator

import pytest

from pixcrawler.client.api import Api
from tests.unit.client.server import FakeApi, running


@pytest.fixture
def fake() -> Iterator[FakeApi]:
    with running() as server:
        yield server


@pytest.fixture
def api(fake: FakeApi) -> Iterator[Api]:
    """A client of it that loses its patience soon."""
    with Api(fake.url, "the-key", patience_s=5) as client:
        yield client
