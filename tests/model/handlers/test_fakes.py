"""The fakes keep the contracts of what they stand for."""

import pytest

from pixcrawler.common.blobs.port import BlobStore
from tests.integration.blobs.contract import Contract
from tests.model.handlers.blobs import MemoryBlobs


class TestMemoryBlobs(Contract):
    """The contract of blob stores, in memory."""

    @pytest.fixture
    def store(self) -> BlobStore:
        """An empty store."""
        return MemoryBlobs()

    async def test_big_streams_need_little_memory(self, store: BlobStore) -> None:
        """The one thing that a store in memory cannot do."""
        del store
