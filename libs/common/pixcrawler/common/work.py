"""A piece of work of a consumer loop: what was delivered, what its handler sees, its answer."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar, cast

from aiokafka.structs import ConsumerRecord, TopicPartition

from pixcrawler.common import dlq, events
from pixcrawler.common.context import Handler, RecordRef
from pixcrawler.common.errors import GiveUp, Poison
from pixcrawler.common.events import ChunkEvent, ChunkFailed, ChunkProgress, Event, ImageTotals
from pixcrawler.common.jobwatch import JobWatch, ensure_wanted
from pixcrawler.common.offsets import Token
from pixcrawler.common.publisher import Publisher
from pixcrawler.common.watchdog import Watchdog

E = TypeVar("E", bound=Event)

REPORT_EVERY_S = 1.0
MESSAGE_AT_MOST = 2000
"""Characters of `chunk.failed`'s message: an error may quote what it failed at."""


def default_key(event: Event) -> str:
    """One piece of work per chunk; one per fact for everything else."""
    return event.chunk_id if isinstance(event, ChunkEvent) else event.event_id


@dataclass(frozen=True)
class Route(Generic[E]):
    """What happens with the events of one topic.

    Attributes:
        event: The event; its topic is read.
        handler: Does the work and returns the events to publish.
        key: Records with the same key, while one of them is in hand, are one piece of work.
        watched: Whether the work ends as soon as its job is cancelled or deleted. A handler that
            has to act on cancelled jobs says no, and asks itself whether the job still exists.
    """

    event: type[E]
    handler: Handler[E]
    key: Callable[[E], str] = default_key
    watched: bool = True


class Delivery(NamedTuple):
    """One record in hand. `event` is None if nobody can read it, and `poison` says why."""

    token: Token[TopicPartition]
    raw: ConsumerRecord[bytes, bytes]
    event: Event | None
    poison: Poison | None = None

    @property
    def ref(self) -> RecordRef:
        """Where it stands."""
        return RecordRef(self.raw.topic, self.raw.partition, self.raw.offset, self.raw.timestamp)

    @property
    def unreadable(self) -> bool:
        """Whether the client could not read it, so that only its place is known."""
        return int(self.raw.timestamp) < 0

    @property
    def size(self) -> int:
        """Bytes of the record, about."""
        headers = sum(len(name) + len(value or b"") for name, value in self.raw.headers)
        return len(self.raw.key or b"") + len(self.raw.value or b"") + headers

    @property
    def letter_id(self) -> str:
        """The id of its dead letter."""
        return dlq.letter_id(self.ref, self.raw.key, self.raw.value, self.raw.headers)

    @property
    def attempt(self) -> int:
        """The attempt at a chunk that it belongs to; 0 for what is not about a chunk."""
        return self.event.attempt if isinstance(self.event, ChunkEvent) else 0


@dataclass(eq=False)
class Work:
    """One piece of work in hand: everything that was delivered for one key while it lasts."""

    key: tuple[str, str]
    route: Route[Any]
    deliveries: list[Delivery]
    started_at: float
    after: list[Delivery] = field(default_factory=list)
    open: bool = True  # until it has its answer, further records of the key join it
    unwanted: bool = False  # cancelled because of its job: acknowledge
    task: asyncio.Task[None] | None = None

    @property
    def first(self) -> Delivery:
        """What started it."""
        return self.deliveries[0]

    @property
    def event(self) -> Event:
        """What it is about."""
        assert self.first.event is not None
        return self.first.event

    @property
    def attempt(self) -> int:
        """The highest attempt of all that joined."""
        return max(delivery.attempt for delivery in self.deliveries)

    @property
    def job_id(self) -> str:
        """The job that it is for; empty if nobody can read the record."""
        return str(getattr(self.first.event, "job_id", ""))

    @property
    def chunk_id(self) -> str:
        """The chunk that it is about; empty if it is not about one."""
        return self.first.event.chunk_id if isinstance(self.first.event, ChunkEvent) else ""

    @property
    def held(self) -> list[Delivery]:
        """Every record that it keeps."""
        return [*self.deliveries, *self.after]

    def stays(self, partitions: frozenset[TopicPartition]) -> bool:
        """Whether any of its records comes from one of these partitions."""
        return any(delivery.token.partition in partitions for delivery in self.deliveries)

    def cancel(self) -> None:
        """Stop it; what it was for is delivered again, unless it is marked unwanted."""
        if self.task is not None:
            self.open = False
            self.task.cancel()


class WorkContext:
    """What a handler sees of its work (`pixcrawler.common.context.Context`).

    Args:
        work: The work.
        stage: The stage that it is done in.
        worker: This replica's name.
        traceparent: The span of the work.
        publisher: For reports.
        watch: Who knows which jobs are wanted.
        watchdog: Who knows whether the process was paused.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        work: Work,
        *,
        stage: str,
        worker: str,
        traceparent: str,
        publisher: Publisher,
        watch: JobWatch,
        watchdog: Watchdog,
        clock: Callable[[], float],
    ) -> None:
        self.worker = worker
        self.traceparent = traceparent
        self._work = work
        self._stage = stage
        self._publisher = publisher
        self._watch = watch
        self._watchdog = watchdog
        self._clock = clock
        self._reported_at: float | None = None

    @property
    def record(self) -> RecordRef:
        """The record that started the work."""
        return self._work.first.ref

    @property
    def source(self) -> str:
        """Who published the record."""
        return events.header(self._work.first.raw.headers, "ce_source")

    @property
    def attempt(self) -> int:
        """The highest attempt among the records that joined this work."""
        return self._work.attempt

    async def check(self) -> None:
        """Ask the database whether the job is wanted, and the clock whether we were paused.

        Raises:
            Stopped: the job is cancelled, deleted or unknown by now.
        """
        if self._work.job_id and self._work.route.watched:
            await ensure_wanted(self._watch, self._work.job_id)
        self._watchdog.ensure_fresh()

    def report(self, done: int, total: int, images: ImageTotals) -> None:
        """Publish `chunk.progress`, at most one a second, in the background."""
        now = self._clock()
        lately = self._reported_at is not None and now - self._reported_at < REPORT_EVERY_S
        if lately or not self._work.chunk_id:
            return
        self._reported_at = now
        fact = ChunkProgress(
            chunk_id=self._work.chunk_id,
            attempt=self.attempt,
            stage=cast("events.Stage", self._stage),
            done=done,
            total=total,
            images=images,
        )
        self._publisher.post(fact, traceparent=self.traceparent)


def failure(stage: str, work: Work, error: GiveUp) -> Event:
    """`chunk.failed`: this attempt failed, and the planner decides what comes next."""
    return ChunkFailed(
        chunk_id=work.chunk_id,
        attempt=work.attempt,
        stage=cast("events.Stage", stage),
        retriable=error.retriable,
        error=error.error,
        message=str(error)[:MESSAGE_AT_MOST],
    )


def stamped(fact: Event, work: Work) -> Event:
    """The fact with the highest attempt that joined, also after the handler had looked."""
    if isinstance(fact, ChunkEvent) and fact.chunk_id == work.chunk_id:
        return fact.model_copy(update={"attempt": max(fact.attempt, work.attempt)})
    return fact
