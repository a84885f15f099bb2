import pytest

from pixcrawler.common.errors import SettingsError
from pixcrawler.planner.settings import Settings
from pixcrawler.planner.tools import policy_from


def settings(**values: object) -> Settings:
    return Settings.model_validate({"database_url": "postgresql+asyncpg://x/y", **values})


def test_defaults() -> None:
    """As it comes: 35 slots, three retries, fifteen minutes of silence."""
    policy = policy_from(settings())
    assert (policy.capacity, policy.max_retries, policy.deadline_s) == (35, 3, 900.0)
    assert policy.release_interval_s == 0.1


def test_no_capacity() -> None:
    """A capacity below one chunk stops the planner with one line."""
    with pytest.raises(SettingsError, match="PIXCRAWLER_RESOURCE_") as raised:
        policy_from(settings(resource_max_concurrent_chunks=0))
    assert "\n" not in str(raised.value)
