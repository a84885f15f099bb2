"""What standalone mode can be told."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from pixcrawler.common.folders import default_data_dir
from pixcrawler.common.limits import GRACE_S
from pixcrawler.common.topics import PARTITIONS

from .errors import StandaloneError

DEFAULT_API_PORT = 8000


class Program(BaseModel):
    """A program that standalone mode runs, once or in several replicas.

    It reads its addresses from ``PIXCRAWLER_*``, answers ``/healthz`` and ``/readyz`` on
    ``PIXCRAWLER_HTTP_PORT``, and ends on SIGTERM.
    """

    model_config = ConfigDict(frozen=True)

    service: str
    argv: tuple[str, ...]
    """Absolute path of the program, and its arguments."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Beside what all are told."""


def service(name: str) -> Program:
    """One of our own services."""
    return Program(service=name, argv=(sys.executable, "-m", f"pixcrawler.{name}"))


API = "api"
SERVICES = tuple(
    service(name) for name in (API, "planner", "downloader", "validator", "uploader", "tracker")
)


class UpOptions(BaseModel):
    """How to run; everything has a default."""

    model_config = ConfigDict(frozen=True)

    data_dir: Path = Field(default_factory=default_data_dir)
    """Where everything is kept. As root not below ``/root``: PostgreSQL runs as another user."""
    port: int | None = Field(default=None, ge=0, le=65535)
    """The api's: this one or none at all. None: 8000 or, if taken, a free one; 0: a free one."""
    scale: dict[str, int] = Field(default_factory=dict)
    """Replicas by service; one where nothing is said. 0 leaves a service out."""
    brokers: int | None = Field(default=None, ge=1, le=9)
    """Odd. Fixed by the first start in a data directory: None is as many as it was made with, one
    where it is new."""
    partitions: int = Field(default=PARTITIONS, ge=1)
    """Of each topic that is keyed by job or chunk; at least as many as any service has replicas.
    Fixed by the first start in a data directory: the tracker's table is divided in the same way."""
    cache_dir: Path | None = None
    """Kafka's jars; None: ``PIXCRAWLER_CACHE_DIR`` or the user's cache directory."""
    start_timeout_s: float = Field(default=120.0, gt=0)
    """Each part must be ready by then, or nothing runs."""
    grace_s: float = Field(default=GRACE_S, ge=0)
    """Time for the services to end by themselves before they are killed; more where
    ``PIXCRAWLER_DRAIN_S`` says that they need it."""
    min_free_mb: int = Field(default=512, ge=0)
    """With less free disk space it does not start."""
    programs: tuple[Program, ...] = SERVICES
    """What runs beside Kafka and PostgreSQL; one of them is the ``api``, which has the port. None
    at all: to look after the data while nobody works on it."""

    longest_pause_s: float = Field(default=4.0, ge=0)
    """Of a part that dies again and again, before its next start: with what it takes to notice and
    to spawn, five seconds at most."""
    forks: tuple[str, ...] = ()
    """Modules to import once, so that programs that need them start at once: see `forks`."""

    @field_validator("data_dir", "cache_dir")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    @field_validator("brokers")
    @classmethod
    def _odd(cls, brokers: int | None) -> int | None:
        if brokers is not None and brokers % 2 == 0:
            raise ValueError("brokers must be odd: they decide by majority")
        return brokers

    @field_validator("scale")
    @classmethod
    def _counts(cls, scale: dict[str, int]) -> dict[str, int]:
        for name, replicas in scale.items():
            if replicas < 0:
                raise ValueError(f"{name} cannot have {replicas} replicas")
        if scale.get(API, 1) != 1:
            raise ValueError("the api cannot be scaled here: it has the port")
        return scale

    def replicas(self) -> tuple[tuple[str, Program], ...]:
        """Name and program of everything to run beside Kafka and PostgreSQL.

        Raises:
            StandaloneError: A service to scale does not exist.
        """
        known = {program.service for program in self.programs}
        if unknown := sorted(set(self.scale) - known):
            raise StandaloneError(
                f"there is no service {unknown[0]} to scale, only {', '.join(sorted(known))}"
            )
        return tuple(
            (f"{program.service}-{number}", program)
            for program in self.programs
            for number in range(1, self.scale.get(program.service, 1) + 1)
        )


def parse_scale(text: str) -> Mapping[str, int]:
    """``downloader=2,validator=1`` as a mapping.

    Raises:
        StandaloneError: It is written in another way.
    """
    scale: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        if not (match := re.fullmatch(r"\s*([a-z]+)\s*=\s*(\d+)\s*", part)):
            raise StandaloneError(f"--scale takes downloader=2,validator=1, not {part!r}")
        scale[match[1]] = int(match[2])
    return scale
