"""A database of the module's own, and connections to it."""

from collections.abc import AsyncIterator

import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.db.engine import connect


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(module_database: str) -> AsyncIterator[AsyncEngine]:
    """Enough connections for 20 chunks at once."""
    connections = connect(module_database, pool_size=20)
    yield connections
    await connections.dispose()
