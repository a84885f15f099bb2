"""What standalone mode writes down: what it keeps between runs, and what runs now.

A process is known by its id *and* by when it started: ids are used again, after a reboot above all.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .errors import StandaloneError
from .paths import Paths, write_private

_LOCK_ATTEMPTS = 10
_LOCK_PAUSE_S = 0.05

Phase = Literal["starting", "running", "stopping"]


class Kept(BaseModel):
    """Kept between runs, so that addresses and secrets stay where possible."""

    model_config = ConfigDict(frozen=True)

    api_key: str | None = None
    kafka_ports: tuple[tuple[int, int], ...] = ()
    postgres_port: int | None = None
    service_ports: dict[str, int] = Field(default_factory=dict)
    passwords: dict[str, str] = Field(default_factory=dict)
    """Database passwords of the services, by service."""
    partitions: int = 0
    """Of each topic that is keyed by job or chunk; 0 before the first start."""


class ProcessState(BaseModel):
    """A process, as it can be recognised later."""

    model_config = ConfigDict(frozen=True)

    pid: int
    identity: str

    @classmethod
    def of(cls, pid: int | None) -> "ProcessState | None":
        """The process with this id, None if there is none (any more)."""
        found = None if pid is None else identity(pid)
        return None if pid is None or found is None else cls(pid=pid, identity=found)

    @classmethod
    def of_this(cls) -> "ProcessState":
        """The process that we are."""
        pid = os.getpid()
        return cls(pid=pid, identity=identity(pid) or "")

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return identity(self.pid) == self.identity

    def send(self, number: int) -> None:
        """Send a signal, if the process still runs."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


class ComponentState(BaseModel):
    """One component at a moment."""

    model_config = ConfigDict(frozen=True)

    name: str
    service: str
    address: str
    process: ProcessState | None
    restarts: int


class State(BaseModel):
    """What runs now; the file lives from the supervisor's start to its orderly end."""

    model_config = ConfigDict(frozen=True)

    phase: Phase
    api_url: str | None
    """None: the services do not run."""
    kafka_bootstrap_servers: str
    database_url: str
    components: tuple[ComponentState, ...] = ()

    @property
    def processes(self) -> tuple[ProcessState, ...]:
        """Every process but the supervisor's, which is in the lock file."""
        return tuple(item.process for item in self.components if item.process is not None)


def identity(pid: int) -> str | None:
    """What tells a process from later ones with its id; None for none, or one that has ended."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The name in brackets may hold anything; state is field 3, start time (ticks) field 22.
            fields = stat.read_text("utf-8", "replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else f"{_boot_id()}:{fields[19]}"
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except psutil.NoSuchProcess:
        return None


def read_state(paths: Paths) -> State | None:
    """What ran when the file was last written; None for nothing."""
    text = _read(paths.state)
    try:
        return None if text is None else State.model_validate_json(text)
    except ValidationError:
        return None  # of another version: whatever wrote it, we cannot tell what it started


def write_state(paths: Paths, state: State) -> None:
    """Replace the file."""
    write_private(paths.state, state.model_dump_json(indent=2))


def read_supervisor(paths: Paths) -> ProcessState | None:
    """Who holds the lock, or died with it; None if nobody does."""
    text = _read(paths.lock)
    try:
        return ProcessState.model_validate_json(text) if text else None
    except ValidationError:
        return None  # just being written


def read_kept(paths: Paths) -> Kept:
    """What was kept; defaults where nothing was."""
    text = _read(paths.kept)
    try:
        return Kept() if text is None else Kept.model_validate_json(text)
    except ValidationError as error:
        raise StandaloneError(
            f"{paths.kept} is damaged: restore it, or use another data directory"
        ) from error


def write_kept(paths: Paths, kept: Kept) -> None:
    """Replace the file."""
    write_private(paths.kept, kept.model_dump_json(indent=2))


@contextmanager
def supervisor_lock(paths: Paths) -> Iterator[None]:
    """Be the only supervisor of the data directory; the kernel gives the lock back if we die.

    Raises:
        StandaloneError: Another one is, or the directory is another user's.
    """
    try:
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError as error:
        raise _not_ours(paths.lock) from error
    try:
        if not _lock(descriptor):
            raise StandaloneError(
                f"standalone mode is running already in {paths.data_dir}: "
                "`pixcrawler status` shows it, `pixcrawler down` stops it"
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, ProcessState.of_this().model_dump_json().encode())
        try:
            yield
        finally:
            # This process may go on with something else: `down` must not take it for a supervisor.
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock; not at the first refusal for lost, since `is_locked` holds it for a moment."""
    for _attempt in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_S)
        else:
            return True
    return False


def is_locked(paths: Paths) -> bool:
    """Whether a supervisor of the data directory lives."""
    try:
        descriptor = os.open(paths.lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    except PermissionError as error:
        raise _not_ours(paths.lock) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(descriptor)


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise _not_ours(path) from error


def _not_ours(path: Path) -> StandaloneError:
    return StandaloneError(
        f"{path} belongs to another user: run this as that user, or choose another data directory "
        "(PIXCRAWLER_DATA_DIR or --data-dir)"
    )


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
