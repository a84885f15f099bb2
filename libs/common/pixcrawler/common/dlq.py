"""Dead letters: records that no code here can read, kept with all that is known of them.

A letter is the original record, key, value and headers, and further headers that say where it
stood and what was wrong. There is a limit: when everything looks broken it is the code that is
broken, and then the stage stops instead of moving a topic into its dead letters.

A letter has an id, which stays the same when the record is delivered again, and when it is
replayed and dies again. What people did with a letter is remembered by a *mark*: a further record
in the same topic that names the letter's id (`letters.py` reads both).
"""

import hashlib
import json
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple, get_args

from pixcrawler.common import topics
from pixcrawler.common.context import RecordRef
from pixcrawler.common.events import Headers, Record, header

State = Literal["open", "replayed", "discarded"]

PREFIX = "dlq_"
ID = PREFIX + "id"
"""Header with the id of a letter; a replayed record carries it, so that it keeps the id."""
MARK = PREFIX + "mark"
"""Header of a mark: the id of the letter that it is about."""
STATE = PREFIX + "state"
UPTO = PREFIX + "upto"
LARGEST = 900_000
"""Bytes of a letter's key, value and original headers: with its own headers it has to stay below
Kafka's 1 MiB (`message.max.bytes`)."""
KEY_AT_MOST = 10_000
HEADERS_AT_MOST = 100_000
MESSAGE_AT_MOST = 2_000
"""Characters of the reason: some errors quote the whole value."""
_HEADER_COSTS = 12
"""Bytes of a header beside its name and value, at most."""
_RATIO_NEEDS = 20
"""Records that must have been seen before a share of them means anything."""
_AN_ID = re.compile("[0-9a-f]{16}")


class Provenance(NamedTuple):
    """Where a dead letter comes from and why; each field is a header `dlq_<field>`.

    `cut` names what did not fit into the letter (`key`, `value`, `headers`): the original, as long
    as it is retained, stands where the letter says.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    group: str
    stage: str
    worker: str
    exception: str
    message: str
    time: datetime
    id: str = ""
    cut: str = ""


class Mark(NamedTuple):
    """What people did with the letters of an id, up to the one at this offset."""

    id: str
    state: State
    upto: int


def letter(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
    provenance: Provenance,
) -> Record:
    """The dead letter of a record; headers of an earlier death are replaced.

    What is too large for a letter is cut, and `cut` says so.
    """
    original = original_headers(headers)
    kept_key = None if key is None else key[:KEY_AT_MOST]
    kept_headers = _fitting(original)
    room = LARGEST - len(kept_key or b"") - _size(kept_headers)
    # No client of ours publishes a record with neither: an empty value stands for none.
    kept_value = (None if key is not None else b"") if value is None else value[:room]
    cut = [
        *(["key"] if kept_key != key else []),
        *(["value"] if kept_value != value else []),
        *(["headers"] if len(kept_headers) < len(original) else []),
    ]
    message = provenance.message[:MESSAGE_AT_MOST]
    if value is not None and "value" in cut:
        message += f" (the first {room} of {len(value)} bytes)"
    said = provenance._replace(message=message, cut=",".join(cut))
    topic = topics.dead_letters(provenance.stage)
    return Record(topic, kept_key, kept_value, kept_headers + _said(said))


def bare_letter(provenance: Provenance) -> Record:
    """A letter with nothing but its provenance, for a broker that does not take the other."""
    said = provenance._replace(
        message=provenance.message[:MESSAGE_AT_MOST], cut="key,value,headers"
    )
    return Record(topics.dead_letters(provenance.stage), None, b"", _said(said))


def mark(said: Mark, *, stage: str, key: bytes | None) -> Record:
    """The record that remembers what became of a letter; keyed like the letter."""
    value = {"letter": said.id, "state": said.state, "at": datetime.now(UTC).isoformat()}
    headers = (
        (MARK, said.id.encode()),
        (STATE, said.state.encode()),
        (UPTO, str(said.upto).encode()),
    )
    return Record(topics.dead_letters(stage), key, json.dumps(value).encode(), headers)


def marked(headers: Headers) -> Mark | None:
    """The mark in a record of a topic of dead letters; None: it is a letter."""
    named, state, upto = (header(headers, name) for name in (MARK, STATE, UPTO))
    for known in get_args(State):
        if named and state == known and upto.isdecimal():
            return Mark(named, known, int(upto))
    return None


def provenance(headers: Headers) -> Provenance:
    """What a dead letter says of itself.

    Raises:
        ValueError: it is none.
    """
    said = {name: header(headers, PREFIX + name) for name in Provenance._fields}
    return Provenance(
        topic=said["topic"],
        partition=int(said["partition"]),
        offset=int(said["offset"]),
        timestamp_ms=int(said["timestamp_ms"]),
        group=said["group"],
        stage=said["stage"],
        worker=said["worker"],
        exception=said["exception"],
        message=said["message"],
        time=datetime.fromisoformat(said["time"]),
        id=said["id"] or _place_id(said["topic"], said["partition"], said["offset"]),
        cut=said["cut"],
    )


def letter_id(
    record: RecordRef,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
) -> str:
    """The id of a record's letter: 16 hex digits.

    A replayed record has that of its first letter. A repetition of the same fact (`ce_id`) in the
    same words has the same; anything else has one of its own, by the place where it stands.
    """
    given = header(headers, ID)
    if _AN_ID.fullmatch(given):
        return given
    event = header(headers, "ce_id")
    if not event:
        return _place_id(record.topic, str(record.partition), str(record.offset))
    kind = header(headers, "ce_type")
    return _digest(record.topic.encode(), key, value, event.encode(), kind.encode())


def is_replayed(headers: Sequence[tuple[str, bytes]]) -> bool:
    """Whether a person has published the record again."""
    return bool(_AN_ID.fullmatch(header(headers, ID)))


def original_headers(headers: Sequence[tuple[str, bytes]]) -> Headers:
    """The headers that the record had before it died."""
    return tuple((name, value) for name, value in headers if not name.startswith(PREFIX))


def blame(
    record: RecordRef,
    error: BaseException,
    *,
    group: str,
    stage: str,
    worker: str,
    letter_id: str = "",
) -> Provenance:
    """The provenance of a record that died of an error just now."""
    return Provenance(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        group=group,
        stage=stage,
        worker=worker,
        exception=type(error).__name__,
        message=str(error),
        time=datetime.now(UTC),
        id=letter_id or _place_id(record.topic, str(record.partition), str(record.offset)),
    )


class Repeats:
    """Remembers which letters were written lately: of a fact that is repeated one is enough.

    Args:
        window_s: For how long.
        at_most: Ids that are remembered; the oldest are forgotten.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        window_s: float,
        *,
        at_most: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window_s = window_s
        self._at_most = at_most
        self._clock = clock
        self._written: dict[str, float] = {}  # in the order of writing

    def lately(self, letter_id: str) -> bool:
        """Whether this letter was written within the window."""
        at = self._written.get(letter_id)
        return at is not None and self._clock() - at < self._window_s

    def written(self, letter_id: str) -> None:
        """It was written just now."""
        self._written.pop(letter_id, None)
        self._written[letter_id] = self._clock()
        while len(self._written) > self._at_most:
            del self._written[next(iter(self._written))]


class Limiter:
    """Counts dead letters, and says when there are too many.

    Args:
        run: So many in a row are too many.
        ratio: Such a share of the last `window` records is too much.
        window: Records that the ratio looks at.
    """

    def __init__(self, *, run: int, ratio: float, window: int) -> None:
        self._run_limit = run
        self._ratio = ratio
        self._run = 0
        self._recent: deque[bool] = deque(maxlen=window)

    def good(self) -> None:
        """A record was read and worked on."""
        self._run = 0
        self._recent.append(False)

    def dead(self) -> str:
        """Another dead letter is about to be written.

        Returns:
            Why that is too many, or the empty string: then write it.
        """
        self._run += 1
        self._recent.append(True)
        if self._run > self._run_limit:
            return f"more than {self._run_limit} dead letters in a row"
        dead, seen = sum(self._recent), len(self._recent)
        if seen >= _RATIO_NEEDS and dead > self._ratio * seen:
            return f"{dead} of the last {seen} records are dead letters"
        return ""


def _fitting(headers: Headers) -> Headers:
    """As many of the headers, from the first on, as there is room for."""
    used = 0
    for number, each in enumerate(headers):
        used += _size((each,))
        if used > HEADERS_AT_MOST:
            return headers[:number]
    return headers


def _size(headers: Headers) -> int:
    return sum(len(name.encode()) + len(value or b"") + _HEADER_COSTS for name, value in headers)


def _said(provenance: Provenance) -> Headers:
    return tuple(
        (PREFIX + name, _text(getattr(provenance, name)).encode()) for name in Provenance._fields
    )


def _place_id(topic: str, partition: str, offset: str) -> str:
    return _digest(topic.encode(), partition.encode(), offset.encode())


def _digest(*parts: bytes | None) -> str:
    """16 hex digits of sha256 over the parts, each with its length."""
    told = hashlib.sha256()
    for part in parts:
        told.update(b"-" if part is None else f"{len(part)}:".encode())
        told.update(part or b"")
    return told.hexdigest()[:16]


def _text(field: object) -> str:
    return field.isoformat() if isinstance(field, datetime) else str(field)
