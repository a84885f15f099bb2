"""A child process with a log, which cannot outlive this process."""

import asyncio
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from . import child
from .errors import StandaloneError
from .forks import Forked

_POLL_S = 0.02
_KILLED_S = 10.0  # what a busy machine may take to end what was killed
LOG_LIMIT_BYTES = 32 * 1024 * 1024
_TAIL_BYTES = 8192
_STACK_FRAME = re.compile(r"\s*(at |\.\.\. |$)")  # of Java, after the exception that says why


@dataclass(frozen=True, slots=True)
class User:
    """An account of this machine that a child runs as."""

    name: str
    uid: int
    gid: int


@contextmanager
def _end_of(pid: int | None) -> Iterator[asyncio.Event | None]:
    """Set when the process has ended; None where there is none, or nobody tells (not Linux)."""
    descriptor = None
    if sys.platform == "linux" and pid is not None:
        with suppress(OSError):
            descriptor = os.pidfd_open(pid)
    if descriptor is None:
        yield None
        return
    loop, end = asyncio.get_running_loop(), asyncio.Event()

    def told() -> None:
        loop.remove_reader(descriptor)  # it would be told again and again
        end.set()

    loop.add_reader(descriptor, told)
    try:
        yield end
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


class Child:
    """One program at a time: start, watch, stop; start again.

    Spawn from the main thread: the kernel delivers the parent-death signal when the *thread* that
    started the child ends. (Linux only; elsewhere a child outlives a supervisor that was killed,
    until the next start finds it.)
    """

    def __init__(self, name: str, log: Path, *, log_limit_bytes: int = LOG_LIMIT_BYTES) -> None:
        """Name the child for messages; its output is appended to ``log``."""
        self.name = name
        self.log = log
        self.log_limit_bytes = log_limit_bytes
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id, None while nothing runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process exists."""
        return self._process is not None and self._process.poll() is None

    @property
    def returncode(self) -> int | None:
        """Exit code of the last process, negative for a signal; None before it ended."""
        return None if self._process is None else self._process.poll()

    def spawn(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: User | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        fork: bool = False,
    ) -> None:
        """Start the program in a session of its own, so that Ctrl-C reaches only the supervisor.

        Args:
            argv: Absolute path of the program, and its arguments.
            env: Its environment; None for ours.
            cwd: Its directory; ours by default.
            user: Whom to become (as root only).
            death_signal: What the kernel sends it if we die.
            fork: Not a process from the beginning, but one that has imported what `forks.prepare`
                was told. Only for what `forks.can_fork`, and not for another user.

        Raises:
            StandaloneError: The log cannot be written, or no process can be made.
        """
        if self.running:
            return
        program = [os.fspath(argument) for argument in argv]
        account = (str(user.uid), str(user.gid)) if user else ("-1", "-1")
        shim = [sys.executable, "-I", "-S", child.__file__]
        shim += [str(os.getpid()), str(int(death_signal)), *account, "--"]
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.trim_log()
            with self.log.open("ab") as log:
                self._log_start = log.tell()
                if fork:
                    self._process = Forked(
                        self.name,
                        program,
                        log=self.log,
                        env=env,
                        cwd=cwd,
                        death_signal=death_signal,
                    )
                    return
                self._process = subprocess.Popen(  # noqa: S603 - our own programs
                    [*shim, *program],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=None if env is None else dict(env),
                    cwd=cwd,
                    start_new_session=True,
                )
        except OSError as error:
            message = f"cannot start {self.name} (log: {self.log}): {error.strerror}"
            raise StandaloneError(message) from error

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is somebody to receive it."""
        if self._process is not None and self.running:
            self._process.send_signal(number)

    async def wait(self, timeout_s: float = math.inf, poll_s: float = _POLL_S) -> bool:
        """Wait for the end of the process; False if it still runs after ``timeout_s`` seconds.

        It is looked for every ``poll_s`` seconds where the kernel does not tell of it, and where
        it has told and the exit code is not known yet (a forked program's comes by a pipe).
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        with _end_of(self.pid) as end:
            while self.running:
                left_s = deadline - loop.time()
                if left_s <= 0:
                    return False
                if end is None or end.is_set():
                    await asyncio.sleep(poll_s)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if left_s == math.inf else left_s):
                        await end.wait()
        return True

    async def stop(self, *, grace_s: float = 30.0, number: signal.Signals = signal.SIGTERM) -> None:
        """Ask the process to end, make it end after ``grace_s`` seconds. May be repeated."""
        if not self.running:
            return
        self.send_signal(number)
        if not await self.wait(grace_s):
            self.send_signal(signal.SIGKILL)
            await self.wait(max(grace_s, _KILLED_S))

    def last_log_line(self) -> str:
        """The last telling line that the present (or last) process wrote, or ``""``."""
        try:
            with self.log.open("rb") as log:
                end = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, end - _TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        said = (line.strip() for line in reversed(lines) if not _STACK_FRAME.match(line))
        return next(said, "")

    def failure(self, what: str) -> StandaloneError:
        """An error that names the child, what went wrong, its log, and the log's last line."""
        last = self.last_log_line()
        ended = "" if self.running else f" (exit code {self.returncode})"
        return StandaloneError(
            f"{self.name} {what}{ended}, see {self.log}" + (f": {last}" if last else "")
        )

    def trim_log(self) -> None:
        """Keep the log and one older one below a limit: what runs for ever must not fill the disk.

        The process goes on writing to the same file, at its new end; what it writes between copy
        and cut is lost.
        """
        with suppress(OSError):
            if self.log.stat().st_size > self.log_limit_bytes:
                shutil.copyfile(self.log, self.log.with_name(f"{self.log.name}.1"))
                os.truncate(self.log, 0)
                self._log_start = 0
