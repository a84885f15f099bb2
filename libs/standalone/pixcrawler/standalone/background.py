"""Standalone mode in the background: start it, stop it, have it for a while.

The background is ``python -m pixcrawler.standalone``. It reads what to do from its standard input,
reports through a pipe until it is ready, and then has nothing of its caller's.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BufferedReader, FileIO
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from .errors import StandaloneError
from .events import Event, OnEvent, ignore
from .foreground import RELEASED
from .options import UpOptions
from .paths import Paths
from .probing import Status
from .state import ProcessState, is_locked, read_state, read_supervisor

_POLL_S = 0.05
_STOP_TIMEOUT_S = 120.0


class Order(BaseModel):
    """What the background is told."""

    model_config = ConfigDict(frozen=True)

    options: UpOptions
    report: int
    """Descriptor to write events to, one JSON document a line, until everything is ready."""
    lifeline: int
    """Descriptor to read from: at its end it is time to stop, after `RELEASED` it has no meaning
    any more."""


def up_detached(
    options: UpOptions,
    on_event: OnEvent = ignore,
    *,
    environment: Mapping[str, str] | None = None,
) -> Status:
    """Start standalone mode in the background; return once everything is ready.

    Args:
        options: How to run.
        on_event: Called as things happen, until everything is ready.
        environment: What the services inherit; ours by default.

    Raises:
        StandaloneError: It could not start; then nothing of it runs.
    """
    with _launched(options, on_event, environment) as (status, lifeline):
        lifeline.write(RELEASED)
    return status


@contextmanager
def temporary(
    options: UpOptions,
    on_event: OnEvent = ignore,
    *,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Status]:
    """Standalone mode for as long as the context lasts; it also ends when this process does.

    Raises:
        StandaloneError: It could not start, or runs already.
    """
    with _launched(options, on_event, environment) as (status, _lifeline):
        try:
            yield status
        finally:
            down(options.data_dir)


def down(data_dir: Path, timeout_s: float = _STOP_TIMEOUT_S) -> bool:
    """Stop the standalone mode of a data directory; return when every process has ended.

    What has not ended after ``timeout_s`` seconds is killed.

    Returns:
        Whether there was anything to stop.

    Raises:
        StandaloneError: It belongs to another user.
    """
    paths = Paths.of(data_dir)
    deadline = time.monotonic() + timeout_s
    known: set[ProcessState] = set()
    asked: set[ProcessState] = set()
    while True:
        known |= _processes(paths)
        living = {process for process in known if process.alive}
        if not living and not is_locked(paths):
            paths.state.unlink(missing_ok=True)
            return bool(asked)
        supervisor = read_supervisor(paths)
        # The supervisor ends the others, in order; without one, all are asked at once.
        to_ask = {supervisor} if supervisor in living else living
        for process in to_ask - asked:
            process.send(signal.SIGTERM)
        asked |= to_ask
        if time.monotonic() >= deadline:
            for process in living:
                process.send(signal.SIGKILL)
        time.sleep(_POLL_S)


def _processes(paths: Paths) -> set[ProcessState]:
    """Every process that the data directory knows of."""
    supervisor, state = read_supervisor(paths), read_state(paths)
    return set(state.processes if state else ()) | ({supervisor} if supervisor else set())


@contextmanager
def _launched(
    options: UpOptions, on_event: OnEvent, environment: Mapping[str, str] | None
) -> Iterator[tuple[Status, FileIO]]:
    """A background that is ready, and the lifeline that it hangs on until the context ends."""
    with ExitStack() as pipes:
        report, report_end = _pipe(pipes)
        lifeline_end, lifeline = _pipe(pipes)
        order = Order(options=options, report=report_end.fileno(), lifeline=lifeline_end.fileno())
        _spawn(order, environment)
        report_end.close()
        lifeline_end.close()
        yield _wait_running(report, options, on_event), lifeline


def _pipe(stack: ExitStack) -> tuple[FileIO, FileIO]:
    read, write = os.pipe()
    return stack.enter_context(FileIO(read, "r")), stack.enter_context(FileIO(write, "w"))


def _spawn(order: Order, environment: Mapping[str, str] | None) -> None:
    paths = Paths(order.options.data_dir)
    try:
        paths.logs.mkdir(parents=True, exist_ok=True)
        with _log(paths).open("ab") as log:
            # It leaves a child behind and ends at once, so there is nothing to reap later.
            subprocess.run(  # noqa: S603 - ourselves
                [sys.executable, "-m", __package__],
                input=order.model_dump_json().encode(),
                stdout=log,
                stderr=log,
                pass_fds=(order.report, order.lifeline),
                start_new_session=True,
                cwd=paths.data_dir,
                env=None if environment is None else dict(environment),
                check=True,
            )
    except OSError as error:
        raise StandaloneError(
            f"cannot write to {paths.data_dir} ({error.strerror}): choose another data directory "
            "(PIXCRAWLER_DATA_DIR or --data-dir)"
        ) from error
    except subprocess.CalledProcessError as error:
        raise StandaloneError(f"the background could not start, see {_log(paths)}") from error


def _wait_running(report: FileIO, options: UpOptions, on_event: OnEvent) -> Status:
    lines = BufferedReader(report)
    for line in lines:
        event = Event.model_validate_json(line)
        on_event(event)
        if event.kind == "failed":
            lines.read()  # until it has ended
            raise StandaloneError(event.message)
        if event.kind == "running" and event.status is not None:
            return event.status
    raise StandaloneError(f"standalone mode was stopped, see {_log(Paths(options.data_dir))}")


def _log(paths: Paths) -> Path:
    return paths.logs / "supervisor.log"
