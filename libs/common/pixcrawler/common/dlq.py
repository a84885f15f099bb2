"""Dead letters: records that no code here can read, kept with all that is known of them.

A letter is the original record, key, value and headers, and further headers that say where it
stood and what was wrong. There is a limit: when everything looks broken it is the code that is
broken, and then the stage stops instead of moving a topic into its dead letters.
"""

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pixcrawler.common import topics
from pixcrawler.common.context import RecordRef
from pixcrawler.common.events import Headers, Record, header

PREFIX = "dlq_"
LARGEST = 900_000
"""Bytes of a letter's value: with the further headers it has to stay below Kafka's 1 MiB."""
_RATIO_NEEDS = 20
"""Records that must have been seen before a share of them means anything."""


class Provenance(NamedTuple):
    """Where a dead letter comes from and why; each field is a header `dlq_<field>`."""

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


def letter(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    provenance: Provenance,
) -> Record:
    """The dead letter of a record; headers of an earlier death are replaced.

    A value that is too large for a letter is cut; the original stands where the letter says.
    """
    if value is not None and len(value) > LARGEST:
        cut = f"{provenance.message} (the first {LARGEST} of {len(value)} bytes)"
        value, provenance = value[:LARGEST], provenance._replace(message=cut)
    kept = tuple((name, text or b"") for name, text in headers if not name.startswith(PREFIX))
    said = tuple(
        (PREFIX + name, _text(getattr(provenance, name)).encode()) for name in Provenance._fields
    )
    return Record(topics.dead_letters(provenance.stage), key or b"", value, kept + said)


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
    )


def original_headers(headers: Headers) -> Headers:
    """The headers that the record had before it died."""
    return tuple((name, value) for name, value in headers if not name.startswith(PREFIX))


def blame(
    record: RecordRef, error: BaseException, *, group: str, stage: str, worker: str
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
    )


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


def _text(field: object) -> str:
    return field.isoformat() if isinstance(field, datetime) else str(field)
