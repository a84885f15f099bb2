"""What a handler is, and what the consumer loop gives it.

A handler is `async (event, context) -> events`: it does its work, and returns the events to
publish. The loop publishes them, waits for their acknowledgement, and only then lets the record's
offset be committed. What else the loop should do with the record is said by raising one of
`errors.Signal`.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

from pixcrawler.common.blobs.port import BlobStore, Content
from pixcrawler.common.events import Event, ImageTotals


class RecordRef(NamedTuple):
    """Where a record stands: topic, partition, offset, and its timestamp in ms since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class Context(Protocol):
    """One piece of work in hand."""

    @property
    def record(self) -> RecordRef:
        """The record that started the work."""
        ...

    @property
    def worker(self) -> str:
        """This replica's name."""
        ...

    @property
    def source(self) -> str:
        """Who published the record (`ce_source`), such as `/downloader/<worker>`; may be empty."""
        ...

    @property
    def attempt(self) -> int:
        """The highest attempt among the records that joined this work; ask when answering."""
        ...

    @property
    def traceparent(self) -> str:
        """W3C trace context for what this work causes, such as events put into the outbox."""
        ...

    async def check(self) -> None:
        """Call before each object that is created.

        Raises:
            Stopped: the job is cancelled, deleted or unknown by now.
        """
        ...

    def report(self, done: int, total: int, images: ImageTotals) -> None:
        """Say how far the work is; published as `chunk.progress`, at most one a second a chunk."""
        ...


E = TypeVar("E", bound=Event, contravariant=True)  # noqa: PLC0105 - one letter, as for any element
Handler = Callable[[E, Context], Awaitable[Sequence[Event]]]


async def decide(context: Context, blobs: BlobStore, name: str, content: Content) -> bool:
    """Create an object that decides something: once, and only while the job is wanted.

    Returns:
        True if this call decided; False if it was decided before: then read what is there.

    Raises:
        Stopped: the job is no longer wanted.
    """
    await context.check()
    return await blobs.create(name, content)
