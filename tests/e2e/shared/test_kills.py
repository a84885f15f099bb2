"""SIGKILL in the middle of a job: each stage, all of them at once, Kafka, PostgreSQL."""

from pathlib import Path

import pytest

from pixcrawler.miniweb.site import Site
from tests.e2e import checks
from tests.e2e.system import CHUNK_SIZE, SERVICES, System, mixed
from tests.e2e.waiting import until

VICTIMS = [
    ("api", "uploader"),
    ("planner", "validator"),
    ("downloader", "tracker"),
    SERVICES,
    ("kafka",),
    ("postgres",),
]
"""Each service with one that it never waits for, and that never waits for it."""


@pytest.mark.parametrize("victims", VICTIMS, ids="+".join)
def test_killed_in_the_middle_of_a_job(
    victims: tuple[str, ...], system: System, scattered_web: Site, tmp_path: Path
) -> None:
    """Every replica of it is killed once the job is on its way: the job ends as if nothing was."""
    restarts = system.restarts()
    job = system.create_from(mixed(scattered_web.truth, seed=20))
    system.wait_ended(1, job)
    killed = system.kill(*victims)
    assert len(killed) >= len(victims)
    assert system.ended(job) < len(scattered_web.truth) / CHUNK_SIZE
    system.finish(job)
    system.wait_healthy()
    checks.all_well(system, job, scattered_web.truth, tmp_path)
    counted = system.restarts() - restarts
    assert {name for name in victims if counted[name]} == set(victims)


def test_the_tracker_is_killed_again_and_again_under_load(
    system: System, scattered_web: Site, tmp_path: Path
) -> None:
    """Several jobs at once, three kills: what is shown in the end is exactly what has happened."""
    jobs = [system.create_from(mixed(scattered_web.truth, seed=30 + n)) for n in range(4)]
    for ended in (1, 8, 16):
        system.wait_ended(ended, *jobs)
        until("a tracker runs", lambda: system.kill("tracker"))
    for number, job in enumerate(jobs):
        system.finish(job)
        checks.as_the_truth_says(system, job, scattered_web.truth, tmp_path / str(number))
    for job in jobs:
        checks.nothing_left(system, job)
        checks.adds_up(system, job)


def test_bytes_are_the_same_as_in_a_quiet_run(system: System, paired_web: Site) -> None:
    """Duplicates within chunks only, no surplus: kills and pauses do not show in any archive."""
    urls = list(paired_web.truth)
    quiet = system.create_from(urls)
    system.finish(quiet)
    checks.adds_up(system, quiet)
    assert len(system.archives(quiet)) == len(urls) // CHUNK_SIZE

    troubled = system.create_from(urls)
    for number, stages in enumerate((("planner", "downloader"), ("validator",), ("uploader",))):
        system.wait_ended(number, troubled)
        system.kill(*stages)
    system.finish(troubled)
    checks.nothing_left(system, troubled)
    checks.adds_up(system, troubled)
    assert system.archives(troubled) == system.archives(quiet)
    assert _outcomes(system, troubled) == _outcomes(system, quiet)


def _outcomes(system: System, job: str) -> list[tuple[str, str, str, str]]:
    """What became of every URL, in an order that does not depend on the job."""
    fields = ("url", "outcome", "sha256", "duplicate_of")
    return sorted(
        tuple(str(row[name]) for name in fields)  # type: ignore[misc]
        for row in system.outcomes(job)
    )
