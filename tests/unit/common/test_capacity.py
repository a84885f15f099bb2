import pytest

from pixcrawler.common.capacity import ResourceSettings, describe, require_capacity
from pixcrawler.common.errors import SettingsError
from pixcrawler.common.settings import ServiceSettings


def test_defaults() -> None:
    """35 as it comes; with 8,000 MB of temporary storage 32."""
    assert ResourceSettings().max_chunks == 35
    assert ResourceSettings(resource_max_temp_storage_mb=8000).max_chunks == 32


def test_description() -> None:
    """25 of 35: available 10, utilization 71.4."""
    assert describe(25, 35, "local") == (25, 35, 10, 71.4, "local")


def test_nothing_fits() -> None:
    """A capacity below one chunk is one line that names what to change."""
    with pytest.raises(SettingsError, match="RESOURCE_MAX_TEMP_STORAGE_MB") as raised:
        require_capacity(ResourceSettings(resource_max_temp_storage_mb=100))
    assert "\n" not in str(raised.value)


def test_mixed_into_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables are read like any other of a service."""

    class Settings(ResourceSettings, ServiceSettings):
        """Both."""

    monkeypatch.setenv("PIXCRAWLER_DATABASE_URL", "postgresql+asyncpg://x")
    monkeypatch.setenv("PIXCRAWLER_RESOURCE_MAX_CONCURRENT_CHUNKS", "3")
    assert Settings().max_chunks == 3
