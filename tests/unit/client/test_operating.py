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


PAUSED = {
    "kind": "stage",
    "name": "downloader",
    "paused": True,
    "since": "2026-03-14T09:26:53Z",
    "reason": "why",
}
REPLICA = {"stage": "validator", "worker": "validator-1", "state": "drained", "alive": True}
REPLICA |= {"in_hand": 0, "started_at": LINE["at"], "seen_at": LINE["at"]}


@pytest.fixture
def stoppable(system: FakeApi) -> FakeApi:
    """The same with a stage, a source, a replica and a job."""
    job = {"job_id": JOB, "status": "running", "max_images": 1, "priority": 9}
    system.documents |= {
        "POST /v1/stages/downloader/pause": PAUSED,
        "POST /v1/sources/openverse/resume": PAUSED | {"kind": "source", "paused": False},
        "POST /v1/replicas/a%2Fb/drain": PAUSED | {"kind": "replica"},
        "GET /v1/controls": {"items": [PAUSED], "next_cursor": None},
        "GET /v1/replicas": {"items": [REPLICA, REPLICA | {"alive": False}], "next_cursor": None},
        f"GET /v1/jobs/{JOB}": job,
        f"PATCH /v1/jobs/{JOB}": job,
    }
    return system


def test_what_is_stopped(stoppable: FakeApi, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command says what is so then and how it ends; a replica that fell silent is told."""
    assert operating.steer("stage", "downloader", "pause", "why", json=False) == 0
    said = capsys.readouterr().out
    assert "stage downloader is paused since 2026-03-14 09:26:53Z (why)" in said
    assert "pixcrawler resume stage downloader" in said
    operating.steer("source", "openverse", "resume", None, json=False)
    assert "works again" in capsys.readouterr().out
    operating.replicas(json=False)
    shown = capsys.readouterr().out
    assert ("drained" in shown, "silent" in shown) == (True, True)
    operating.replicas(json=True)
    assert len(json.loads(capsys.readouterr().out)["items"]) == 2
    assert [asked.query for asked in stoppable.requests("/v1/stages/downloader/pause")] == [
        "reason=why"
    ]


async def test_what_is_stopped_for_programs(stoppable: FakeApi) -> None:
    """Both faces of the SDK pause, resume and list; a job gets another priority."""
    with PixCrawler(stoppable.url, "key") as client:
        assert client.pause("stage", "downloader", reason="why").paused
        assert not client.resume("source", "openverse").paused
        [paused] = client.controls()
        assert (paused.name, paused.reason) == ("downloader", "why")
        assert [replica.alive for replica in client.replicas()] == [True, False]
        assert client.job(JOB).prioritize(9, reason="late").info.priority == 9
    async with AsyncPixCrawler(stoppable.url, "key") as other:
        assert (await other.pause("stage", "downloader")).paused
        assert (await other.replicas())[0].state == "drained"
        assert (await (await other.job(JOB)).prioritize(9)).info.priority == 9
    first = stoppable.requests(f"/v1/jobs/{JOB}")[1]
    assert (json.loads(first.body), first.query) == ({"priority": 9}, "reason=late")
