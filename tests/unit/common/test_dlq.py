"""Dead letters say where they come from, and know when they are too many."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from pixcrawler.common import dlq
from pixcrawler.common.context import RecordRef
from pixcrawler.common.dlq import Limiter, Mark, Provenance, Repeats
from pixcrawler.common.letters import Standing

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
    id="0123456789abcdef",
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


@given(st.integers(0, 2_000_000), st.integers(0, 2_000_000), st.integers(0, 2_000_000))
def test_a_letter_fits_into_a_record(key: int, value: int, header: int) -> None:
    """However large the parts and the reason are; what was cut is named, what is there is whole."""
    headers = [("a", b"a"), ("b", b"b" * header)]
    said = SAID._replace(message="m" * 3_000_000)
    record = dlq.letter(b"k" * key, b"v" * value, headers, said)
    size = sum(len(name) + len(text) for name, text in record.headers)
    assert len(record.key or b"") + len(record.value or b"") + size < 950_000
    cut = dlq.provenance(record.headers).cut.split(",")
    assert ("key" in cut) == (len(record.key or b"") < key)
    assert ("value" in cut) == (len(record.value or b"") < value)
    assert ("headers" in cut) == (len(dlq.original_headers(record.headers)) < 2)


def test_an_id_stays_with_the_fact() -> None:
    """A repetition has the same, another record another one, a replayed one that of its letter."""
    here, there = RecordRef("t", 0, 1, 5), RecordRef("t", 0, 2, 6)
    fact = [("ce_id", b"x"), ("ce_type", b"y"), ("ce_time", b"now")]
    later = [("ce_id", b"x"), ("ce_type", b"y"), ("ce_time", b"later")]
    one = dlq.letter_id(here, b"k", b"v", fact)
    assert one == dlq.letter_id(there, b"k", b"v", later)
    assert one != dlq.letter_id(here, b"k", b"w", fact)
    assert dlq.letter_id(here, b"k", b"v", ()) != dlq.letter_id(there, b"k", b"v", ())
    assert dlq.letter_id(there, b"z", None, [(dlq.ID, one.encode())]) == one
    assert dlq.letter_id(here, b"k", b"v", [(dlq.ID, b"nonsense")]) != "nonsense"


def test_repeats_are_forgotten_after_a_while_and_when_they_are_too_many() -> None:
    """So the memory of it stays small, and a fact that goes on failing is told again."""
    now = 0.0
    repeats = Repeats(10.0, at_most=2, clock=lambda: now)
    repeats.written("a")
    assert repeats.lately("a")
    assert not repeats.lately("b")
    now = 11.0
    assert not repeats.lately("a")
    for each in ("x", "y", "z"):
        repeats.written(each)
    assert [repeats.lately(each) for each in ("x", "y", "z")] == [False, True, True]


def test_a_mark_is_for_the_letters_before_it() -> None:
    """A letter that came while it was marked is open; the later of two marks counts."""
    letter = Standing().after(5, None)
    assert letter.state == "open"
    replayed = letter.after(7, Mark("a", "replayed", 5))
    assert replayed.state == "replayed"
    assert replayed.after(6, None).state == "open"
    assert replayed.after(8, Mark("a", "discarded", 5)).state == "discarded"
    assert replayed.after(6, Mark("a", "discarded", 5)).state == "replayed"
    record = dlq.mark(Mark("a", "replayed", 5), stage="planner", key=b"k")
    assert dlq.marked(record.headers) == Mark("a", "replayed", 5)
    assert dlq.marked(dlq.letter(b"k", b"v", record.headers, SAID).headers) is None
