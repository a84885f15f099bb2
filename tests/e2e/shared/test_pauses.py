"""Processes that are paused for longer than Kafka waits for them, and replicas that come late."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil
import pytest

from pixcrawler.miniweb.site import Site
from pixcrawler.standalone.ports import free_ports
from tests.e2e import checks
from tests.e2e.system import CHUNK_SIZE, SESSION_TIMEOUT_S, STAGES, System, mixed
from tests.e2e.waiting import until

LONGER_S = SESSION_TIMEOUT_S + 2


@contextmanager
def paused(pids: Sequence[int]) -> Iterator[None]:
    """These processes do nothing while the context lasts."""
    processes = [psutil.Process(pid) for pid in pids]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def let_pass(seconds: float) -> None:
    """Nothing can be asked whether a paused process has been forgotten: its time has to pass."""
    with pytest.raises(AssertionError):
        until("never", lambda: False, deadline_s=seconds)


def test_zombies_wake_up_when_the_job_is_over(
    system: System, scattered_web: Site, tmp_path: Path
) -> None:
    """One replica of every stage is paused: the others end the job, the zombies end themselves."""
    job = system.create_from(mixed(scattered_web.truth, seed=40))
    system.wait_ended(1, job)
    zombies = {stage: system.pids(stage)[0] for stage in STAGES}
    with paused(list(zombies.values())):
        let_pass(LONGER_S)
        system.finish(job)
        checks.as_the_truth_says(system, job, scattered_web.truth, tmp_path)
        before = system.objects(f"jobs/{job}") | system.objects(f"datasets/{job}")
    _all_ended(system, zombies)
    system.wait_healthy()
    checks.nothing_left(system, job)
    checks.adds_up(system, job)
    assert system.objects(f"jobs/{job}") | system.objects(f"datasets/{job}") == before


def test_zombies_wake_up_in_the_middle_of_the_job(
    system: System, scattered_web: Site, tmp_path: Path
) -> None:
    """All replicas of all stages are paused: each ends itself, and others end the job."""
    job = system.create_from(mixed(scattered_web.truth, seed=41))
    system.wait_ended(1, job)
    zombies = {f"{s}-{n}": pid for s in STAGES for n, pid in enumerate(system.pids(s), 1)}
    assert len(zombies) == 2 * len(STAGES)
    with paused(list(zombies.values())):
        let_pass(LONGER_S)
        assert system.progress(job)["status"] == "running"
    _all_ended(system, zombies)
    system.finish(job)
    system.wait_healthy()
    checks.all_well(system, job, scattered_web.truth, tmp_path)


def _all_ended(system: System, zombies: dict[str, int]) -> None:
    """Each of them said why it stops, and is gone."""
    until(
        "the zombies end",
        lambda: not [name for name, pid in zombies.items() if _alive(pid)],
        about=lambda: [name for name, pid in zombies.items() if _alive(pid)],
    )
    for name in {name.partition("-")[0] for name in zombies}:
        logs = [system.log(f"{name}-{number}") for number in (1, 2)]
        assert any("longer than the session timeout" in text for text in logs), name


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_replicas_that_join_and_leave_in_the_middle(
    system: System, scattered_web: Site, tmp_path: Path
) -> None:
    """A third replica of every stage joins while chunks are in hand, and is stopped likewise."""
    jobs: list[str] = []
    urls = mixed(scattered_web.truth, seed=50)[: 4 * CHUNK_SIZE]
    truth = {url: scattered_web.truth[url] for url in urls}

    def feed() -> None:
        """Keep the stages busy."""
        if not jobs or system.ended(jobs[-1]) >= 3:
            jobs.append(system.create_from(mixed(urls, seed=len(jobs))))

    def all_ready(extras: Sequence[Extra]) -> bool:
        feed()
        return all(extra.ready() for extra in extras)

    def in_hand() -> bool:
        feed()
        return bool(system.api.get("/v1/capacity")["active_chunks"])

    with ExitStack() as stack:
        extras = [stack.enter_context(Extra(system, stage)) for stage in STAGES]
        until("they are loaded", lambda: all(extra.loaded() for extra in extras))
        feed()
        system.wait_ended(1, jobs[0])
        for extra in extras:
            extra.go()
        until("the new replicas are ready", lambda: all_ready(extras))
        until("chunks are in hand", in_hand)
        system.wait_ended(1, jobs[-1])
        for extra in extras:
            extra.stop()
        assert not "".join(extra.complaint() for extra in extras)
    for number, job in enumerate(jobs):
        system.finish(job)
        checks.as_the_truth_says(system, job, truth, tmp_path / str(number))
    checks.nothing_left(system, jobs[-1])
    for job in jobs:
        checks.adds_up(system, job)


class Extra:
    """One more replica, as anyone may start it; loaded beforehand, so that it joins at once.

    Args:
        system: Where.
        stage: Of which stage.
    """

    PROGRAM = """if True:
        import importlib, sys
        main = importlib.import_module(f"pixcrawler.{sys.argv[1]}.__main__").main
        print("loaded", flush=True)
        sys.stdin.readline()
        main()
        """

    def __init__(self, system: System, stage: str) -> None:
        (self._port,) = free_ports(1)
        self._told = system.told(stage, f"{stage}-extra", self._port)
        self._stage = stage
        self._folder = system.data_dir
        self._log = system.data_dir / "logs" / f"{stage}-extra.log"

    def __enter__(self) -> Self:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self.PROGRAM, self._stage],
                env=self._told,
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()

    def loaded(self) -> bool:
        """Whether it waits for `go`."""
        return "loaded" in self._log.read_text()

    def go(self) -> None:
        """Let it run."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def ready(self) -> bool:
        """Whether it is a member of its group."""
        try:
            answer = httpx.get(f"http://127.0.0.1:{self._port}/readyz")
        except httpx.TransportError:
            return False
        return answer.status_code == HTTPStatus.OK

    def stop(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def complaint(self) -> str:
        """Wait for its end; nothing if it ended as it should, else what it wrote."""
        code = self._process.wait(30)
        return f"{self._stage}: exit code {code}\n{self._log.read_text()[-5000:]}" if code else ""
