"""Where standalone mode keeps things, and who may read them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "PIXCRAWLER_CACHE_DIR"


def cache_dir(environment: Mapping[str, str]) -> Path:
    """What may be fetched again: ``PIXCRAWLER_CACHE_DIR``, else the user's cache directory."""
    if chosen := environment.get(CACHE_VARIABLE):
        return Path(chosen).absolute()
    return Path(platformdirs.user_cache_dir("pixcrawler", appauthor=False))


@dataclass(frozen=True, slots=True)
class Paths:
    """The layout of a data directory."""

    data_dir: Path

    @classmethod
    def of(cls, data_dir: Path) -> "Paths":
        """The same however the directory is written."""
        return cls(data_dir.expanduser().absolute())

    @property
    def logs(self) -> Path:
        """``<component>.log`` of everything that runs."""
        return self.data_dir / "logs"

    @property
    def kafka(self) -> Path:
        """Brokers' configuration and data."""
        return self.data_dir / "kafka"

    @property
    def postgres(self) -> Path:
        """The database's cluster and its superuser's password."""
        return self.data_dir / "postgres"

    @property
    def blobs(self) -> Path:
        """Archives, documents and staging, where no other store is set."""
        return self.data_dir / "blobs"

    @property
    def lock(self) -> Path:
        """Locked by the supervisor for as long as it lives."""
        return self.data_dir / "supervisor.lock"

    @property
    def state(self) -> Path:
        """What runs now, for ``status`` and ``down``. Holds secrets."""
        return self.data_dir / "state.json"

    @property
    def kept(self) -> Path:
        """Ports, passwords and the API key, kept between runs. Holds secrets."""
        return self.data_dir / "kept.json"


def write_private(path: Path, text: str) -> None:
    """Replace a file at once, readable by its owner only."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
