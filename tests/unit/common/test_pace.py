"""How a stage's pace follows from what Kafka says; commits as the broker writes them."""

import struct
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.structs import TopicPartition

from pixcrawler.common import pace
from pixcrawler.common.pace import Commit, Ends, Pace, Replica, Seen

NOW = 1_000_000_000
TP = TopicPartition("chunk.validated", 3)
READS = {"uploader": ("chunk.validated", "job.planned")}


def seen(
    ends: Ends,
    committed: int | None,
    history: Sequence[Commit] | None = (),
    written: Mapping[Any, int] | None = None,
) -> Seen:
    """One partition of the uploader's, looked at over a minute."""
    key = ("uploader", TP)
    return Seen(
        now_ms=NOW,
        window_s=60.0,
        partitions={TP: ends},
        committed={} if committed is None else {key: committed},
        written=written or {},
        history=None if history is None else {key: history},
        members={"uploader": (Replica("uploader-1", "10.0.0.1", 1),)},
    )


def ago(seconds: float) -> int:
    """Then, in ms since the epoch."""
    return NOW - round(seconds * 1000)


@pytest.mark.parametrize(
    ("ends", "committed", "history", "expected"),
    [
        # It has done 30 of the 60 that came, and 40 wait.
        (Ends(0, 100, 40), 60, [Commit(ago(90), 30), Commit(ago(5), 60)], ("falling_behind", None)),
        # It has done 30 more than the 20 that came: 40 more at half a record a second.
        (Ends(0, 100, 80), 60, [Commit(ago(70), 10), Commit(ago(5), 60)], ("catching_up", 80.0)),
        (Ends(0, 100, 80), 98, [Commit(ago(70), 78), Commit(ago(5), 98)], ("keeping_up", None)),
        (Ends(0, 100, 80), 50, [Commit(ago(70), 50)], ("standing_still", None)),
        (Ends(0, 100, 80), None, [], ("standing_still", None)),
        (Ends(0, 100, 80), 100, [Commit(ago(5), 100)], ("up_to_date", 0.0)),
        (Ends(0, 100, 80), 50, None, (None, None)),
        # Idle for longer than the history goes back: it stood at the end of what there was.
        (Ends(0, 100, 60), 90, [Commit(ago(30), 70), Commit(ago(1), 90)], ("falling_behind", None)),
        # What was deleted by age is not waited for.
        (Ends(95, 100, 100), 10, [], ("standing_still", None)),
    ],
)
def test_states(
    ends: Ends,
    committed: int | None,
    history: Sequence[Commit] | None,
    expected: tuple[str | None, float | None],
) -> None:
    """Each follows from lag, what came and what went; an end is promised only where more goes."""
    written = {("uploader", TP): ago(40)}
    (stage,) = pace.assess(seen(ends, committed, history, written), READS)
    assert (stage.total.state, stage.total.until_s) == expected
    assert stage.topics["chunk.validated"] == stage.total
    assert stage.topics["job.planned"].lag == 0
    assert stage.replicas == (Replica("uploader-1", "10.0.0.1", 1),)


def test_numbers() -> None:
    """Records, the age of the oldest, and rates over the window."""
    history = [Commit(ago(90), 30), Commit(ago(5), 60)]
    told = seen(Ends(0, 100, 40), 60, history, {("uploader", TP): ago(40)})
    (stage,) = pace.assess(told, READS)
    assert stage.total == Pace(lag=40, oldest_s=40.0, came=60, went=30, window_s=60.0)
    assert (stage.total.come, stage.total.go) == (1.0, 0.5)


def test_a_record_that_came_just_now_is_no_standstill() -> None:
    """Work takes its time: a stage that has done nothing yet is told of after some seconds."""
    told = seen(Ends(0, 1, 0), None, [], {("uploader", TP): ago(3)})
    (stage,) = pace.assess(told, READS)
    assert stage.total.state == "keeping_up"


def text(value: str) -> bytes:
    """As Kafka writes it: its length, then its bytes."""
    return struct.pack(">h", len(value)) + value.encode()


def test_the_history_is_read_as_the_broker_writes_it() -> None:
    """Commits are told from what else is there: tombstones, and what is said of a group."""
    key = struct.pack(">h", 1) + text("uploader") + text(TP.topic) + struct.pack(">i", TP.partition)
    value = struct.pack(">hqi", 3, 42, -1) + text("") + struct.pack(">q", NOW)
    records = [
        SimpleNamespace(key=key, value=value, timestamp=7),
        SimpleNamespace(key=key, value=None, timestamp=8),
        SimpleNamespace(key=struct.pack(">h", 2) + text("uploader"), value=b"\0\3", timestamp=9),
    ]
    found: dict[tuple[str, TopicPartition], list[Commit]] = {}
    for record in records:
        pace.remember(found, record)
    assert found == {("uploader", TP): [Commit(7, 42)]}


@pytest.mark.parametrize(
    ("group", "hashed"), [("hello", 99162322), ("polygenelubricants", -(1 << 31)), ("", 0)]
)
def test_where_a_group_is(group: str, hashed: int) -> None:
    """Java's hash, which the broker finds a group's partition by."""
    assert pace.java_hash(group) == hashed
