from datetime import UTC, datetime

from pixcrawler.common.context import RecordRef
from pixcrawler.planner import history

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_step_is_begun_once() -> None:
    """A repeated record only tells again where the input stands."""
    steps = history.begun((), 1, "validator", NOW)
    again = history.begun(steps, 1, "validator", LATER, record=RecordRef("t", 2, 7, 0))
    assert [(s.started_at, s.topic, s.offset) for s in again] == [(NOW, "t", 7)]


def test_a_step_ends_once() -> None:
    """How a step ended stays, whatever is said later."""
    steps = history.ended((), 1, "downloader", NOW, state="failed", error="blob_store")
    assert history.ended(steps, 1, "downloader", LATER, state="done") == steps
    assert history.closed(steps, LATER, state="lost") == steps


def test_closing_ends_what_runs() -> None:
    """What still runs ends with the chunk."""
    steps = history.begun((), 1, "uploader", NOW)
    assert [s.state for s in history.closed(steps, LATER, state="done")] == ["done"]


def test_round_trip() -> None:
    """What is written is read back as it was."""
    steps = history.begun((), 3, "uploader", NOW, topic="chunk.validated")
    assert history.parse(history.dump(steps)) == steps
