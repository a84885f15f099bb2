"""The settings that users rely on: their names, and their defaults."""

from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic_settings import BaseSettings

from pixcrawler.api.settings import Settings as Api
from pixcrawler.common.errors import SettingsError
from pixcrawler.common.settings import load
from pixcrawler.downloader.settings import Settings as Downloader
from pixcrawler.planner.settings import Settings as Planner
from pixcrawler.tracker.settings import Settings as Tracker
from pixcrawler.uploader.settings import Settings as Uploader
from pixcrawler.validator.settings import Settings as Validator

URL = "postgresql+asyncpg://u:p@h/d"
SERVICES = (Api, Planner, Downloader, Validator, Uploader, Tracker)


class Fixed(NamedTuple):
    """A setting: whose, its name, its default; what it may be told, and what that means."""

    service: type[BaseSettings]
    name: str
    default: object
    text: str
    value: object

    def __str__(self) -> str:
        return f"{self.service.__module__.split('.')[1]}-{self.name.lower()}"


_ROWS: list[tuple[type[BaseSettings], str, object, str, object]] = [
    *(
        row
        for service in SERVICES
        for row in (
            (service, "KAFKA_BOOTSTRAP_SERVERS", "localhost:9092", "h:1", "h:1"),
            (service, "BLOB_URL", "", "file:///x", "file:///x"),
            (service, "LOG_LEVEL", "info", "debug", "debug"),
            (service, "LOG_FORMAT", "text", "json", "json"),
        )
    ),
    *((service, "HTTP_PORT", 0, "81", 81) for service in SERVICES if service is not Api),
    (Api, "HTTP_PORT", 8000, "81", 81),
    *(
        row
        for service in (Api, Planner)
        for row in (
            (service, "RESOURCE_ENVIRONMENT", "local", "cloud", "cloud"),
            (service, "RESOURCE_MAX_CONCURRENT_CHUNKS", 35, "3", 3),
            (service, "RESOURCE_MAX_TEMP_STORAGE_MB", 20_000, "3", 3),
            (service, "RESOURCE_CHUNK_SIZE_IMAGES", 500, "3", 3),
            (service, "RESOURCE_ESTIMATED_IMAGE_SIZE_MB", 0.5, "3", 3),
        )
    ),
    (Planner, "RESOURCE_RELEASE_INTERVAL_S", 0.1, "3", 3),
    (Planner, "CHUNK_MAX_RETRIES", 3, "4", 4),
    *((service, "CHUNK_DEADLINE_S", 900, "4", 4) for service in (Api, Planner)),
    (Downloader, "BREAKER_FAILURES", 5, "4", 4),
    (Downloader, "BREAKER_RECOVERY_S", 60, "4", 4),
    (Downloader, "FETCH_ALLOW_NETWORKS", (), "10.0.0.0/8", (ip_network("10.0.0.0/8"),)),
    (Downloader, "FETCH_TIMEOUT_S", 10, "4", 4),
    (Downloader, "FETCH_DEADLINE_S", 30, "4", 4),
    (Downloader, "FETCH_MAX_BYTES", 52_428_800, "4", 4),
    (Downloader, "FETCH_PER_HOST", 8, "4", 4),
    (Downloader, "SOURCE_OPENVERSE_URL", "https://api.openverse.org", "http://o", "http://o"),
    (
        *(Downloader, "SOURCE_COMMONS_URL", "https://commons.wikimedia.org/w/api.php"),
        *("http://c", "http://c"),
    ),
    (Validator, "MAX_PIXELS", 178_956_970, "4", 4),
]
FIXED = [Fixed(*row) for row in _ROWS]


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set but what has no default."""
    for fixed in FIXED:
        monkeypatch.delenv(f"PIXCRAWLER_{fixed.name}", raising=False)
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING", raising=False)
    monkeypatch.delenv("AZURE_CONTAINER_NAME", raising=False)
    monkeypatch.setenv("PIXCRAWLER_DATABASE_URL", URL)


@pytest.mark.parametrize("fixed", FIXED, ids=str)
def test_the_fixed_settings(monkeypatch: pytest.MonkeyPatch, fixed: Fixed) -> None:
    """Each has its documented default, and is read from its documented variable."""
    field = fixed.name.lower()
    assert getattr(load(fixed.service), field) == fixed.default
    monkeypatch.setenv(f"PIXCRAWLER_{fixed.name}", fixed.text)
    assert getattr(load(fixed.service), field) == fixed.value


@pytest.mark.parametrize("service", SERVICES)
def test_without_a_database_nothing_starts(
    monkeypatch: pytest.MonkeyPatch, service: type[BaseSettings]
) -> None:
    """One line that names the variable."""
    monkeypatch.delenv("PIXCRAWLER_DATABASE_URL")
    with pytest.raises(SettingsError, match=r"^PIXCRAWLER_DATABASE_URL: [^\n]+$"):
        load(service)


def test_where_blobs_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the data directory; in Azure where only the connection string is set; else as told."""
    monkeypatch.setenv("PIXCRAWLER_DATA_DIR", str(tmp_path))
    assert load(Uploader).effective_blob_url == f"file://{tmp_path}/blobs"
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=a")
    assert load(Uploader).effective_blob_url == "azure://datasets"
    monkeypatch.setenv("AZURE_CONTAINER_NAME", "mine")
    assert load(Uploader).effective_blob_url == "azure://mine"
    monkeypatch.setenv("PIXCRAWLER_BLOB_URL", "azure://other")
    assert load(Uploader).effective_blob_url == "azure://other"
