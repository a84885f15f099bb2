"""The database comes back from a backup that is older than the blobs; all topics are gone.

One data directory lives through both, in this order. Everything is stopped in between, as the
runbooks in `docs/operations.md` have it.
"""

import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pixcrawler.miniweb.site import Site
from pixcrawler.standalone.paths import Paths
from pixcrawler.standalone.postgres import package_directory
from tests.e2e import checks
from tests.e2e.system import (
    SERVICES,
    SETTINGS,
    STAGES,
    Json,
    System,
    inherited,
    mixed,
    running,
)
from tests.e2e.waiting import until
from tests.scratch import reachable_folder

FEW = 8
"""Candidates in a chunk."""

SMALL = {"PIXCRAWLER_RESOURCE_CHUNK_SIZE_IMAGES": str(FEW)}

SLOWLY = {
    "PIXCRAWLER_RESOURCE_MAX_CONCURRENT_CHUNKS": "3",
    "PIXCRAWLER_RESOURCE_RELEASE_INTERVAL_S": "0.4",
}
"""So that a job of many chunks and little priority is on its way for a while."""

FORGETFUL = {"PIXCRAWLER_CHUNK_DEADLINE_S": "4"}
"""Chunks whose events are gone are planned again at their deadline."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Of the system that all this happens to."""
    with reachable_folder() as path:
        yield path


@contextmanager
def up(folder: Path, web: Site, **settings: str) -> Iterator[System]:
    """The system as it is in its folder."""
    with running(
        {**web.env, **SMALL, **settings}, dict.fromkeys(STAGES, 1), folder=folder
    ) as system:
        yield system


def command(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """`pixcrawler …`, as the operator of this folder."""
    return subprocess.run(
        [sys.executable, "-m", "pixcrawler.client", *words],
        env={**inherited(), **SETTINGS, "PIXCRAWLER_DATA_DIR": str(folder / "data")},
        capture_output=True,
        check=False,
        text=True,
    )


@contextmanager
def bare(folder: Path) -> Iterator[None]:
    """Kafka and PostgreSQL alone."""
    done = command(folder, "up", "--bare", "--detach")
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        command(folder, "down")


def repair(folder: Path, *options: str) -> tuple[int, Json, str]:
    """`pixcrawler db repair --json`: exit code, what it printed, what it said."""
    done = command(folder, "db", "repair", "--json", *options)
    return done.returncode, json.loads(done.stdout or "{}"), " ".join(done.stderr.split())


def back_up(system: System, target: Path) -> None:
    """`pg_basebackup`, while everything works."""
    url = urlsplit(str(system.status().database_url).replace("+asyncpg", ""))
    subprocess.run(
        [
            *(package_directory() / "pginstall18" / "bin" / "pg_basebackup", "-D", target),
            *("-h", str(url.hostname), "-p", str(url.port), "-U", str(url.username)),
            *("--checkpoint=fast", "--wal-method=stream", "--no-sync"),
        ],
        env={**os.environ, "PGPASSWORD": str(url.password)},
        check=True,
        capture_output=True,
    )


def restore(folder: Path, backup: Path) -> None:
    """The database as it was, with the owner that it had."""
    cluster = Paths(folder / "data").postgres / "cluster"
    owner = cluster.stat()
    shutil.rmtree(cluster)
    shutil.move(backup, cluster)
    for path in (cluster, *cluster.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    cluster.chmod(0o700)


def rows_of(system: System, job: str) -> list[Any]:
    """What was decided about a job that has finished, as far as rows say it."""
    queries = (
        "SELECT round, facts, closed_at, cursors FROM job_rounds WHERE job_id = $1 ORDER BY 1",
        """SELECT sha256, phash, url, chunk_id, position FROM image_claims WHERE job_id = $1
           ORDER BY 1""",
        "SELECT chunk_id FROM chunk_claims WHERE job_id = $1 ORDER BY 1",
        """SELECT chunk_id, status, image_range, slices, retry_of, images, archive, exhausted
           FROM job_chunks WHERE job_id = $1 ORDER BY 1""",
        "SELECT round, kind, images, chunk_ids FROM job_requests WHERE job_id = $1 ORDER BY 1",
        "SELECT * FROM crawl_jobs WHERE job_id = $1",
    )
    return [[tuple(row) for row in system.rows(query, job)] for query in queries]


def decided(folder: Path) -> dict[str, bytes]:
    """How chunks ended and what was kept, and all archives: nothing of it may ever change."""
    blobs = folder / "data" / "blobs"
    kinds = ("result.json", "verdicts.jsonl", "candidates.jsonl", ".zip")
    return {
        str(path.relative_to(blobs)): path.read_bytes()
        for path in blobs.rglob("*")
        if path.name.endswith(kinds)
    }


@dataclass(frozen=True)
class Wishes:
    """Jobs before the disaster; `few` URLs are those of the one that was made after the backup.

    Attributes:
        extended: Finished before the backup, extended after it, and finished again.
        long: Not finished, neither at the backup nor at the end.
        cancelled: After the backup; as long, so that it has not finished until then.
        deleted: After the backup.
        made: After the backup; it finished.
    """

    few: list[str]
    wish: Json
    key: dict[str, str]
    extended: str
    long: str
    cancelled: str
    deleted: str
    made: str = ""


def before_the_backup(system: System, urls: Iterable[str]) -> Wishes:
    """Jobs in every state."""
    all_ = list(urls)
    few = mixed(all_, seed=41)[:FEW]
    extended = system.create_from(mixed(all_, seed=43), number=10)
    system.finish(extended)
    wishes = Wishes(
        few=few,
        wish={"urls": few, "max_images": len(few), "priority": 10},
        key={"Idempotency-Key": uuid.uuid4().hex},
        extended=extended,
        long=system.create_from(mixed(all_, seed=40), priority=0),
        cancelled=system.create_from(mixed(all_, seed=42), priority=0),
        deleted=system.create_from(few, start=False),
    )
    system.wait_ended(1, wishes.long)
    return wishes


def after_the_backup(system: System, jobs: Wishes) -> Wishes:
    """Work goes on: everything that can happen to a job."""
    ended = system.ended(jobs.long)
    made = str(system.api.post("/v1/jobs", jobs.wish, headers=jobs.key)["job_id"])
    system.api.post(f"/v1/jobs/{jobs.extended}/chunks", params={"max_images": 5})
    system.api.post(f"/v1/jobs/{jobs.cancelled}/cancel")
    system.api.delete(f"/v1/jobs/{jobs.deleted}")
    for job in (made, jobs.extended, jobs.cancelled):
        system.finish(job)
    system.wait_ended(ended + 1, jobs.long)
    return replace(jobs, made=made)


def repair_twice(folder: Path) -> dict[str, Json]:
    """What was mended, by job; a dry run says the same before, and nothing is left after."""
    with bare(folder):
        code, would, _ = repair(folder, "--dry-run")
        assert code == 0
        code, did, _ = repair(folder)
        assert code == 0
        assert did["jobs"] == would["jobs"]
        assert repair(folder)[:2] == (0, {"dry_run": False, "jobs": []})
    return {job["job_id"]: job for job in did["jobs"]}


def test_the_database_comes_back_from_a_backup(
    folder: Path, scattered_web: Site, tmp_path: Path
) -> None:
    """Work went on after it: jobs were made, extended, cancelled, deleted, chunks ended."""
    truth = scattered_web.truth
    with up(folder, scattered_web, **SLOWLY) as system:
        jobs = before_the_backup(system, truth)
        first = system.archives(jobs.extended)
        back_up(system, folder / "backup")
        jobs = after_the_backup(system, jobs)
        assert system.ended(jobs.long) < len(truth) / FEW
        code, _, said = repair(folder)
        assert code == 1
        assert "stop all services" in said
        rows = {job: rows_of(system, job) for job in (jobs.made, jobs.extended)}
        system.kill(*SERVICES, "postgres")
    was = decided(folder)
    restore(folder, folder / "backup")

    mended = repair_twice(folder)
    assert mended[jobs.made]["restored"]
    assert mended[jobs.extended]["advanced"]
    assert mended[jobs.cancelled]["cancelled"]
    assert mended[jobs.deleted]["deleted"]
    assert mended[jobs.long]["chunks_ended"] >= 1
    assert mended[jobs.long]["images_claimed"] >= 1

    with up(folder, scattered_web) as system:
        assert {job: rows_of(system, job) for job in rows} == rows
        assert system.api.post("/v1/jobs", jobs.wish, headers=jobs.key)["job_id"] == jobs.made
        for job in (jobs.long, jobs.made, jobs.extended):
            system.finish(job)
        assert system.finish(jobs.cancelled)["status"] == "cancelled"
        until("the deleted job is gone", lambda: system.missing(jobs.deleted))
        now = decided(folder)
        assert {name: now.get(name) for name in was} == was
        kept = system.archives(jobs.extended)
        assert {number: kept[number] for number in first} == first
        checks.all_well(system, jobs.long, truth, tmp_path / "long")
        checks.all_well(system, jobs.extended, truth, tmp_path / "extended", requested=15)
        few = {url: truth[url] for url in jobs.few}
        checks.as_the_truth_says(system, jobs.made, few, tmp_path / "made")
        for job in (jobs.made, jobs.cancelled):
            checks.adds_up(system, job)


def test_all_topics_are_gone(folder: Path, scattered_web: Site, tmp_path: Path) -> None:
    """The brokers come back empty in the middle of a job: no record, no offset, no table."""
    truth = scattered_web.truth
    few = mixed(truth, seed=46)[:FEW]
    with up(folder, scattered_web, **SLOWLY) as system:
        over = system.create_from(few, number=3)
        system.finish(over)
        job = system.create_from(mixed(truth, seed=45))
        waiting = system.create_from(few, priority=0)
        system.wait_ended(1, job)
        system.kill(*SERVICES, "kafka")
    was = decided(folder)
    ended = [name for name in was if name.endswith("result.json")]
    assert sum(job in name for name in ended) < len(truth) / FEW
    assert not [name for name in ended if waiting in name]
    shutil.rmtree(Paths(folder / "data").kafka)

    with up(folder, scattered_web, **FORGETFUL) as system:
        for each in (job, waiting):
            system.finish(each)
        assert system.job(over)["status"] == "completed"
        now = decided(folder)
        assert {name: now.get(name) for name in was} == was
        checks.all_well(system, job, truth, tmp_path / "job")
        expected = {url: truth[url] for url in few}
        checks.as_the_truth_says(system, waiting, expected, tmp_path / "waiting")
        checks.adds_up(system, waiting)
