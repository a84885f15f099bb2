"""What damage is done to: a running system, its jobs, its blob store, and a count of everything."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from pixcrawler.standalone import Program
from pixcrawler.standalone.ports import free_ports
from tests.chaos import suffering
from tests.chaos.schedule import SERVICES
from tests.chaos.stores import Trouble
from tests.e2e.system import System

FOLDER = "trouble"
END_S = 30.0


def programs(points: Path) -> tuple[Program, ...]:
    """Every service as a program that can be made to suffer."""
    return tuple(
        Program(service=name, argv=tuple(command(name, points.with_name(FOLDER))))
        for name in SERVICES
    )


def command(service: str, folder: Path) -> list[str]:
    """The program of a service."""
    return [sys.executable, "-P", suffering.__file__, service, str(folder)]


class Tally:
    """Counts, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, what: str, number: int = 1) -> None:
        """So many more of it."""
        with self._lock:
            self._counts[what] += number

    def __getitem__(self, what: str) -> int:
        with self._lock:
            return self._counts[what]

    def items(self) -> list[tuple[str, int]]:
        """All of them, by name."""
        with self._lock:
            return sorted(self._counts.items())


class Scene:
    """Where damage is done.

    Args:
        system: What runs.
        folder: What `suffering.py` looks at.
        store: Its blob store.
        jobs: Which jobs are in hand.
        tally: What is counted.
    """

    def __init__(
        self,
        system: System,
        folder: Path,
        store: Trouble,
        jobs: Callable[[], Sequence[str]],
        tally: Tally,
    ) -> None:
        self.system = system
        self.folder = folder
        self.store = store
        self.jobs = jobs
        self.tally = tally
        self._extras: list[Extra] = []
        self._names = 0
        self._lock = threading.Lock()

    def signal(self, pids: Sequence[int], number: signal.Signals) -> int:
        """Send a signal to whoever of them lives; to how many."""
        sent = 0
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
                sent += 1
        self.tally.add(_WORDS[number], sent)
        return sent

    def join(self, stage: str) -> "Extra":
        """One more replica of a stage."""
        with self._lock:
            self._names += 1
            name = f"{stage}-extra-{self._names}"
        extra = Extra(self, stage, name)
        with self._lock:
            self._extras.append(extra)
        self.tally.add("joined")
        return extra

    def extras(self, stage: str) -> list["Extra"]:
        """Those of a stage that have not left."""
        with self._lock:
            return [each for each in self._extras if each.stage == stage and each.running]

    def close(self) -> None:
        """Nobody suffers any more, and nobody is left who was not there before."""
        with self._lock:
            extras, self._extras = self._extras, []
        for extra in extras:
            extra.end()
        self.store.end()
        self.system.disarm()
        for path in self.folder.iterdir():
            path.unlink()


_WORDS = {
    signal.SIGKILL: "kills",
    signal.SIGQUIT: "kills",  # PostgreSQL's immediate shutdown is a crash
    signal.SIGTERM: "terminations",
    signal.SIGSTOP: "pauses",
    signal.SIGCONT: "resumptions",
}


class Extra:
    """One more replica, which ends with us at the latest."""

    def __init__(self, scene: Scene, stage: str, name: str) -> None:
        (port,) = free_ports(1)
        self.stage = stage
        self._scene = scene
        with (scene.system.data_dir / "logs" / f"{name}.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command(stage, scene.folder), "leash"],
                env=scene.system.told(stage, name, port),
                cwd=scene.system.data_dir,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def leave(self, number: signal.Signals) -> None:
        """End it one way or the other."""
        self._scene.signal([self.pid], number)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self.end()

    def end(self) -> None:
        """End it in any case."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
