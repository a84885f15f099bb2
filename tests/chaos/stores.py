"""What can be wrong with the blob store, whichever it is."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.chaos.proxy import Proxy
from tests.chaos.schedule import Kind
from tests.e2e.background import Background

ROOM = "4g"
MARGIN_BYTES = 1 << 16
"""What is left on a full disk: less than an image."""

MODES = {Kind.BLOB_ERRORS: "errors", Kind.BLOB_SLOW: "slow", Kind.BLOB_AWAY: "away"}


class Trouble(Protocol):
    """A blob store that can be made bad, and good again."""

    @property
    def how(self) -> str:
        """By what means, for people."""

    def begin(self, kind: Kind) -> None:
        """Make it bad."""

    def end(self) -> None:
        """Make it good; also if it is."""


class LocalTrouble:
    """A folder whose users are told how it behaves (see `suffering.py`); its disk can be full.

    Args:
        said: The file that they look at.
        disk: The file system of its own that it is on, where there is one.
    """

    def __init__(self, said: Path, disk: "Disk | None") -> None:
        self._said = said
        self._disk = disk

    @property
    def how(self) -> str:
        """By what means, for people."""
        full = "a small tmpfs" if self._disk else "a wrapper's ENOSPC"
        return f"local disk, a wrapper's EIO, full by {full}"

    def begin(self, kind: Kind) -> None:
        """Make it bad."""
        if kind is Kind.DISK_FULL and self._disk is not None:
            self._disk.fill()
            return
        fresh = self._said.with_suffix(".new")
        fresh.write_text(MODES.get(kind, "full"))
        fresh.rename(self._said)

    def end(self) -> None:
        """Make it good; also if it is."""
        self._said.unlink(missing_ok=True)
        if self._disk is not None:
            self._disk.empty()


class AzureTrouble:
    """A store behind a bad line."""

    how = "Azurite behind a proxy that answers 500 and 503, delays, or cuts"

    def __init__(self, proxy: Proxy, background: Background) -> None:
        self._proxy = proxy
        self._background = background

    def begin(self, kind: Kind) -> None:
        """Make it bad."""
        self._background.run(self._proxy.behave(MODES[kind]))

    def end(self) -> None:
        """Make it good; also if it is."""
        self._background.run(self._proxy.behave(""))


class Disk:
    """A file system of its own, whose size can be changed while it is in use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fill(self) -> None:
        """No room for another image."""
        for tries in range(1, 6):
            state = os.statvfs(self._folder)
            used = (state.f_blocks - state.f_bfree) * state.f_frsize
            # What is written meanwhile makes it refuse to be smaller than its content.
            if _mount("-o", f"remount,size={used + tries * MARGIN_BYTES}", self._folder):
                return
        raise OSError(f"cannot fill {self._folder}")

    def empty(self) -> None:
        """Room for everything."""
        if not _mount("-o", f"remount,size={ROOM}", self._folder):
            raise OSError(f"cannot make room in {self._folder}")


@contextmanager
def disk_of_its_own(folder: Path) -> Iterator[Disk | None]:
    """A small file system at this folder, or none where we may not have one (only root may)."""
    folder.mkdir(parents=True)
    options = ("-t", "tmpfs", "-o", f"size={ROOM},mode=755", "tmpfs")
    if os.geteuid() != 0 or not _mount(*options, folder):
        yield None
        return
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def _mount(*arguments: str | Path) -> bool:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0
