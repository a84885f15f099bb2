"""What the downloader can be told, and how it complains."""

from ipaddress import ip_network

import pytest

from pixcrawler.common.errors import SettingsError
from pixcrawler.common.settings import load
from pixcrawler.downloader.settings import Settings


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXCRAWLER_DATABASE_URL", "postgresql+asyncpg://u:p@h/d")


def test_the_documented_defaults() -> None:
    """As users rely on them; Wikimedia's media host gets two connections."""
    told = load(Settings)
    assert (told.fetch_timeout_s, told.fetch_deadline_s) == (10, 30)
    assert (told.fetch_max_bytes, told.fetch_per_host) == (52_428_800, 8)
    assert told.fetch_allow_networks == ()
    assert dict(told.fetch_host_limits)["upload.wikimedia.org"] == 2
    assert told.source_openverse_url == "https://api.openverse.org"
    assert told.source_commons_url == "https://commons.wikimedia.org/w/api.php"
    assert "@" in told.contact
    assert told.contact in told.user_agent


def test_lists_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks and limits of hosts, with or without spaces."""
    monkeypatch.setenv("PIXCRAWLER_FETCH_ALLOW_NETWORKS", "127.0.0.1/32, fd00::/8,")
    monkeypatch.setenv("PIXCRAWLER_FETCH_HOST_LIMITS", "A.example=1, b.example=3")
    told = load(Settings)
    assert told.fetch_allow_networks == (ip_network("127.0.0.1/32"), ip_network("fd00::/8"))
    assert told.fetch_host_limits == (("a.example", 1), ("b.example", 3))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FETCH_ALLOW_NETWORKS", "localhost"),
        ("FETCH_ALLOW_NETWORKS", "127.0.0.1/8"),
        ("FETCH_HOST_LIMITS", "a.example"),
        ("FETCH_HOST_LIMITS", "a.example=0"),
        ("FETCH_TIMEOUT_S", "0"),
        ("FETCH_PER_HOST", "none"),
        ("CONTACT", ""),
    ],
)
def test_a_wrong_value_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """It names the variable."""
    monkeypatch.setenv(f"PIXCRAWLER_{name}", value)
    with pytest.raises(SettingsError, match=f"PIXCRAWLER_{name}"):
        load(Settings)
