"""What the downloader can be told; every variable begins with `PIXCRAWLER_`."""

import importlib.metadata
import socket
import tempfile
from pathlib import Path
from typing import Annotated

import aiohttp
from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from pixcrawler.common.settings import Networks, StageSettings

MIB = 1 << 20

HOST_LIMITS = "upload.wikimedia.org=2,commons.wikimedia.org=2"
"""Wikimedia asks for at most two connections to its media host, and for requests to its API one
after the other (https://www.mediawiki.org/wiki/API:Etiquette, Wikimedia's robot policy)."""

PRODUCT = "PixCrawler"
"""Our product token, as robots.txt and `X-Robots-Tag` name us."""


def _host_limits(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = (item.partition("=") for item in value.split(",") if item.strip())
    return tuple((host.strip().lower(), int(limit)) for host, _, limit in pairs)


HostLimits = Annotated[
    tuple[tuple[str, Annotated[int, Field(ge=1)]], ...], NoDecode, BeforeValidator(_host_limits)
]


def default_contact() -> str:
    """Whom to write to: the user of that name at this machine, as cron does it."""
    return f"pixcrawler@{socket.gethostname()}"


class Settings(StageSettings):
    """The downloader's settings."""

    contact: str = Field(default_factory=default_contact, min_length=3)
    """An e-mail address or a URL; sent with every request, so that a site's owner can reach whoever
    runs this. Wikimedia refuses clients without one."""

    fetch_allow_networks: Networks = ()
    """Comma-separated networks that may be reached although they are private."""
    fetch_timeout_s: float = Field(default=10.0, gt=0)
    """Seconds without a byte after which a try ends (and is repeated)."""
    fetch_deadline_s: float = Field(default=30.0, gt=0)
    """Seconds for one whole try, redirects included; a try that misses it is not repeated."""
    fetch_max_bytes: int = Field(default=52_428_800, gt=0)
    """A larger image is refused while it streams: `too_large`."""
    fetch_per_host: int = Field(default=8, ge=1)
    """Connections to one host at a time, over all replicas."""
    fetch_host_limits: HostLimits = _host_limits(HOST_LIMITS)  # type: ignore[assignment]
    """`host=connections`, comma-separated: hosts that ask for fewer than `fetch_per_host`."""
    fetch_lease_s: float = Field(default=10.0, ge=0.5)
    """Seconds after which the connections that a killed replica had are others' to make."""
    fetch_concurrency: int = Field(default=64, ge=1)
    """Requests at a time in this process; more helps while hosts are many and far."""
    fetch_memory_bytes: int = Field(default=32 * MIB, ge=MIB)
    """Bytes of images held in memory in this process; what is beyond goes to temporary files."""
    fetch_open_parts: int = Field(default=24, ge=1)
    """Parts of 50 candidates begun and not stored yet: a slow candidate holds up only its part."""
    fetch_tries: int = Field(default=3, ge=1)
    """Tries at one candidate, the first included."""
    fetch_backoff_s: float = Field(default=0.5, ge=0)
    """Seconds before the second try, doubled before each further one; jitter is up to as much."""
    fetch_backoff_max_s: float = Field(default=10.0, ge=0)
    """Seconds before a try at most, where the host named no time."""
    fetch_retry_after_max_s: float = Field(default=30.0, ge=0)
    """A host that asks for more patience than this (`Retry-After`) is not asked again."""
    breaker_failures: int = Field(default=5, ge=1)
    """Failures in a row after which a source or a host is left alone for a while."""
    breaker_recovery_s: float = Field(default=60.0, gt=0)
    """Seconds for which it is left alone; then one request tells whether it goes on."""
    robots_ttl_s: float = Field(default=3600.0, gt=0, le=86_400)
    """Seconds for which a robots.txt stands; RFC 9309 allows a day at most."""
    robots_failure_ttl_s: float = Field(default=30.0, ge=0)
    """Seconds for which a robots.txt that could not be had keeps us from its host."""
    spool_dir: Path = Field(default_factory=lambda: Path(tempfile.gettempdir()))
    """Folder of temporary files; they have no name, so nothing of them outlives the process."""

    source_openverse_url: str = Field(default="https://api.openverse.org", min_length=1)
    """Base URL; `/v1/images/` is added."""
    source_commons_url: str = Field(default="https://commons.wikimedia.org/w/api.php", min_length=1)
    """Full URL of `api.php`."""
    source_wait_s: float = Field(default=90.0, ge=0)
    """Seconds a search waits at most when its service asks for patience; beyond, the chunk is tried
    again later."""

    @property
    def user_agent(self) -> str:
        """Who we are, and whom to write to."""
        version = importlib.metadata.version("pixcrawler-downloader")
        return f"{PRODUCT}/{version} ({self.contact}) aiohttp/{aiohttp.__version__}"
