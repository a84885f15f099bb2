"""Nothing stops for an upgrade: at work every replica is replaced by a next one, and back."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from deploy import migrations
from pixcrawler.common.db import migrate
from pixcrawler.miniweb import plans, site
from pixcrawler.miniweb.site import Site
from pixcrawler.standalone import Program
from tests.chaos import suffering
from tests.e2e import checks, nextversion
from tests.e2e.records import EVENTS
from tests.e2e.system import CHUNK_SIZE, SERVICES, STAGES, System, mixed, running
from tests.e2e.waiting import until

REPLICAS = 2
JOB_SIZE = 4 * CHUNK_SIZE
ORDER = ("validator", "uploader", "downloader", "planner", "tracker", "api")


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    """Photographs, and groups of equal and nearly equal ones."""
    with site.running(plans.scattered_duplicates_plan(photos=60, groups=18), seed=12) as started:
        yield started


@pytest.fixture
def upgradable(web: Site) -> Iterator[System]:
    """A system in which every program is of the version that a file beside the points asks for."""

    def programs(points: Path) -> tuple[Program, ...]:
        return tuple(
            Program(
                service=name,
                argv=(sys.executable, "-P", nextversion.__file__, name, str(points)),
            )
            for name in SERVICES
        )

    with running(web.env, dict.fromkeys(STAGES, REPLICAS), programs=programs) as system:
        system.wait_healthy()
        yield system


@pytest.fixture
def next_migrations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Today's migrations and the next version's two, as `migrate` finds them."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    head = max(path.name[1:5] for path in (folder / "versions").glob("v*.py"))
    nextversion.write_migrations(folder, head)
    monkeypatch.setattr(migrate, "MIGRATIONS", folder)
    return folder


class Rollout:
    """Replaces replicas, and keeps the stages busy meanwhile.

    Attributes:
        system: Where.
        web: What its jobs crawl.
        jobs: All that were made, by the project that they were made with.
    """

    def __init__(self, system: System, web: Site) -> None:
        self.system = system
        self.web = web
        self.jobs: dict[str, str] = {}
        self._urls = mixed(web.truth, seed=70)[:JOB_SIZE]

    def make_job(self) -> str:
        """One more job, with a project of its own."""
        project = f"project {len(self.jobs)}"
        job = self.system.create_from(self._urls, project_id=project)
        self.jobs[project] = job
        return job

    def replace(self, *, by_next: bool) -> None:
        """Every replica of everything, one after the other, while chunks are in hand."""
        for service in ORDER:
            for worker in sorted(self.system.processes(service)):
                self._keep_busy()
                self._answers_again(worker, self._stop(service, worker, by_next=by_next))

    def replace_at_once(self) -> None:
        """Every replica by the next version's, together: one by one is behind them."""
        stopped = {
            worker: self._stop(service, worker, by_next=True)
            for service in ORDER
            for worker in self.system.processes(service)
        }
        for worker, before in stopped.items():
            self._answers_again(worker, before)

    def _keep_busy(self) -> None:
        *_, last = self.jobs.values()
        if self.system.ended(last) >= JOB_SIZE // CHUNK_SIZE - 1:
            self.make_job()

    def _stop(self, service: str, worker: str, *, by_next: bool) -> int:
        """Tell which version is to come, and end the one that is there; its process."""
        said = self.system.points / f"{worker}.{nextversion.NEXT}"
        if by_next:
            said.touch()
        else:
            said.unlink()
        pid = self.system.processes(service)[worker]
        os.kill(pid, signal.SIGTERM)
        return pid

    def _answers_again(self, worker: str, before: int) -> None:
        until(
            f"another {worker} answers",
            lambda: any(
                part.name == worker and part.healthy and part.pid != before
                for part in self.system.status().components
            ),
            about=lambda: self.system.log(worker)[-2000:],
        )

    def finished(self, folder: Path) -> None:
        """All jobs are as the truth says, and found by their projects."""
        truth = {url: self.web.truth[url] for url in self._urls}
        for project, job in self.jobs.items():
            self.system.finish(job)
            checks.as_the_truth_says(self.system, job, truth, folder / job)
            checks.adds_up(self.system, job)
            [found] = self.system.api.pages("/v1/jobs", project_id=project)
            assert (found["job_id"], found["project_id"]) == (job, project)
        for job in self.jobs.values():
            checks.nothing_left(self.system, job)


def _ends(log: str) -> list[str]:
    """What a replica wrote before each end, as its starts tell them apart."""
    written = log.splitlines()
    starts = [number for number, line in enumerate(written) if "health and metrics" in line]
    return [line for start in starts for line in (*written[max(0, start - 12) : start], "...")]


@pytest.mark.usefixtures("next_migrations")
def test_a_rolling_upgrade_and_back(upgradable: System, web: Site, tmp_path: Path) -> None:
    """An added field, an added column, a renamed column in two steps: no job notices."""
    system = upgradable
    database = str(system.status().database_url)
    rollout = Rollout(system, web)
    rollout.make_job()
    system.work(migrate.upgrade(database, "9001"))
    rollout.replace(by_next=True)
    rollout.replace(by_next=False)
    rollout.make_job()
    rollout.finished(tmp_path / "back")
    back = len(rollout.jobs)

    rollout.replace_at_once()
    system.work(migrate.upgrade(database, "9002"))
    rollout.make_job()
    rollout.finished(tmp_path / "forth")

    restarts = system.restarts()
    expected = {"api": 3} | dict.fromkeys(STAGES, 3 * REPLICAS) | {"kafka": 0, "postgres": 0}
    for service in (name for name in expected if restarts[name] != expected[name]):
        for worker in system.processes(service):  # which of its ends was nobody's wish, and why
            print(worker, *_ends(system.log(worker)), sep="\n")  # noqa: T201
    assert restarts == expected
    rows = system.rows("SELECT name, project FROM crawl_jobs ORDER BY job_id")
    assert [row["project"] for row in rows] == list(rollout.jobs)
    admitted = system.rows("SELECT DISTINCT admitted_by FROM job_chunks")
    assert {row["admitted_by"] for row in admitted} == {None, "next"}
    said = [record.value or b"" for record in system.read(EVENTS)]
    newer = sum(suffering.ADDED.encode() in value for value in said)
    assert 0 < newer < len(said)
    assert back < len(rollout.jobs)


def test_the_linter_lets_the_next_version_s_migration_pass(next_migrations: Path) -> None:
    """What the test above proves to be harmless is what the linter takes for harmless."""
    path = next_migrations / "versions" / "v9001_expand.py"
    spec = spec_from_file_location("v9001_expand", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert list(migrations.findings(module)) == []
