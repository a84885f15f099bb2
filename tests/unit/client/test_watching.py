import json
from typing import Any

import pytest

from pixcrawler.client import live, output, watching
from pixcrawler.client.api import Api
from tests.unit.client.server import JOB, FakeApi

CHUNK = {"index": 3, "status": "processing", "error_message": "commons: no answer"}


def progress(status: str = "running", **images: Any) -> dict[str, Any]:
    return {
        "job_id": JOB,
        "status": status,
        "progress": 100.0 if status == "completed" else 12.5,
        "total_chunks": 4,
        "completed_chunks": 1,
        "failed_chunks": 1,
        "images": {
            "requested": 40,
            "candidates": 80,
            "downloaded": 50,
            "valid": 20,
            "dropped": {"http_error": 6, "corrupt": 4},
            "bytes": 1,
            **images,
        },
        "eta_s": None,
        "updated_at": "2026-01-01T00:00:00Z",
    }


@pytest.fixture
def watched(fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """A job that is looked at often: pending, running (twice the same), completed."""
    monkeypatch.setattr(live, "POLL_S", 0.01)
    later = {**progress(), "updated_at": "2026-01-01T00:00:09Z", "eta_s": 3}
    fake.documents[f"GET /v1/jobs/{JOB}/progress"] = [
        progress("pending"),
        progress(),
        later,
        progress("completed", valid=40),
    ]
    fake.documents[f"GET /v1/jobs/{JOB}/chunks"] = {"items": [], "next_cursor": None}
    return fake


def test_steps() -> None:
    """What the downloader decided is downloaded; what has any outcome is validated."""
    assert watching.steps(progress()) == {
        "chunks": (2, 4),
        "download": (56, 80),
        "validate": (30, 80),
        "upload": (20, 40),
    }


def test_no_step_exceeds_its_total() -> None:
    """Counts that arrive before the candidates do are held back: no bar runs over."""
    for count, total in watching.steps(progress(candidates=10)).values():
        assert count <= total


@pytest.mark.usefixtures("watched")
def test_each_change_once_and_the_end_last(api: Api) -> None:
    """A new time alone is no change."""
    seen = [p["status"] for p in watching.progress_of(api, JOB)]
    assert seen == ["pending", "running", "completed"]


@pytest.mark.usefixtures("watched")
def test_documents_for_machines(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line on stdout is one JSON object, and nothing else is there."""
    final = watching.follow(api, JOB, json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["progress"] * 3
    assert lines[-1] == {"event": "progress", **final}


@pytest.mark.usefixtures("watched")
def test_plain_lines_without_a_terminal(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """They are for people: stderr. The last state is always among them."""
    watching.follow(api, JOB, json=False)
    out, err = capsys.readouterr()
    assert out == ""
    first, *_, last = err.splitlines()
    assert first.startswith("pending ")
    assert last.startswith("completed  100.0 %  chunks 2/4 · download 56/80")


def test_a_line_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    """What people would read twice is said once, whatever else has changed."""
    lines = watching.Lines()
    lines.show(progress("completed"))
    lines.show({**progress("completed"), "active_chunks": 7})
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("eta_s", "words"),
    [
        (None, ""),
        (0.2, "about 1 s left"),
        (59.4, "about 59 s left"),
        (90, "about 2 min left"),
        (5400, "about 1 h 30 min left"),
    ],
)
def test_how_long_it_will_take(eta_s: float | None, words: str) -> None:
    """As far as it is known, and only while it runs."""
    assert watching.time_left({**progress(), "eta_s": eta_s}) == words
    assert watching.time_left({**progress("completed"), "eta_s": eta_s}) == ""


@pytest.mark.usefixtures("watched")
def test_bars_on_a_terminal(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal there is one bar for each step; the last picture stays."""
    with output.people.capture() as captured, monkeypatch.context() as patch:
        patch.setattr(output.people, "_force_terminal", True)
        watching.follow(api, JOB, json=False)
        with watching.Bars() as bars:
            bars.show({**progress(), "eta_s": 200})
    assert "about 3 min left" in captured.get()
    for name in ("chunks", *watching.STEPS):
        assert name in captured.get()
    assert "40/40" in captured.get()


def test_a_reason_is_told_once(fake: FakeApi, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many chunks it holds up and however often one looks."""
    monkeypatch.setattr(watching, "TROUBLE_S", 0.0)
    fake.documents[f"GET /v1/jobs/{JOB}/chunks"] = [
        {"items": [CHUNK, {**CHUNK, "index": 4}, {**CHUNK, "error_message": None}]},
        {"items": [{**CHUNK, "status": "failed", "error_message": "deadline"}]},
        {"items": [CHUNK]},
    ]
    told: list[str] = []
    troubles = watching.Troubles(api, JOB, told.append)
    troubles.look()
    troubles.look()
    assert told == ["chunk 3 is tried again: commons: no answer", "chunk 3 failed: deadline"]
    queries = [asked.query for asked in fake.asked[:2]]
    assert queries == ["status=processing&limit=20", "status=failed&limit=20"]


def test_one_look_now_and_then(watched: FakeApi, api: Api) -> None:
    """Looking for trouble costs the API two short lists in five seconds at most."""
    watching.follow(api, JOB, json=True)
    assert len(watched.requests(f"/v1/jobs/{JOB}/chunks")) == 2


@pytest.mark.parametrize(
    ("status", "code"), [("completed", 0), ("incomplete", 3), ("failed", 1), ("cancelled", 1)]
)
def test_exit_codes(status: str, code: int) -> None:
    """Every terminal status has the exit code that is promised."""
    assert watching.EXIT_CODES[status] == code
    assert set(watching.EXIT_CODES) == watching.TERMINAL
