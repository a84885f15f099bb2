"""The webs that systems crawl here."""

from collections.abc import Iterator

import pytest

from pixcrawler.miniweb import names, plans, site
from pixcrawler.miniweb.site import Site


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
