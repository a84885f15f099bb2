"""One system for all tests here, two replicas of every stage.

Each leaves it as it found it; it ends with the package's tests (see `tests.spreading`).
"""

from collections.abc import Iterator

import pytest

from pixcrawler.miniweb.site import Site
from tests import pooler
from tests.e2e.system import STAGES, System, running

REPLICAS = 2
LONGEST_PAUSE_S = 0.25
"""Before a replica that died is started anew: here they die again and again, and on purpose."""


@pytest.fixture(scope="package")
def shared_system(small_web: Site) -> Iterator[System]:
    """The system; its searches are those of the small web, its database is behind a pooler."""
    scale = dict.fromkeys(STAGES, REPLICAS)
    with running(
        small_web.env, scale, pooler=pooler.is_there(), longest_pause_s=LONGEST_PAUSE_S
    ) as system:
        yield system


@pytest.fixture
def system(shared_system: System) -> Iterator[System]:
    """The system, with everything running and nobody about to die."""
    shared_system.wait_healthy()
    yield shared_system
    shared_system.disarm()
