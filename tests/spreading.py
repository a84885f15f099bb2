"""How tests are spread over workers: by rooms, the longest first.

A room is a module, as with ``--dist loadfile``, or the modules of tests/e2e that share a system:
its sixteen processes take a quarter of a core even while nothing is to be done, and each ends with
its room. Where four of them run side by side there is nothing left for the work, everything waits
for everything, and each lives twice as long. So few of them run at once, and the other workers do
what needs no system.
"""

from pathlib import PurePath

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

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

ORDER = ("e2e", "chaos", "browser", "integration", "model", "unit")
"""By how long one test takes: small ones fill what is left at the end."""

SYSTEMS = ("tests/e2e/", "tests/chaos/", "tests/browser/test_system.py")
"""Where the tests are that run systems."""

AT_ONCE = 2
"""Systems that run at the same time, as long as there is something else to do."""


def room(nodeid: str) -> str:
    """Where a test takes place."""
    module = nodeid.partition("::")[0]
    return ROOMS.get(module, module)


def has_system(room_: str) -> bool:
    """Whether a system runs there."""
    return room_ in ROOMS.values() or room_.startswith(SYSTEMS)


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

    def _assign_work_unit(self, node: WorkerController) -> None:
        others = (units for other, units in self.assigned_work.items() if other is not node)
        systems = sum(any(map(_is_open, units.items())) for units in others)
        enough = systems >= AT_ONCE
        fitting = (each for each in self.workqueue if has_system(each) is not enough)
        self.workqueue.move_to_end(next(fitting, next(iter(self.workqueue))), last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        return room(nodeid)


def _is_open(unit: tuple[str, dict[str, bool]]) -> bool:
    """Whether it is a room with a system, and not all its tests are over."""
    where, done = unit
    return has_system(where) and not all(done.values())
