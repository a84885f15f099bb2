"""Processes that die between any two of: object, event, commit; by their own hand, exactly there.

In each wave one replica of every service dies once, at another point each, within one job: a death
seldom comes alone, and a wave costs hardly more than a single one.
"""

from functools import partial
from pathlib import Path

import pytest

from pixcrawler.miniweb.site import Site
from tests.e2e import checks
from tests.e2e.system import CHUNK_SIZE, System, mixed
from tests.e2e.waiting import until

POINTS = {
    # The outbox is relayed by the api or by a planner, whoever comes first.
    "any": (
        "before:job.created",  # the job is stored, its event is not published
        "after:job.created",  # it is published, and not marked as sent
        "before:job.planned",
        "after:job.planned",
    ),
    "api": ("after:transaction",),  # the job is stored, and whoever asked for it does not know
    "planner": (
        "before:chunk.planned",  # a slot is taken, nobody knows of it
        "after:chunk.planned",
        "before:commit",
        "before:result",  # about to give up
        "after:result",  # given up, and the row does not know
    ),
    "downloader": (
        "before:candidates",
        "after:candidates",
        "after:part",
        "after:chunk.downloaded",
        "before:commit",
    ),
    "validator": (
        "before:verdicts",  # images are claimed, and nothing else says so
        "after:verdicts",
        "after:chunk.validated",
        "before:commit",
        "after:commit",
    ),
    "uploader": (
        "after:archive",
        "after:result",
        "after:chunk.uploaded",
        "after:dataset",  # the index is there, and `job.finished` is not
        "after:job.finished",
    ),
    "tracker": (
        "before:tracker.events",
        "after:tracker.events",
        "after:tracker.changelog",
        "before:job.progress",  # the row is written, the event is not
        "before:commit",
    ),
}
WAVES = max(map(len, POINTS.values()))


@pytest.mark.parametrize("wave", range(WAVES))
def test_a_wave_of_deaths_harms_nothing(
    wave: int, system: System, small_web: Site, scattered_web: Site, tmp_path: Path
) -> None:
    """Every service dies at one of its points: the job ends as if nothing had happened."""
    points = [f"{service}.{of[wave]}" for service, of in POINTS.items() if wave < len(of)]
    hopeless = [url for url, true in small_web.truth.items() if true.outcome == "corrupt"]
    urls = [*hopeless[:CHUNK_SIZE], *mixed(scattered_web.truth, seed=10 + wave)]
    truth = {**scattered_web.truth, **{url: small_web.truth[url] for url in hopeless[:CHUNK_SIZE]}}
    restarts = system.restarts()

    system.arm(*points)
    job = system.create_from(urls)
    system.finish(job)
    for point in points:
        until(f"it has died at {point}", partial(system.died, point), deadline_s=20)
    system.wait_healthy()
    checks.all_well(system, job, truth, tmp_path)
    assert (system.restarts() - restarts).total() >= len(points)
