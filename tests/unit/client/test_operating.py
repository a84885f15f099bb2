"""What operators do with the command and the SDK, against an API that notes what it is asked."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs

import pytest

from pixcrawler.client import AsyncPixCrawler, PixCrawler, moments, operating
from pixcrawler.client.errors import CommandError
from tests.unit.client.server import JOB, FakeApi

LINE = {
    "id": 3,
    "at": "2026-03-14T09:26:53Z",
    "owner": "ann",
    "actor": "ann",
    "key_id": "5f3a9c1e0b7d",
    "action": "job.extend",
    "subject": JOB,
    "job_id": JOB,
    "details": {"priority": {"before": 5, "after": 9}, "round": 2},
    "reason": "more",
}
AT_THE_DESK = LINE | {"id": 2, "actor": "", "key_id": "", "action": "key.create", "details": {}}


@pytest.fixture
def system(fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """An API, found through the environment."""
    monkeypatch.setenv("PIXCRAWLER_API_URL", fake.url)
    monkeypatch.setenv("PIXCRAWLER_API_KEY", "key")
    fake.documents["GET /v1/audit"] = {"items": [LINE, AT_THE_DESK], "next_cursor": None}
    return fake


def test_the_audit_log(system: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    """The latest last; who, what changed and why in a line. JSON as the API has it."""
    assert operating.audit("24h", "job", JOB, json=False) == 0
    shown = capsys.readouterr().out
    assert shown.index("(desk)") < shown.index("job.extend")
    assert operating.details(LINE) == "priority 5 → 9, round 2"
    assert operating.audit(None, None, None, json=True) == 0
    assert json.loads(capsys.readouterr().out)["items"] == [LINE, AT_THE_DESK]
    first, second = (parse_qs(asked.query) for asked in system.requests("/v1/audit"))
    day_ago = datetime.now(UTC) - timedelta(days=1)
    assert abs(datetime.fromisoformat(first["since"][0]) - day_ago) < timedelta(minutes=1)
    assert (first["action"], first["job_id"]) == (["job"], [JOB])
    assert second.keys() == {"limit"}


def test_since_when() -> None:
    """So long ago, or a time; anything else is refused with what would do."""
    for text, ago in {"90s": 90, "30m": 1800, "24h": 86_400, "7d": 604_800}.items():
        age = (datetime.now(UTC) - moments.since(text)).total_seconds()
        assert age == pytest.approx(ago, abs=5)
    assert moments.since("2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)
    with pytest.raises(CommandError, match="90s, 30m, 24h, 7d or a time"):
        moments.since("yesterday")


async def test_the_audit_log_for_programs(system: FakeApi) -> None:
    """Both faces of the SDK give the lines as values, since a time or for a while."""
    with PixCrawler(system.url, "key") as client:
        first, desk = client.audit(timedelta(hours=1), action="job", job_id=JOB)
    assert (first.id, first.details["round"], desk.actor) == (3, 2, "")
    async with AsyncPixCrawler(system.url, "key") as other:
        since = datetime(2026, 1, 31, tzinfo=UTC)
        assert [line.id async for line in other.audit(since)] == [3, 2]
    assert parse_qs(system.requests("/v1/audit")[-1].query)["since"] == [since.isoformat()]
