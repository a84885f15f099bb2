"""The rules under random schedules: the real handlers in three replicas, everything going wrong."""

import os
import random
from pathlib import Path

import pytest

from pixcrawler.planner.tools import Policy
from tests.integration.planner.desk import open_desk
from tests.integration.planner.world import CAPACITY, World

SEEDS = int(os.environ.get("PIXCRAWLER_TEST_SCHEDULES", "4"))
"""How many schedules; a nightly run asks for more."""
FIRST = int(os.environ.get("PIXCRAWLER_TEST_FIRST_SCHEDULE", "0"))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
async def test_random_schedule(module_database: str, tmp_path: Path, seed: int) -> None:
    """Whatever is repeated, reordered, cut off or asked for, every job ends as promised; and when
    every message comes again, nothing changes."""
    policy = Policy(
        capacity=CAPACITY, release_interval_s=0.0, backoff_s=0.0, max_retries=2, deadline_s=900.0
    )
    async with open_desk(module_database, tmp_path, replicas=3, policy=policy) as desk:
        world = World(desk, random.Random(seed), chaos=40)
        await world.begin()
        for step in range(200):
            await world.act()
            if step % 10 == 0:
                await world.watch_capacity()
        await world.settle()
        await world.check()
        objects = await world.objects()
        await world.replay()
        await world.check(" (after the replay of everything)")
        assert world.violations == set()
        assert await world.objects() == objects
