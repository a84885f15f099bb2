"""The same event twice, at the same time, in any order, during a job and after it."""

from pathlib import Path

from pixcrawler.miniweb.site import Site
from tests.e2e import checks
from tests.e2e.records import EVENTS, shuffled
from tests.e2e.system import System, mixed


def test_every_topic_published_again_during_a_job(
    system: System, scattered_web: Site, tmp_path: Path
) -> None:
    """All that was said so far is said again, shuffled, to every replica at once, twice over."""
    job = system.create_from(mixed(scattered_web.truth, seed=5))
    again = 0
    for ended in (0, 1, 4):
        system.wait_ended(ended, job)
        said = system.read(EVENTS, job)
        system.publish(shuffled(said, seed=ended), spread=ended != 4)
        again += len(said)
    assert again > 20
    system.finish(job)
    checks.all_well(system, job, scattered_web.truth, tmp_path)


def test_every_topic_published_again_after_a_job(
    system: System, scattered_web: Site, tmp_path: Path
) -> None:
    """Nothing changes: no object, no byte of an archive, no progress, no second `job.finished`."""
    number = scattered_web.supply - 5
    job = system.create_from(mixed(scattered_web.truth, seed=6), number=number)
    system.finish(job)
    checks.all_well(system, job, scattered_web.truth, tmp_path / "1", requested=number)
    objects = system.objects(f"jobs/{job}") | system.objects(f"datasets/{job}")
    progress, chunks = system.progress(job), system.chunks(job)
    rounds = system.rows("SELECT * FROM job_rounds WHERE job_id = $1", job)
    assert objects

    said = system.read(EVENTS, job)
    system.publish(shuffled(said))
    system.publish(shuffled(said, seed=2), spread=True)
    checks.nothing_left(system, job)
    checks.adds_up(system, job)

    after = system.objects(f"jobs/{job}") | system.objects(f"datasets/{job}")
    assert sorted(after) == sorted(objects)
    assert after == objects
    assert _without_clock(system.progress(job)) == _without_clock(progress)
    assert system.chunks(job) == chunks
    assert system.rows("SELECT * FROM job_rounds WHERE job_id = $1", job) == rounds


def _without_clock(progress: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in progress.items() if name != "updated_at"}
