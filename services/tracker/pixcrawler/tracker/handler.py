"""What the tracker does with a record: first to its job's partition, then into its job's state."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import ValidationError

from pixcrawler.common import events
from pixcrawler.common.errors import Poison
from pixcrawler.common.events import ChunkEvent, Event, JobEvent
from pixcrawler.tracker import progress
from pixcrawler.tracker.progress import JobState

Headers = Sequence[tuple[str, bytes]]

TOPIC_HEADER = "pixcrawler_topic"
"""On a repartitioned record: the topic it came from."""


class Repartitioned(NamedTuple):
    """A record on its way to the partition of its job; the value stays as it was."""

    key: bytes
    value: bytes
    headers: dict[str, bytes]


def repartition(
    topic: str, key: bytes | None, value: bytes | None, headers: Headers
) -> Repartitioned:
    """The same event, keyed by its job.

    Raises:
        Poison: no code here can read it.
    """
    event = events.decode(topic, key, value, headers)
    return Repartitioned(job_of(event).encode(), value or b"", {TOPIC_HEADER: topic.encode()})


def job_of(event: Event) -> str:
    """The job that an event is about."""
    if isinstance(event, ChunkEvent | JobEvent):
        return event.job_id
    raise Poison(f"{type(event).__name__} is about no job")


def apply(stored: bytes | None, value: bytes, headers: Mapping[str, bytes]) -> bytes:
    """A job's stored state with a repartitioned event merged into it.

    Raises:
        Poison: no code here can read the event.
    """
    event = events.decode(headers[TOPIC_HEADER].decode(), None, value)
    return dump(progress.merge(parse(stored), event))


def parse(stored: bytes | None) -> JobState:
    """A state as the table holds it.

    One that cannot be read (written by a version to come, say) counts as nothing: the next
    `job.planned` carries the whole truth, while refusing it would stop the recovery for ever.
    """
    if stored is None:
        return progress.EMPTY
    try:
        return JobState.model_validate_json(stored)
    except ValidationError:
        return progress.EMPTY


def dump(state: JobState) -> bytes:
    """The state as the table holds it."""
    return state.model_dump_json(exclude_defaults=True).encode()
