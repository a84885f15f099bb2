"""Python programs that start at once: forked from a process that has imported what they need.

The services' imports take two seconds of a core for each replica, each time that it starts. Where
systems come and go, as in tests, that is most of the work; where one runs for long, it is nothing,
and a process of its own from the beginning is smaller: so this is asked for (`UpOptions.forks`).

That process is multiprocessing's forkserver. It has one thread and does nothing but fork, and it
ends when its parent does, because nobody else keeps it; its children end with it. (Linux only; see
`child`.)
"""

import ctypes
import gc
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from .child import PR_SET_PDEATHSIG

_PR_SET_NAME = 15  # linux/prctl.h

_CONTEXT = multiprocessing.get_context("forkserver")


def prepare(modules: Sequence[str]) -> None:
    """Begin to import; what is forked from now on waits for that, and has these modules."""
    _CONTEXT.set_forkserver_preload(list(modules))
    forkserver.ensure_running()


def can_fork(argv: Sequence[str]) -> bool:
    """Whether it is for this very Python: ``PYTHON -m MODULE …`` or ``PYTHON -P FILE …``."""
    return argv[0] == sys.executable and argv[1] in {"-m", "-P"}


class Forked:
    """A running program, with as much of `subprocess.Popen` as `Child` needs."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None,
        cwd: Path | None,
        death_signal: signal.Signals,
    ) -> None:
        """Start it in a session of its own; the arguments are those of `Child`.

        Raises:
            OSError: No process can be made.
        """
        told = dict(os.environ if env is None else env)
        self._process: BaseProcess = _CONTEXT.Process(
            target=_become,
            args=(name, argv),
            kwargs={"log": log, "env": told, "cwd": cwd, "death_signal": death_signal},
            daemon=True,
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is somebody to receive it."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _become(
    name: str,
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str],
    cwd: Path | None,
    death_signal: signal.Signals,
) -> None:
    """Be the program: what `Popen` and `child` do to a new process, and then its code."""
    # Looking for garbage in what was imported would copy its pages: a sixth of a start's work.
    gc.freeze()
    os.setsid()
    _let_go_of_the_forkserver()
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)  # what `ps -o comm` and `top` show
    starter = multiprocessing.parent_process()
    if starter is None or not starter.is_alive():
        return  # it died before the signal was set
    _write_to(log)
    os.environ.clear()
    os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    run(argv)


def _let_go_of_the_forkserver() -> None:
    """Close the pipe by which whoever may ask the forkserver keeps it: every child is given it.

    With it open the forkserver, and so we ourselves, would outlive the parent that was killed.
    """
    server: Any = forkserver._forkserver  # noqa: SLF001
    os.close(server._forkserver_alive_fd)  # noqa: SLF001
    server._forkserver_alive_fd = None  # noqa: SLF001


def run(argv: Sequence[str]) -> None:
    """Be a program that `can_fork`, within this process: its code is run as ``__main__``."""
    kind, program, sys.argv = argv[1], argv[2], list(argv[2:])
    if kind == "-m":
        sys.modules.pop(f"{program}.__main__", None)  # it may have been prepared: it is run now
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(program, run_name="__main__")


def _write_to(log: Path) -> None:
    """Output goes to the log, a line at a time."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 - for good
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 - for good
