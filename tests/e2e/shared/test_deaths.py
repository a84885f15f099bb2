"""Processes that die at every fail point there is, by their own hand, exactly there.

A wave is one job, or two at once, in which every service dies at several of its points, another
replica or the one that was started anew each time: a death seldom comes alone, and a wave costs
hardly more than a single one. In the end each job is as if nothing had happened.
"""

import functools
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from pixcrawler.client.errors import ApiError
from pixcrawler.common import events, names, topics
from pixcrawler.common.events import ChunkValidated, ImageTotals
from pixcrawler.common.failpoints import ANY, POINTS
from pixcrawler.common.ids import chunk_id
from pixcrawler.miniweb.site import Site
from pixcrawler.miniweb.truth import Truth
from tests.e2e import checks
from tests.e2e.records import Raw
from tests.e2e.system import CHUNK_SIZE, System
from tests.e2e.waiting import until
from tests.integration.api.test_deaths import ALONE

MOST = 6
"""Deaths of one service in a wave: three of each replica, one after the other."""


def around(service: str, *effects: str) -> tuple[str, ...]:
    """Before and after these."""
    return tuple(f"{service}.{when}:{effect}" for effect in effects for when in ("before", "after"))


WISH = {"resize_mode": "keep_ratio", "image_size": 8192, "resize_only_if_bigger": True}
"""A wish that goes through all of transforming and finds nothing to change: bytes are as found."""

ALL = frozenset(f"{service}.{point}" for service, points in POINTS.items() for point in points)

ROUNDS = frozenset(
    (
        *around("api", "start", "extend", "retry", "retry_chunk", "cancel", "delete"),
        *around(ANY, topics.JOB_CANCELLED),
        *around("uploader", "erase"),
    )
)
"""What happens when a job goes on after its first round, is cancelled, or deleted."""

TROUBLE = frozenset(
    (
        *around("planner", "wait_again", "take_back"),
        *around("downloader", topics.CHUNK_FAILED),
        *around("uploader", topics.CHUNK_FAILED, "discard"),
    )
)
"""What happens when an attempt fails, a chunk is silent, or an event comes too late."""

LETTERS = frozenset(
    point for stage in topics.CONSUMERS for point in around(stage, topics.dead_letters(stage))
)
"""What happens to a record that nobody can read."""


def _waves(points: Iterable[str]) -> list[tuple[str, ...]]:
    """All points: at most `MOST` of each service in a wave, and those from all over its work."""
    by_service: dict[str, list[str]] = {}
    for point in sorted(points, key=_in_order):
        by_service.setdefault(point.partition(".")[0], []).append(point)
    number = -(-max(map(len, by_service.values())) // MOST)
    return [
        tuple(point for of in by_service.values() for point in of[wave::number])
        for wave in range(number)
    ]


def _in_order(point: str) -> int:
    service, _, what = point.partition(".")
    return POINTS[service].index(what)


WAVES = _waves(ALL - ROUNDS - TROUBLE - LETTERS - ALONE)


class Quiet(NamedTuple):
    """A job in which nobody dies: its URLs, what they truly are, and what came of them."""

    urls: Sequence[str]
    truth: Mapping[str, Truth]
    archives: Mapping[int, str]


@pytest.fixture(scope="module")
def quiet(shared_system: System, small_web: Site, paired_web: Site) -> Quiet:
    """A chunk in which nothing is an image, then chunks whose duplicates lie within them."""
    hopeless = [url for url, true in small_web.truth.items() if true.outcome == "corrupt"]
    urls = [*hopeless[:CHUNK_SIZE], *paired_web.truth]
    truth = {**small_web.truth, **paired_web.truth}
    job = shared_system.create_from(urls, options=WISH)
    shared_system.finish(job)
    archives = shared_system.archives(job)
    assert len(archives) == len(urls) // CHUNK_SIZE - 1
    return Quiet(urls, {url: truth[url] for url in urls}, archives)


@pytest.fixture(autouse=True)
def listed(system: System) -> Iterator[None]:
    """Nobody gets to a fail point that is in no list."""
    yield
    assert system.unlisted() == []


def test_every_point_has_its_wave() -> None:
    """The tables below are the list of all points, each once."""
    tables = (ROUNDS, TROUBLE, LETTERS, ALONE, *map(frozenset, WAVES))
    assert sum(map(len, tables)) == len(ALL)
    assert frozenset().union(*tables) == ALL


@pytest.mark.parametrize("wave", range(len(WAVES)))
def test_a_wave_of_deaths_harms_nothing(
    wave: int, system: System, quiet: Quiet, tmp_path: Path
) -> None:
    """Every service dies at some of its points: the jobs end with the bytes of a quiet run."""
    system.arm(*WAVES[wave])
    jobs = [system.create_from(quiet.urls, options=WISH) for _ in range(2)]
    for job in jobs:
        system.finish(job)
    all_died(system, WAVES[wave])
    for number, job in enumerate(jobs):
        as_quiet(system, job, quiet, tmp_path / str(number))


def test_deaths_when_attempts_fail(system: System, quiet: Quiet, tmp_path: Path) -> None:
    """A broken part, an event that comes too early or too late, and chunks that are silent."""
    job = system.create_from(quiet.urls, start=False, options=WISH)
    broken = system.blobs / names.part(chunk_id(job, 1), 0)
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not a part")
    system.arm(*TROUBLE)
    system.publish([validated(job, 2)])  # too early: its input is not there
    all_died(system, around("uploader", topics.CHUNK_FAILED))

    system.api.post(f"/v1/jobs/{job}/start")
    until("it fails, and is silent", lambda: _fails_and_is_silent(system, job), about=system.armed)
    broken.unlink()
    system.finish(job)
    system.publish([validated(job, 0)])  # too late: the chunk has failed
    all_died(system, TROUBLE)
    as_quiet(system, job, quiet, tmp_path)


def _fails_and_is_silent(system: System, job: str) -> bool:
    """Let the planner believe that chunks are silent, until everyone has died of everything."""
    system.rows(
        """UPDATE job_chunks SET last_seen_at = now() - interval '1 day'
           WHERE job_id = $1 AND status = 'processing' AND attempt < 3""",
        job,
    )
    points = (
        *around("downloader", topics.CHUNK_FAILED),
        *around("planner", "wait_again", "take_back"),
    )
    return all(map(system.died, points))


def test_deaths_between_rounds(system: System, quiet: Quiet, tmp_path: Path) -> None:
    """The api dies before each of its transactions, and asked again after it: it is done once."""
    good = [url for url, true in quiet.truth.items() if true.kind == "photo"]
    urls = [*quiet.urls[:CHUNK_SIZE], *good]
    truth = {url: quiet.truth[url] for url in urls}
    job = system.create_from(urls, number=CHUNK_SIZE, start=False)
    dies_when(system, "start", lambda: system.api.post(f"/v1/jobs/{job}/start"))
    system.finish(job)
    dies_when(system, "retry_chunk", lambda: system.api.post(f"/v1/jobs/{job}/chunks/0/retry"))
    system.finish(job)
    dies_when(system, "retry", lambda: system.api.post(f"/v1/jobs/{job}/retry"))
    system.finish(job)
    more = functools.partial(
        system.api.post,
        f"/v1/jobs/{job}/chunks",
        params={"max_images": 7},
        headers={"Idempotency-Key": uuid.uuid4().hex},
    )
    dies_when(system, "extend", more)
    system.finish(job)
    checks.all_well(system, job, truth, tmp_path, requested=CHUNK_SIZE + 7)


def test_deaths_around_the_end_of_jobs(system: System, quiet: Quiet) -> None:
    """The api dies before and after cancelling and deleting; the relay and the uploader, too."""
    # The cancelling is lost at first: the job must not end before it is asked for again.
    waiting = system.create_from(quiet.urls, start=False)
    running = system.create_from(quiet.urls)
    system.wait_ended(1, running)
    system.arm(f"{ANY}.before:{topics.JOB_CANCELLED}", f"{ANY}.after:{topics.JOB_CANCELLED}")
    system.api.post(f"/v1/jobs/{running}/cancel")
    dies_when(system, "cancel", lambda: system.api.post(f"/v1/jobs/{waiting}/cancel"))
    all_died(system, around(ANY, topics.JOB_CANCELLED))
    for job in (waiting, running):
        assert system.finish(job)["status"] == "cancelled"
        checks.nothing_left(system, job)
        checks.adds_up(system, job)

    system.arm(*around("uploader", "erase"))
    dies_when(system, "delete", lambda: system.api.delete(f"/v1/jobs/{running}"))
    system.api.delete(f"/v1/jobs/{waiting}")
    all_died(system, around("uploader", "erase"))
    for job in (waiting, running):
        assert system.missing(job)
        until("its objects are gone", lambda job=job: not system.names(f"jobs/{job}/"))  # type: ignore[misc]
        checks.nothing_left(system, job)


def test_deaths_around_dead_letters(system: System, quiet: Quiet, tmp_path: Path) -> None:
    """Every stage dies before and after its letter is written: each is there, and work goes on."""
    job = system.create_from(quiet.urls[: 2 * CHUNK_SIZE])
    system.arm(*LETTERS)
    read = (topics.JOB_CREATED, topics.CHUNK_PLANNED, topics.CHUNK_DOWNLOADED, topics.JOB_FINISHED)
    system.publish(
        [Raw(name, 0, 0, b"unreadable", b"{", ()) for name in (*read, topics.CHUNK_VALIDATED)]
    )
    all_died(system, LETTERS)
    system.finish(job)
    truth = {url: quiet.truth[url] for url in quiet.urls[: 2 * CHUNK_SIZE]}
    checks.as_the_truth_says(system, job, truth, tmp_path)
    checks.adds_up(system, job)
    until("nobody is behind", lambda: not +system.lag())
    for stage in topics.CONSUMERS:
        letters = system.read([topics.dead_letters(stage)])
        assert {letter.value for letter in letters} == {b"{"}, stage
    system.forget([topics.dead_letters(stage) for stage in topics.CONSUMERS])


def validated(job: str, index: int) -> Raw:
    """An event of a chunk, as the validator would tell it."""
    fact = ChunkValidated(chunk_id=chunk_id(job, index), attempt=1, images=ImageTotals())
    record = events.encode(fact, source="/test", traceparent="")
    return Raw(record.topic, 0, 0, record.key or b"", record.value, record.headers)


def dies_when(system: System, what: str, ask: Callable[[], object]) -> None:
    """Ask for what the api dies before and, asked again, after; at last it repeats or refuses."""
    points = around("api", what)
    system.arm(*points)
    with suppress(ApiError):
        ask()
    all_died(system, points)


def all_died(system: System, points: Iterable[str]) -> None:
    """Wait until a process has died at each of these."""
    until(
        "somebody dies at every point",
        lambda: all(map(system.died, points)),
        about=system.armed,
    )


def as_quiet(system: System, job: str, quiet: Quiet, folder: Path) -> None:
    """The job is as the truth says, and its archives have the bytes of the quiet run."""
    system.wait_healthy()
    checks.all_well(system, job, quiet.truth, folder)
    assert system.archives(job) == quiet.archives
