"""Where tests put what servers write: into memory, where there is room.

No test cuts the power, so nothing has to reach a disk; and on a disk whoever drops a database or
commits waits for everybody else's writes. Each folder has the process in its name that made it:
what a killed one left behind is removed by the next run.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil

MEMORY = Path("/dev/shm")
DISK = Path("/tmp")
ROOM = 4 << 30
"""Bytes; all that runs at a time writes less than one GiB."""
LONGEST_S = 2 * 3600.0
"""A process that we cannot see may live elsewhere, but not for so long."""
_PREFIX = "pixcrawler-test-"


@cache
def in_memory() -> bool:
    """Whether there is room in memory, for programs too (PostgreSQL's are copied)."""
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        return False
    room = found.f_bavail * found.f_frsize
    return room >= ROOM and not found.f_flag & os.ST_NOEXEC and os.access(MEMORY, os.W_OK)


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder that any account can enter, as PostgreSQL's must be where we are root.

    (pytest's ``tmp_path`` is closed to others.)
    """
    parent = MEMORY if in_memory() else DISK
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers() -> None:
    """Remove the folders of processes that are gone."""
    long_ago = time.time() - LONGEST_S
    for parent in (MEMORY, DISK):
        for folder in parent.glob(f"{_PREFIX}*-*"):
            pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
            if not pid.isdecimal() or psutil.pid_exists(int(pid)):
                continue
            with suppress(FileNotFoundError):  # another run may do the same
                if folder.stat().st_mtime < long_ago:
                    shutil.rmtree(folder, ignore_errors=True)
