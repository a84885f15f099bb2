from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.integration.planner.desk import Desk, open_desk


@pytest_asyncio.fixture
async def desk(module_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    """The planner, alone, and nothing in the database."""
    async with open_desk(module_database, tmp_path) as opened:
        yield opened


@pytest_asyncio.fixture
async def replicas(module_database: str, tmp_path: Path) -> AsyncIterator[Desk]:
    """Three replicas of the planner, and nothing in the database."""
    async with open_desk(module_database, tmp_path, replicas=3) as opened:
        yield opened
