"""What the tracker's Faust consumer watches over."""

import pytest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from pixcrawler.common import topics
from pixcrawler.tracker.rewind import RewindingThread


def test_the_changelog_is_no_stream_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads it once the table has recovered: only its connection is watched."""
    watched: list[tuple[str, str]] = []
    for name in ("verify_event_path", "verify_recovery_event_path"):

        def watch(_thread: object, _now: float, tp: TP, name: str = name) -> None:
            watched.append((name, tp.topic))

        monkeypatch.setattr(driver.AIOKafkaConsumerThread, name, watch)
    thread = object.__new__(RewindingThread)
    for topic in (topics.TRACKER_CHANGELOG, topics.TRACKER_EVENTS):
        thread.verify_event_path(0.0, TP(topic, 0))
    assert watched == [
        ("verify_recovery_event_path", topics.TRACKER_CHANGELOG),
        ("verify_event_path", topics.TRACKER_EVENTS),
    ]
