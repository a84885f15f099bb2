"""A real PgBouncer between services and PostgreSQL, with the very settings that are shipped.

Debian's package `pgbouncer` has it; `make pgbouncer` installs it. With
``PIXCRAWLER_TEST_POOLER=pgbouncer`` every system of the end-to-end tests and of chaos runs through
one; the tests themselves look into the database past it.
"""

import asyncio
import configparser
import os
import pwd
import shutil
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pixcrawler.standalone.ports import LOOPBACK, free_ports
from pixcrawler.standalone.process import Child, User

VARIABLE = "PIXCRAWLER_TEST_POOLER"
SHIPPED = Path(__file__).parents[1] / "deploy" / "compose" / "pgbouncer.ini"
START_S = 60.0
_SBIN = "/usr/sbin:/sbin"  # where Debian has it, and a user's path may not lead
_ACCOUNTS = ("pixcrawler", "nobody")


def asked_for() -> bool:
    """Whether every system is to run through a pooler.

    Raises:
        ValueError: It is asked for one that we do not know.
    """
    chosen = os.environ.get(VARIABLE, "")
    if chosen not in {"", "pgbouncer"}:
        raise ValueError(f"{VARIABLE} is empty or pgbouncer, not {chosen!r}")
    return bool(chosen)


def is_there() -> bool:
    """Whether this machine has one."""
    return _found() is not None


def program() -> str:
    """`pgbouncer` of this machine. Where it was asked for, or `CI` is set, it has to be there."""
    found = _found()
    if found is None:
        missing = (
            "no pgbouncer on this machine: `make pgbouncer` (Debian: apt-get install pgbouncer)"
        )
        if os.environ.get("CI") or asked_for():
            pytest.fail(missing)
        pytest.skip(missing)
    return found


def _found() -> str | None:
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path=_SBIN)


def shipped() -> configparser.ConfigParser:
    """The settings of the deployment."""
    found = configparser.ConfigParser(inline_comment_prefixes=(";",), interpolation=None)
    with SHIPPED.open(encoding="utf-8") as file:
        found.read_file(file)
    return found


class Pooler:
    """One PgBouncer. Start it from the main thread, as every child.

    Args:
        folder: For its settings and its log; any account can enter it.

    Attributes:
        port: Where it listens, known before it starts.
    """

    def __init__(self, folder: Path) -> None:
        self._program = program()
        (self.port,) = free_ports(1)
        self._folder = folder
        self.child = Child("pgbouncer", folder / "pgbouncer.log")
        said = shipped()["pgbouncer"]
        self.pool = int(said["default_pool_size"]) + int(said["reserve_pool_size"])
        """Connections to the server at most, for one role."""

    def start(self, database_url: str) -> None:
        """Serve the database of this URL, which is of a superuser; wait until it listens."""
        self._folder.mkdir(exist_ok=True)
        self._folder.chmod(0o755)
        url = urlsplit(database_url)
        users = self._folder / "users.txt"
        settings = shipped()
        # Where things are; everything else is as it is shipped.
        settings["databases"] = {
            "pixcrawler": f"host={url.hostname} port={url.port} dbname={url.path.lstrip('/')} "
            f"auth_user={url.username}"
        }
        settings["pgbouncer"].update(
            listen_addr=LOOPBACK, listen_port=str(self.port), auth_file=str(users),
            unix_socket_dir="",
        )  # fmt: skip
        users.write_text(f'"{url.username}" "{url.password}"\n')
        with (self._folder / "pgbouncer.ini").open("w", encoding="utf-8") as file:
            settings.write(file)
        self.spawn()
        self._wait_listening()

    def spawn(self) -> None:
        """Start the process with the settings that are there."""
        user = _account()
        if user is not None:
            for path in (self._folder / "users.txt", self._folder / "pgbouncer.ini"):
                os.chown(path, user.uid, user.gid)
                path.chmod(0o600)
        self.child.spawn([self._program, self._folder / "pgbouncer.ini"], user=user)

    def stop(self) -> None:
        """End it; nobody is waited for."""
        asyncio.run(self.child.stop(grace_s=0))

    def _wait_listening(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.child.running:
            try:
                socket.create_connection((LOOPBACK, self.port), timeout=5).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise self.child.failure("did not listen")


def _account() -> User | None:
    """Whom it runs as where we are root: it refuses to be root, as PostgreSQL does."""
    if os.geteuid() != 0:
        return None
    for name in _ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise RuntimeError(f"pgbouncer does not run as root: make an account named {_ACCOUNTS[0]}")
