"""What the tracker does with a record: first to its job's partition, then into its job's state."""

from collections.abc import Sequence

from pydantic import ValidationError

from pixcrawler.common import events, topics
from pixcrawler.common.context import Context
from pixcrawler.common.errors import Poison
from pixcrawler.common.events import ChunkEvent, Event, Headers, JobEvent, Record
from pixcrawler.common.publisher import Publisher
from pixcrawler.tracker import progress
from pixcrawler.tracker.progress import JobState

TOPIC_HEADER = "pixcrawler_topic"
"""On a repartitioned record: the topic it came from."""


async def repartition(event: Event, _context: Context, *, publisher: Publisher) -> Sequence[Event]:
    """Send an event on, keyed by its job, and wait until it is there."""
    headers = ((TOPIC_HEADER, event.topic.encode()), ("ce_id", event.event_id.encode()))
    value = event.model_dump_json().encode()
    await publisher.send([Record(topics.TRACKER_EVENTS, job_of(event).encode(), value, headers)])
    return ()


def key_of(event: Event) -> str:
    """Only records that say exactly the same are one piece of work."""
    return event.model_dump_json()


def job_of(event: Event) -> str:
    """The job that an event is about."""
    if isinstance(event, ChunkEvent | JobEvent):
        return event.job_id
    raise Poison(f"{type(event).__name__} is about no job")


def read(key: bytes | None, value: bytes | None, headers: Headers) -> Event:
    """The event in a repartitioned record.

    Raises:
        Poison: no code here can read it, or it is under another job's key.
    """
    event = events.decode(events.header(headers, TOPIC_HEADER), None, value)
    if key != job_of(event).encode():
        raise Poison(
            f"the key {(key or b'')[:100]!r} is not the job {job_of(event)!r} of the event"
        )
    return event


def apply(stored: bytes | None, event: Event) -> bytes:
    """A job's stored state with an event merged into it."""
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
