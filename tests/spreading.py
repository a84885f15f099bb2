"""How tests are spread over workers: by rooms, the longest first.

A room is a module, as with ``--dist loadfile``, or the modules of tests/e2e that share a system:
its sixteen processes take a quarter of a core even while nothing is to be done. So few of them run
at once (`JOBS` of the Makefile), before everything that needs none, and each ends with its room.
"""

from pathlib import PurePath

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOMS = {
    "tests/e2e/shared/test_command.py": "jobs",
    "tests/e2e/shared/test_failures.py": "jobs",
    "tests/e2e/shared/test_kills.py": "jobs",
    "tests/e2e/shared/test_pauses.py": "jobs",
    "tests/e2e/shared/test_questions.py": "jobs",
    "tests/e2e/shared/test_replays.py": "jobs",
    "tests/e2e/shared/test_rounds.py": "jobs",
    "tests/e2e/shared/test_steering.py": "jobs",
    "tests/e2e/shared/test_deaths.py": "deaths",
    "tests/e2e/shared/test_load.py": "deaths",
    "tests/e2e/shared/test_sdk.py": "deaths",
    "tests/e2e/shared/test_traces.py": "deaths",
}
"""Those with more than one module in them, the longest first."""

ORDER = ("chaos", "e2e", "browser", "integration", "model", "unit")
"""By how long one test takes: small ones fill what is left at the end."""


def room(nodeid: str) -> str:
    """Where a test takes place."""
    module = nodeid.partition("::")[0]
    return ROOMS.get(module, module)


def first_things_first(items: list[pytest.Item]) -> None:
    """Sort by `ORDER`, those of a room beside each other, else as they were."""
    rooms = list(dict.fromkeys(ROOMS.values()))

    def rank(item: pytest.Item) -> tuple[int, int]:
        where = room(item.nodeid)
        kind = PurePath(item.nodeid).parts[1]
        return ORDER.index(kind), rooms.index(where) if where in rooms else len(rooms)

    items.sort(key=rank)


class ByRoom(LoadScopeScheduling):  # type: ignore[misc] # it is untyped
    """Gives a worker one room after the other, in the order of the tests."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return room(nodeid)
