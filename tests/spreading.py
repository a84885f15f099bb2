"""How tests are spread over workers: by rooms, the longest first.

A room is a module, as with ``--dist loadfile``, or the modules of tests/e2e that share a system:
its sixteen processes take a quarter of a core even while nothing is to be done. So few of them run
at once (`JOBS` of the Makefile), before everything that needs none, and each ends with its room.
"""

from pathlib import PurePath

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARED = "tests/e2e/shared/"
"""Modules that share a system: so much that two workers take them, each with one of its own."""

DEATHS = ("test_deaths.py", "test_load.py", "test_sdk.py", "test_traces.py")
"""Those of them that are a room; all others are the other one, which is longer."""

ROOMS = ("jobs", "deaths")

ORDER = ("chaos", "e2e", "browser", "integration", "model", "unit")
"""By how long one test takes: small ones fill what is left at the end."""


def room(nodeid: str) -> str:
    """Where a test takes place."""
    module = nodeid.partition("::")[0]
    if not module.startswith(SHARED):
        return module
    return "deaths" if module.removeprefix(SHARED) in DEATHS else "jobs"


def first_things_first(items: list[pytest.Item]) -> None:
    """Sort by `ORDER`, those of a room beside each other, else as they were."""

    def rank(item: pytest.Item) -> tuple[int, int]:
        where = room(item.nodeid)
        kind = PurePath(item.nodeid).parts[1]
        return ORDER.index(kind), ROOMS.index(where) if where in ROOMS else len(ROOMS)

    items.sort(key=rank)


class ByRoom(LoadScopeScheduling):  # type: ignore[misc] # it is untyped
    """Gives a worker one room after the other, in the order of the tests."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return room(nodeid)
