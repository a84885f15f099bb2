"""The broker's jars: pinned by coordinates and sha256, fetched once, checked, kept in a cache."""

import hashlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from .errors import StandaloneError

_DOWNLOADS_AT_ONCE = 6
_DOWNLOAD_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """As Maven names it."""
        return f"{self.artifact}-{self.version}.jar"


def parse_lock(text: str) -> tuple[Jar, ...]:
    """Jars of a lock: one ``group:artifact:version sha256`` a line, ``#`` begins a comment."""
    jars = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            coordinates, sha256 = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(Jar(group, artifact, version, sha256))
    return tuple(jars)


def read_lock() -> tuple[Jar, ...]:
    """The lock that comes with this package."""
    return parse_lock((resources.files(__package__) / "kafka.lock").read_text("utf-8"))


def provide(jars: tuple[Jar, ...], cache_dir: Path) -> Path:
    """A directory with exactly these jars; without network where they were fetched before.

    Safe with several processes at once: each fetches into a directory of its own, one rename
    decides, the others adopt the winner's.

    Raises:
        StandaloneError: They cannot be fetched or stored, or are not what the lock says.
    """
    name = hashlib.sha256("\n".join(f"{jar}" for jar in jars).encode()).hexdigest()[:16]
    target = cache_dir / f"kafka-{name}"
    if _is_complete(target, jars):
        return target
    try:
        _install(jars, target)
    except OSError as error:
        raise StandaloneError(f"cannot store Kafka's jars in {target}: {error}") from error
    return target


def _install(jars: tuple[Jar, ...], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".kafka-", dir=target.parent) as scratch:
        fresh = Path(scratch) / "jars"
        _fetch_all(jars, Path(scratch) / "repository", fresh)
        if target.exists() and not _is_complete(target, jars):  # damaged since it was made
            target.rename(Path(scratch) / "damaged")
        try:
            fresh.rename(target)
        except OSError:
            if not _is_complete(target, jars):  # else another process came first
                raise


def _fetch_all(jars: tuple[Jar, ...], repository: Path, into: Path) -> None:
    into.mkdir()
    with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
        for jar, fetched in zip(
            jars, pool.map(lambda jar: _fetch(jar, repository), jars), strict=True
        ):
            shutil.move(fetched, into / jar.file_name)
            flush(into / jar.file_name)


def _fetch(jar: Jar, repository: Path) -> Path:
    from jgo.maven import MavenContext
    from requests import RequestException

    context = MavenContext(repo_cache=repository, timeout=_DOWNLOAD_TIMEOUT_S)
    project = context.project(jar.group, jar.artifact)
    try:
        path = Path(project.at_version(jar.version).artifact().resolve())
    except (RequestException, RuntimeError) as error:
        raise StandaloneError(
            f"cannot fetch {jar.file_name} for Kafka; "
            f"the first start needs network access to a Maven repository ({type(error).__name__})"
        ) from error
    if _sha256(path) != jar.sha256:
        raise StandaloneError(
            f"{jar.file_name} is not the file that kafka.lock names (sha256 differs); "
            "check the Maven repository or proxy in between"
        )
    return path


def _is_complete(directory: Path, jars: tuple[Jar, ...]) -> bool:
    """Whether every jar is there with the right bytes (43 MB: a tenth of a second)."""
    return all(
        (path := directory / jar.file_name).is_file() and _sha256(path) == jar.sha256
        for jar in jars
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Have the bytes on disk before a rename makes them count."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
