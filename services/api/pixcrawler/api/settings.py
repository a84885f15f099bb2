"""What the api can be told; every variable begins with `PIXCRAWLER_`."""

import hashlib
import re
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from pixcrawler.common.capacity import ResourceSettings
from pixcrawler.common.line import DeadlineSettings
from pixcrawler.common.settings import Networks, ServiceSettings

MIB = 1 << 20
_ORIGIN = re.compile(r"https?://[^/?#\s]+|\*")


def _listed(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(item.strip() for item in value.split(",") if item.strip())


def _origin(value: str) -> str:
    if not _ORIGIN.fullmatch(value):
        raise ValueError(f"{value!r} is no origin such as https://example.org")
    return value


Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_origin)], ...], NoDecode, BeforeValidator(_listed)
]


class Settings(ResourceSettings, DeadlineSettings, ServiceSettings):
    """The api's settings; capacity and the size of new jobs' chunks are `ResourceSettings`."""

    http_port: int = Field(default=8000, ge=0, le=65_535)
    """Port of the API, its health and its metrics; 0 takes a free one and logs it."""
    api_public_url: str = ""
    """Base of the links that the api serves itself, such as `https://images.example.org`; as the
    request came in if empty."""
    api_body_limit_bytes: int = Field(default=32 * MIB, ge=1024)
    """A larger request is refused with 413; a list of 100,000 URLs has about 10 MB."""
    api_cors_origins: Origins = ()
    """Comma-separated origins, such as `https://example.org`, whose pages may use the API from a
    browser; `*` is any; none if empty. Keys travel in headers, never in cookies."""
    api_list_limit_bytes: int = Field(default=4096 * MIB, ge=1024)
    """A larger list of URLs, as it is uploaded, is refused with 413."""
    api_list_max_unpacked_bytes: int = Field(default=16_384 * MIB, ge=1024)
    """Likewise with 422, when it is unpacked."""
    api_list_max_rows: int = Field(default=10_000_000, ge=1, le=2**31 - 1)
    """A longer list of URLs is refused with 422."""
    api_list_memory_bytes: int = Field(default=1024 * MIB, ge=256 * MIB)
    """Memory that the reading of one list may take; a Parquet file that needs more is refused."""
    api_list_uploads: int = Field(default=2, ge=1)
    """Lists that are taken in at a time by one replica; each has a process of its own."""
    api_upload_dir: Path = Field(default_factory=lambda: Path(tempfile.gettempdir()))
    """Folder of temporary files without a name: a Parquet list as it came, and 16 bytes a row."""
    api_max_images: int = Field(default=10_000_000, ge=1, le=2**31 - 1)
    """The most that one job may ask for."""
    api_requests_per_minute: int = Field(default=60_000, ge=0)
    """Requests of one key in a minute, at one replica; 429 beyond, and 0 is without limit. This and
    the next two are what a key may do that has no limits of its own (`pixcrawler keys create`)."""
    api_active_jobs: int = Field(default=10_000, ge=0)
    """Jobs of one owner that are not finished; 429 beyond, and 0 is without limit."""
    api_images_per_day: int = Field(default=100_000_000, ge=0)
    """Images that one owner asks for in 24 hours; 429 beyond, and 0 is without limit."""
    api_link_expires_s: int = Field(default=3600, ge=1)
    """Seconds that a link to a file of a dataset works."""
    api_link_secret: str = Field(default="", repr=False)
    """Signs links to files that the api serves itself; the same for every replica. Derived from the
    database's URL, password included, if empty."""
    api_heartbeat_s: float = Field(default=15.0, gt=0)
    """Seconds after which a stream of events without news says that it is still there; shorter than
    the idle time of what is between here and clients (60 s is common)."""
    api_max_streams: int = Field(default=2_000, ge=1)
    """Streams of events that one replica holds open; 503 beyond. Each takes a connection and some
    30 kB."""
    fetch_allow_networks: Networks = ()
    """Comma-separated networks that webhooks may reach although they are private; the same variable
    tells the downloader."""
    api_webhook_timeout_s: float = Field(default=15.0, gt=0)
    """Seconds that a receiver has for its answer."""
    api_webhook_backoff_s: float = Field(default=5.0, gt=0)
    """Seconds after which an attempt that failed is repeated, doubled each time."""
    api_webhook_backoff_max_s: float = Field(default=14_400.0, gt=0)
    """Seconds between two attempts at most."""
    api_webhook_give_up_s: float = Field(default=86_400.0, ge=0)
    """Seconds after a round's end beyond which no further attempt begins."""
    api_webhook_concurrency: int = Field(default=32, ge=1)
    """Deliveries that a replica has under way at a time."""
    api_webhook_poll_s: float = Field(default=2.0, gt=0)
    """Seconds between two looks for deliveries that are due."""
    api_tombstone_days: int = Field(default=35, ge=1)
    """Days that a deleted job is remembered; longer than the longest retention of a topic (30), so
    that a replayed event finds it deleted and not unknown."""
    api_audit_days: int = Field(default=400, ge=1)
    """Days that a line of the audit log is kept."""

    @property
    def link_key(self) -> bytes:
        """The key that signs links."""
        secret = self.api_link_secret or self.database
        return hashlib.sha256(b"pixcrawler links\0" + secret.encode()).digest()
