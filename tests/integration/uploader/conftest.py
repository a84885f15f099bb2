"""A job in a database of the module's own, over both stores."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.blobs import open_blobs
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.db.engine import connect
from tests.integration.uploader.world import World, new_world


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(module_database: str) -> AsyncIterator[AsyncEngine]:
    """Connections to the module's database."""
    connections = connect(module_database)
    yield connections
    await connections.dispose()


@pytest_asyncio.fixture(params=["local", "azure"])
async def blobs(
    request: pytest.FixtureRequest, tmp_path: Path, azurite: str
) -> AsyncIterator[BlobStore]:
    """An empty store: a folder, and a container of Azurite."""
    if request.param == "local":
        store = open_blobs(f"file://{tmp_path}")
    else:
        store = open_blobs(f"azure://up-{uuid.uuid4().hex[:12]}", azurite)
    yield store
    await store.close()


@pytest_asyncio.fixture
async def local_blobs(tmp_path: Path) -> AsyncIterator[BlobStore]:
    """An empty folder as a store."""
    store = open_blobs(f"file://{tmp_path}")
    yield store
    await store.close()


@pytest_asyncio.fixture
async def world(blobs: BlobStore, engine: AsyncEngine) -> World:
    """A job over each of the stores."""
    return await new_world(blobs, engine)


@pytest_asyncio.fixture
async def local_world(local_blobs: BlobStore, engine: AsyncEngine) -> World:
    """A job over a folder."""
    return await new_world(local_blobs, engine)
