"""Every event that was ever published can still be read.

The files were written once and are never changed: evolution is additive. A new event, or a new
version of one, gets a new file.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pixcrawler.common import events
from pixcrawler.common.errors import Poison
from pixcrawler.common.events import ALL, Event

FILES = sorted(Path(__file__).parent.parent.joinpath("golden").glob("*.json"))


def records() -> list[Any]:
    """(topic, record) of every file, named after it."""
    found = []
    for file in FILES:
        golden = json.loads(file.read_text("utf-8"))
        for number, record in enumerate(golden["records"]):
            found.append(pytest.param(golden["topic"], record, id=f"{file.stem}-{number}"))
    return found


def read(topic: str, record: dict[str, Any]) -> Event:
    """The event of a golden record."""
    value = json.dumps(record["value"]).encode()
    headers = [(name, text.encode()) for name, text in record["headers"].items()]
    return events.decode(topic, record["key"].encode(), value, headers)


@pytest.mark.parametrize(("topic", "record"), records())
def test_it_parses_and_keeps_its_id(topic: str, record: dict[str, Any]) -> None:
    """The same fact has the same `ce_id` for ever, or repetitions would look new."""
    event = read(topic, record)
    assert event.event_id == record["headers"]["ce_id"]
    assert event.key == record["key"]


@pytest.mark.parametrize(("topic", "record"), records())
def test_it_round_trips(topic: str, record: dict[str, Any]) -> None:
    """Written again, an old record says everything that it said; new fields may be added."""
    event = read(topic, record)
    headers = record["headers"]
    again = events.encode(
        event,
        source=headers["ce_source"],
        traceparent=headers["traceparent"],
        at=datetime.fromisoformat(headers["ce_time"]),
    )
    assert events.decode(*again) == event
    assert {name: text.decode() for name, text in again.headers} == headers
    assert again.value is not None
    assert contains(json.loads(again.value), record["value"])


@pytest.mark.parametrize(("topic", "record"), records())
def test_unknown_fields_are_ignored(topic: str, record: dict[str, Any]) -> None:
    """An older reader is not stopped by what a newer writer adds."""
    newer = {**record, "value": {**record["value"], "from_the_future": {"x": [1]}}}
    assert read(topic, newer) == read(topic, record)


def test_every_event_has_a_golden_file() -> None:
    """Of its present version."""
    there = {file.stem for file in FILES}
    assert there >= {f"{event.topic}.v{event.version}" for event in ALL}


def test_a_record_without_headers_is_read() -> None:
    """A person can write one by hand."""
    event = events.decode("job.cancelled", None, b'{"job_id": "j"}')
    assert event == events.JobCancelled(job_id="j")


@pytest.mark.parametrize(
    ("topic", "key", "value", "headers"),
    [
        ("no.such.topic", b"k", b"{}", ()),
        ("job.cancelled", b"j", None, ()),
        ("job.cancelled", b"j", b"{", ()),
        ("job.cancelled", b"j", b"{}", ()),
        ("job.cancelled", b"other", b'{"job_id": "j"}', ()),
        ("job.cancelled", b"j", b'{"job_id": "j"}', (("ce_type", b"io.pixcrawler.other.v1"),)),
        ("chunk.downloaded", b"x", b'{"chunk_id": "x", "attempt": 1}', ()),
        ("job.cancelled", b"j", b"\xff\xfe", ()),
    ],
)
def test_what_nobody_can_read_is_poison(
    topic: str, key: bytes, value: bytes | None, headers: tuple[tuple[str, bytes], ...]
) -> None:
    """And never anything else, or the consumer loop would take it for trouble that passes."""
    with pytest.raises(Poison):
        events.decode(topic, key, value, headers)


def contains(whole: Any, part: Any) -> bool:
    """Whether everything in the part is in the whole."""
    if isinstance(part, dict):
        return all(name in whole and contains(whole[name], part[name]) for name in part)
    return bool(whole == part)
