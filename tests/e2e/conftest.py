"""One system for all that share it, two replicas of every stage, and the webs that it crawls.

It ends with the package's tests (see `tests.spreading`).
"""

from collections.abc import Iterator

import pytest

from pixcrawler.miniweb import names, plans, site
from pixcrawler.miniweb.site import Site
from tests import pooler
from tests.e2e.system import STAGES, System, running

REPLICAS = 2


@pytest.fixture(scope="package")
def small_web() -> Iterator[Site]:
    """Every kind of page once, some photographs."""
    with site.running(plans.small_plan(names.private_names()), seed=7) as web:
        yield web


@pytest.fixture(scope="package")
def scattered_web() -> Iterator[Site]:
    """Photographs, and groups of equal and nearly equal ones."""
    with site.running(plans.scattered_duplicates_plan(photos=60, groups=18), seed=8) as web:
        yield web


@pytest.fixture(scope="package")
def paired_web() -> Iterator[Site]:
    """Photographs, and pairs whose members stand side by side."""
    with site.running(plans.within_chunk_duplicates_plan(photos=80, pairs=20), seed=9) as web:
        yield web


@pytest.fixture(scope="package")
def shared_system(small_web: Site) -> Iterator[System]:
    """The system; its searches are those of the small web, its database is behind a pooler."""
    scale = dict.fromkeys(STAGES, REPLICAS)
    with running(small_web.env, scale, pooler=pooler.is_there()) as system:
        yield system


@pytest.fixture
def system(shared_system: System) -> Iterator[System]:
    """The system, with everything running and nobody about to die."""
    shared_system.wait_healthy()
    yield shared_system
    shared_system.disarm()
