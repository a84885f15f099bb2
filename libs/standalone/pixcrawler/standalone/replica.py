"""One replica of a program: a service, as a child process with an address."""

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from .forks import can_fork
from .http import status_of
from .options import Program
from .ports import LOOPBACK, check_free
from .process import Child

_PROBE_TIMEOUT_S = 3.0


class Replica:
    """Start it, ask it, stop it; start it again at the same address."""

    def __init__(
        self,
        name: str,
        program: Program,
        port: int,
        environment: Mapping[str, str],
        log_dir: Path,
        *,
        fork: bool = False,
    ) -> None:
        """``environment`` is the whole of it; ``fork`` see `Child.spawn`."""
        self.name = name
        self.service = program.service
        self.address = f"{LOOPBACK}:{port}"
        self.child = Child(name, log_dir / f"{name}.log")
        self._argv = program.argv
        self._environment = dict(environment)
        self._fork = fork and can_fork(program.argv)
        self._directory = log_dir.parent

    def spawn(self) -> None:
        """Start the process."""
        if not self.child.running:
            check_free(self.name, int(self.address.rpartition(":")[2]))
        # Not in the caller's directory: `-m` would import from there, and it may go away.
        self.child.spawn(self._argv, env=self._environment, cwd=self._directory, fork=self._fork)

    async def answers(self) -> bool:
        """Whether it is ready to work: broker and database included."""
        return await status_of(self.address, "/readyz", _PROBE_TIMEOUT_S) == HTTPStatus.OK

    async def stop(self, grace_s: float) -> None:
        """Ask it to end; make it end after ``grace_s`` seconds."""
        await self.child.stop(grace_s=grace_s)
