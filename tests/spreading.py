"""How tests are spread over workers: by rooms, the longest first.

A room is a module, as with ``--dist loadfile``, or the modules of tests/e2e that share a system:
its sixteen processes take up to half a core even while nothing is to be done. So few of them run at
once, from the beginning on, and each ends with its room. The other workers (`JOBS` of the Makefile)
take what needs none.
"""

from pathlib import PurePath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

SHARED = "tests/e2e/shared/"
"""Modules that share a system: so much that two workers take them, each with one of its own."""

DEATHS = ("test_deaths.py", "test_load.py", "test_sdk.py", "test_traces.py")
"""Those of them that are a room; all others are the other one, which is longer."""

ROOMS = ("jobs", "deaths")

PAGE = "tests/browser/"
"""The page's modules are a room too: they share a Chromium."""

LONG = (
    *ROOMS,
    "tests/chaos/test_chaos.py",
    "tests/e2e/test_upgrade.py",
    "tests/e2e/test_disaster.py",
    "tests/integration/common/test_load.py",
    "tests/integration/deploy/test_manifests.py",
    "tests/integration/standalone/test_supervisor.py",
    "tests/integration/standalone/test_kafka.py",
    "tests/integration/common/test_service.py",
    "tests/integration/common/test_bad_records.py",
    "tests/integration/api/test_contract.py",
    "tests/integration/client/test_dead_letters.py",
    "tests/integration/tracker/test_tracker.py",
)
"""Rooms that take most of a minute or more begin first: none of them is alone at the end."""

ORDER = ("chaos", "e2e", "browser", "integration", "model", "unit")
"""By how long one test takes: small ones fill what is left at the end."""

WITH_SYSTEMS = frozenset({"chaos", "e2e"})
AT_ONCE = 2
"""Workers that begin with systems. Three keep two cores no busier: their tests take half as long
again."""


def room(nodeid: str) -> str:
    """Where a test takes place."""
    module = nodeid.partition("::")[0]
    if module.startswith(PAGE):
        return PAGE
    if not module.startswith(SHARED):
        return module
    return "deaths" if module.removeprefix(SHARED) in DEATHS else "jobs"


def kind(room: str) -> str:
    """One of `ORDER`."""
    return "e2e" if room in ROOMS else PurePath(room).parts[1]


def first_things_first(items: list[pytest.Item]) -> None:
    """Systems, then by `ORDER`, `LONG` rooms before others; a room's beside each other."""

    def rank(item: pytest.Item) -> tuple[int, int, int]:
        where = room(item.nodeid)
        of = ORDER.index(kind(where))
        first = 0 if kind(where) in WITH_SYSTEMS else of
        return first, LONG.index(where) if where in LONG else len(LONG), of

    items.sort(key=rank)


class ByRoom(LoadScopeScheduling):  # type: ignore[misc] # it is untyped
    """Gives a worker one room after the other, in the order of the tests.

    `AT_ONCE` workers begin with those that have systems; the others take what needs none, from the
    end, and nobody stands still as long as there is anything.
    """

    def __init__(self, config: pytest.Config, log: object) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return room(nodeid)

    def _assign_work_unit(self, node: Any) -> None:
        if not self.workqueue:
            return
        first, last = next(iter(self.workqueue)), next(reversed(self.workqueue))
        if kind(first) in WITH_SYSTEMS and node not in self.nodes[:AT_ONCE]:
            self.workqueue.move_to_end(last, last=False)
        super()._assign_work_unit(node)
