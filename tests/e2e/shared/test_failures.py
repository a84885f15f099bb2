"""Failure, recovery and the end of jobs that nobody wants any more, as users see them."""

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pixcrawler.common import ids, names
from pixcrawler.common.documents import Verdict, Verdicts, VerdictsHead
from pixcrawler.common.events import ImageTotals
from pixcrawler.common.outcomes import Outcome
from pixcrawler.miniweb import site
from pixcrawler.miniweb.plans import Plan
from pixcrawler.miniweb.site import Site
from tests.e2e import checks
from tests.e2e.shared.test_command import COMMAND, pixcrawler
from tests.e2e.shared.test_pauses import let_pass, paused
from tests.e2e.shared.test_rounds import TABLES
from tests.e2e.system import CHUNK_SIZE, SESSION_TIMEOUT_S, Json, System, mixed
from tests.e2e.waiting import until

TRIES = 4
"""PIXCRAWLER_CHUNK_MAX_RETRIES is 3 as it comes."""

STOPPED_S = 5.0
"""Within this time nobody works for a job that was cancelled or deleted."""


@pytest.fixture(scope="module")
def slow_web() -> Iterator[Site]:
    """Pages that drip until their time is up, so that there is work in hand; and photographs."""
    plan = Plan((("photo", 2 * CHUNK_SIZE), ("drip", 6 * CHUNK_SIZE)))
    with site.running(plan, seed=10) as web:
        yield web


def pages(web: Site, kind: str) -> list[str]:
    """The URLs of a kind."""
    return [url for url, true in web.truth.items() if true.kind == kind]


# ---- retries


def test_stages_out_of_retries(system: System, scattered_web: Site, tmp_path: Path) -> None:
    """Each stage fails a chunk until it is given up: every attempt has its reason, the job ends
    incomplete with what there is, and a retry of one chunk, then of all, makes it whole."""
    urls = mixed(scattered_web.truth, seed=60)[: 4 * CHUNK_SIZE]
    truth = {url: scattered_web.truth[url] for url in urls}
    job = system.create_from(urls, start=False)
    stages = {1: "downloader", 2: "validator", 3: "uploader"}
    _damage_a_part(system, ids.chunk_id(job, 1))
    _invent_verdicts(system, ids.chunk_id(job, 3), urls[3 * CHUNK_SIZE :])
    with _refused_claims(system, ids.chunk_id(job, 2)):
        system.api.post(f"/v1/jobs/{job}/start", {})
        assert system.finish(job)["status"] == "incomplete"
    chunks = {chunk["index"]: chunk for chunk in system.chunks(job)}
    assert {i: c["status"] for i, c in chunks.items()} == {
        0: "completed",
        **dict.fromkeys(stages, "failed"),
    }
    for index, stage in stages.items():
        _has_its_reasons(chunks[index], stage)
    said = Counter(record.key.decode() for record in system.read(["chunk.failed"], job))
    assert said == {chunks[index]["chunk_id"]: TRIES for index in stages}
    assert Counter(row["outcome"] for row in system.outcomes(job))["failed"] == 3 * CHUNK_SIZE
    checks.nothing_left(system, job)
    checks.adds_up(system, job)
    _shown_by_the_command(system, job, stages)

    again = system.api.post(f"/v1/jobs/{job}/chunks/1/retry", {})
    assert again["status"] == "failed"
    until("the chunk is retried", lambda: _superseded(system, job) == {1})
    assert system.finish(job)["status"] == "incomplete"
    told = system.command_environment()
    assert pixcrawler(told, "jobs", "retry", job).document["round"] == 3
    assert pixcrawler(told, "jobs", "watch", job).code == 3  # duplicates: less than was asked for
    assert _superseded(system, job) == set(stages)
    checks.all_well(system, job, truth, tmp_path)
    refused = pixcrawler(told, "jobs", "retry", job)
    assert (refused.code, "no chunk of this job has failed" in refused.notes) == (1, True)


def _damage_a_part(system: System, chunk: str) -> None:
    """What the downloader finds of an earlier attempt cannot be read."""
    part = system.blobs / names.part(chunk, 0)
    part.parent.mkdir(parents=True)
    part.write_bytes(b"no tar at all" * 1000)


def _invent_verdicts(system: System, chunk: str, urls: Sequence[str]) -> None:
    """What the uploader is told to pack is not in the parts."""
    items = tuple(
        Verdict(position=n, url=url, outcome=Outcome.KEPT, sha256=f"{n:064x}", format="jpeg")
        for n, url in enumerate(urls)
    )
    head = VerdictsHead(
        chunk_id=chunk, images=ImageTotals(candidates=len(items)), valid_images=len(items)
    )
    path = system.blobs / names.verdicts(chunk)
    path.parent.mkdir(parents=True)
    path.write_bytes(Verdicts(head=head, items=items).dump())


@contextmanager
def _refused_claims(system: System, chunk: str) -> Iterator[None]:
    """The validator's transaction for this chunk fails."""
    system.rows(f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.chunk_id = '{chunk}' THEN RAISE EXCEPTION 'refused by the test'; END IF;
            RETURN NEW;
        END $$""")
    system.rows("""
        CREATE TRIGGER refuse BEFORE INSERT ON chunk_claims
        FOR EACH ROW EXECUTE FUNCTION refuse()""")
    try:
        yield
    finally:
        system.rows("DROP FUNCTION refuse CASCADE")


def _has_its_reasons(chunk: Json, stage: str) -> None:
    """Every attempt failed at this stage, and says on which replica and why."""
    failed = [step for step in chunk["attempts"] if step["state"] == "failed"]
    assert [(s["attempt"], s["stage"]) for s in failed] == [
        (number, stage) for number in range(1, TRIES + 1)
    ]
    for step in failed:
        assert step["error"], step
        assert step["message"], step
        assert step["worker"].startswith(stage), step
        assert step["ended_at"] >= step["started_at"]
    assert (chunk["attempt"], chunk["retry_count"], chunk["stage"]) == (TRIES, TRIES - 1, stage)
    assert chunk["error_message"].startswith(failed[-1]["message"])  # which may be shortened


def _shown_by_the_command(system: System, job: str, stages: dict[int, str]) -> None:
    """`chunks JOB` tells the same to machines and to people."""
    told = system.command_environment()
    shown = pixcrawler(told, "chunks", job, "--status", "failed").document["items"]
    assert shown == [chunk for chunk in system.chunks(job) if chunk["index"] in stages]
    done = subprocess.run(
        [COMMAND, "chunks", job], env=told, capture_output=True, text=True, timeout=60, check=True
    )
    for index, stage in stages.items():
        for number in range(1, TRIES + 1):
            assert f"chunk {index}, attempt {number}, {stage} ({stage}-" in done.stdout


def _superseded(system: System, job: str) -> set[int]:
    return {chunk["index"] for chunk in system.chunks(job) if chunk["superseded"]}


# ---- deadlines


@pytest.mark.parametrize("silent_s", [0.0, SESSION_TIMEOUT_S + 2], ids=["awake", "zombie"])
def test_a_chunk_past_its_deadline(
    system: System, slow_web: Site, tmp_path: Path, silent_s: float
) -> None:
    """Chunks whose downloaders are silent are planned again; whether the first attempt then goes
    on where it was, or wakes up as a zombie, the job ends as the truth says."""
    urls = mixed([*pages(slow_web, "photo"), *pages(slow_web, "drip")[: 2 * CHUNK_SIZE]], seed=61)
    truth = {url: slow_web.truth[url] for url in urls}
    slow_web.reset()
    job = system.create_from(urls)
    dripping = set(pages(slow_web, "drip"))
    until("there is work in hand", lambda: dripping & slow_web.state()["hits"].keys())
    with paused(system.pids("downloader")):
        until("silent chunks are planned again", lambda: _silent_for_long(system, job))
        let_pass(silent_s)
    system.finish(job)
    checks.all_well(system, job, truth, tmp_path)
    taken = _taken_back(system, job)
    assert taken
    for chunk in taken:
        assert (chunk["retry_count"], chunk["status"]) == (0, "completed")
        steps = [s["state"] for s in chunk["attempts"] if s["stage"] == "downloader"]
        assert steps == [*["lost"] * (chunk["attempt"] - 1), "done"]
    system.wait_healthy()


def _silent_for_long(system: System, job: str) -> list[Json]:
    """Let the last signs of life be long ago, though some are on their way; who was taken back."""
    system.rows(
        """
        UPDATE job_chunks SET last_seen_at = now() - interval '1 day'
        WHERE job_id = $1 AND status = 'processing' AND takebacks = 0""",
        job,
    )
    return _taken_back(system, job)


def _taken_back(system: System, job: str) -> list[Json]:
    return [chunk for chunk in system.chunks(job) if chunk["attempt"] > 1]


# ---- cancelled and deleted


@dataclass
class Watch:
    """Looks again and again for fetches from a web and for objects of a job.

    Attributes:
        web: Where it is fetched from.
        folders: Where the job's work appears.
        fetched_at: When the last fetch began, as far as was seen.
        created_at: When the last object appeared.
    """

    web: Site
    folders: Sequence[Path]
    fetched_at: float = 0.0
    created_at: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look as long as the context lasts."""
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _look(self) -> None:
        fetches, objects = 0, set[Path]()
        while not self._over.wait(0.02):
            now = sum(self.web.state()["hits"].values())
            if now > fetches:
                fetches, self.fetched_at = now, time.monotonic()
            there = {path for folder in self.folders for path in folder.rglob("*")}
            if there - objects:
                objects |= there
                self.created_at = time.monotonic()


MOMENTS: dict[str, Callable[[System, Site, str], bool]] = {
    "at once": lambda _system, _web, _job: True,
    "fetching": lambda _system, web, _job: len(web.state()["hits"]) > CHUNK_SIZE,
    "a chunk has ended": lambda system, _web, job: system.ended(job) > 0,
}


@pytest.mark.parametrize("action", ["cancel", "delete"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_work_stops_within_seconds(
    system: System, slow_web: Site, action: str, moment: str
) -> None:
    """Whenever a job is cancelled or deleted, soon nothing is fetched or made for it, and no
    staging, slot or lag is left; of a deleted one nothing at all."""
    urls = [*pages(slow_web, "photo")[:CHUNK_SIZE], *pages(slow_web, "drip")]
    slow_web.reset()
    job = system.create_from(urls)
    until(moment, lambda: MOMENTS[moment](system, slow_web, job))
    # What ends the job, its results and the index, is made by those who stop the work.
    folders = [system.blobs / "staging" / job, system.blobs / "datasets" / job]
    watch = Watch(slow_web, folders)
    with watch.looking():
        if action == "cancel":
            system.api.post(f"/v1/jobs/{job}/cancel")
        else:
            system.api.delete(f"/v1/jobs/{job}")
        began = time.monotonic()
        if action == "cancel":
            assert system.finish(job)["status"] == "cancelled"
        checks.nothing_left(system, job)
        over = time.monotonic()
        if moment == "fetching":
            let_pass(began + STOPPED_S + 1 - over)  # what drips now would be followed by more
    fetched, created = max(watch.fetched_at - began, 0), max(watch.created_at - began, 0)
    assert max(fetched, created) < STOPPED_S, (fetched, created, over - began)
    if action == "cancel":
        checks.adds_up(system, job)
    else:
        until(
            "nothing of it is left",
            lambda: not _left(system, job),
            about=lambda: _left(system, job),
        )


def _left(system: System, job: str) -> dict[str, int]:
    """Rows and objects of a job, where there are any."""
    rows = {table: system.count(table, job) for table in TABLES}
    blobs = {p: len(system.objects(f"{p}/{job}")) for p in ("jobs", "staging", "datasets")}
    return {name: number for name, number in (rows | blobs).items() if number}
