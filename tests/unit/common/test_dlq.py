"""Dead letters say where they come from, and know when they are too many."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pixcrawler.common import dlq
from pixcrawler.common.dlq import Limiter, Provenance

SAID = Provenance(
    topic="chunk.planned",
    partition=3,
    offset=42,
    timestamp_ms=1_700_000_000_123,
    group="downloader",
    stage="downloader",
    worker="here-1",
    exception="ValidationError",
    message="not a ChunkPlanned: …",
    time=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
)


@given(st.binary(), st.binary(), st.lists(st.tuples(st.text(min_size=1), st.binary())))
def test_a_letter_is_the_original_and_its_provenance(
    key: bytes, value: bytes, headers: list[tuple[str, bytes]]
) -> None:
    """parse(dump(x)) == x, and the original's bytes are untouched."""
    headers = [each for each in headers if not each[0].startswith(dlq.PREFIX)]
    record = dlq.letter(key, value, headers, SAID)
    assert record.topic == "downloader.dlq"
    assert (record.key, record.value) == (key, value)
    assert dlq.provenance(record.headers) == SAID
    assert dlq.original_headers(record.headers) == tuple(headers)


def test_a_second_death_replaces_the_first() -> None:
    """A letter that was replayed and dies again tells of its last death only."""
    first = dlq.letter(b"k", b"v", [("a", b"b")], SAID)
    again = dlq.letter(b"k", b"v", first.headers, SAID._replace(offset=99))
    assert dlq.provenance(again.headers).offset == 99
    assert len(again.headers) == len(first.headers)


def test_a_run_of_dead_letters_is_too_many() -> None:
    """A good record in between starts the count again."""
    limiter = Limiter(run=3, ratio=1.0, window=100)
    assert [bool(limiter.dead()) for _ in range(3)] == [False, False, False]
    limiter.good()
    assert [bool(limiter.dead()) for _ in range(4)] == [False, False, False, True]


def test_a_share_of_dead_letters_is_too_much() -> None:
    """Once enough has been seen, and only among the last records."""
    limiter = Limiter(run=1000, ratio=0.5, window=30)
    for _ in range(15):
        limiter.good()
    verdicts = [limiter.dead() for _ in range(16)]
    assert verdicts[-1] == "16 of the last 30 records are dead letters"
    assert not any(verdicts[:-1])
