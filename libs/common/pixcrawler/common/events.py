"""The events: frozen values, and how they travel.

A value is a JSON object that a person can read; a key is the raw UTF-8 of a job's or a chunk's id;
headers follow the CloudEvents Kafka binding in binary mode. Evolution is additive: a reader ignores
fields that it does not know, and every event that was ever published has a golden file under
`tests/unit/golden/` that must still parse. `ce_id` is derived (what happened, to what, which
attempt), so that a repeated event has the same id.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar, Literal, NamedTuple, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from pixcrawler.common import topics
from pixcrawler.common.errors import Poison
from pixcrawler.common.ids import parse_chunk_id
from pixcrawler.common.values import Value as Value  # noqa: PLC0414 - for those who know it here

Stage = Literal["planner", "downloader", "validator", "uploader"]
Headers = tuple[tuple[str, bytes], ...]

TYPE_PREFIX = "io.pixcrawler."
_POSSIBLE_ID = re.compile(r"[!-~]{1,200}")
_QUOTED = 1000
"""Characters of what nobody can read, in the words about it."""


class Slice(Value):
    """A stretch of one search: `limit` results from `offset` on (both counted in candidates)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    source: str
    """The source's name."""
    keyword: str
    """What is searched; empty for `urls`."""
    offset: int = Field(ge=0)
    """Candidates before it."""
    limit: int = Field(ge=0)
    """Candidates at most."""


class ImageTotals(Value):
    """Counts of images."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    candidates: int = 0
    """URLs that were looked at."""
    downloaded: int = 0
    """Of them, those whose bytes came."""
    valid: int = 0
    """Of them, those that are kept."""
    dropped: dict[str, int] = Field(default_factory=dict)
    """How many were dropped, by outcome."""
    bytes: int = 0
    """Of what is kept."""


class Event(Value):
    """What every event is: a topic, a key and an id that follow from its fields."""

    topic: ClassVar[str]
    version: ClassVar[int] = 1

    @property
    def key(self) -> str:
        """The record's key."""
        raise NotImplementedError

    @property
    def event_id(self) -> str:
        """`ce_id`: equal for repetitions of the same fact."""
        raise NotImplementedError


class JobEvent(Event):
    """An event about a job."""

    job_id: str

    @model_validator(mode="after")
    def _job_id_can_be_one(self) -> Self:
        # No database and no object's name takes everything that JSON does.
        if not _POSSIBLE_ID.fullmatch(self.job_id):
            raise ValueError("not a job id")
        return self

    @property
    def key(self) -> str:
        """The job's id."""
        return self.job_id


class ChunkEvent(Event):
    """An event about one attempt at a chunk."""

    chunk_id: str
    attempt: int = Field(ge=0)

    @model_validator(mode="after")
    def _chunk_id_is_one(self) -> Self:
        parse_chunk_id(self.chunk_id)
        return self

    @property
    def key(self) -> str:
        """The chunk's id."""
        return self.chunk_id

    @property
    def job_id(self) -> str:
        """The job that the chunk belongs to."""
        return parse_chunk_id(self.chunk_id).job_id

    @property
    def index(self) -> int:
        """The chunk's index within its job."""
        return parse_chunk_id(self.chunk_id).index

    @property
    def event_id(self) -> str:
        """What happened to which chunk at which attempt."""
        return f"{self.chunk_id}:{self.topic.partition('.')[2]}:{self.attempt}"


class JobCreated(JobEvent):
    """A round was asked for: start, extend or retry. The request itself is in `job_requests`."""

    topic: ClassVar[str] = topics.JOB_CREATED
    round: int = Field(ge=1)
    reason: Literal["start", "extend", "retry"]

    @property
    def event_id(self) -> str:
        """One per round."""
        return f"{self.job_id}:created:{self.round}"


class JobCancelled(JobEvent):
    """The job was cancelled, or deleted. Only a wake-up: the state is in `crawl_jobs`."""

    topic: ClassVar[str] = topics.JOB_CANCELLED
    deleted: bool = False

    @property
    def event_id(self) -> str:
        """One for the cancelling, one for the deleting."""
        return f"{self.job_id}:{'deleted' if self.deleted else 'cancelled'}"


JobStatus = Literal["pending", "running", "completed", "incomplete", "failed", "cancelled"]


class JobFacts(Value):
    """What the planner knows of a job: the same state gives the same facts.

    Attributes:
        round: The latest round that the planner has seen (0: not started).
        closed_round: The last round that is closed, 0 for none.
        status: `pending` or `running` while the round is open; how it ended once it is closed.
        reason: Why the closed round ended as it did (`reached`, `exhausted`, `budget`,
            `unavailable`: the sources did not answer, `cancelled`), empty while it is open.
        total_chunks: Chunks planned so far, superseded ones included.
        completed: Ranges of chunk indices, such as `0-4,7` (see `pixcrawler.common.bitmaps`).
        failed: Likewise; a failed chunk that was retried is also in `superseded`.
        superseded: Likewise.
        requested: The number of images asked for.
        kept: Images kept by completed chunks.
        images: Totals over ended chunks that are not superseded.
    """

    round: int = Field(ge=0)
    closed_round: int = Field(ge=0)
    status: JobStatus
    reason: str = ""
    total_chunks: int = Field(ge=0)
    completed: str = ""
    failed: str = ""
    superseded: str = ""
    requested: int = Field(ge=0)
    kept: int = Field(ge=0)
    images: ImageTotals = ImageTotals()
    created_at: datetime | None = None
    started_at: datetime | None = None
    closed_at: datetime | None = None


class JobPlanned(JobEvent, JobFacts):
    """The facts of a job, repeated until the shown progress agrees."""

    topic: ClassVar[str] = topics.JOB_PLANNED

    @property
    def event_id(self) -> str:
        """Equal while the facts that can only grow are equal."""
        ended = f"{self.completed}|{self.failed}|{self.superseded}"
        return f"{self.job_id}:planned:{self.round}.{self.closed_round}.{self.total_chunks}:{ended}"

    def facts(self) -> JobFacts:
        """The facts without the job they are about."""
        return JobFacts.model_validate(self.model_dump(exclude={"job_id"}))


class JobFinished(JobEvent, JobFacts):
    """A round's dataset is there. Everything that its `job.planned` said, and the image totals.

    `images` here counts every URL of the job once; `dataset` names the index object.
    """

    topic: ClassVar[str] = topics.JOB_FINISHED
    dataset: str

    @property
    def event_id(self) -> str:
        """`<job_id>:<round>`."""
        return f"{self.job_id}:{self.closed_round}"


class ChunkPlanned(ChunkEvent):
    """A chunk got a slot: this is its `attempt`-th admission."""

    topic: ClassVar[str] = topics.CHUNK_PLANNED
    slices: tuple[Slice, ...]


class ChunkDownloaded(ChunkEvent):
    """Every candidate of the chunk was fetched or has its reason."""

    topic: ClassVar[str] = topics.CHUNK_DOWNLOADED
    candidates: int = Field(ge=0)
    downloaded: int = Field(ge=0)
    bytes: int = Field(ge=0)


class ChunkValidated(ChunkEvent):
    """Every candidate of the chunk has its verdict."""

    topic: ClassVar[str] = topics.CHUNK_VALIDATED
    images: ImageTotals


class ChunkUploaded(ChunkEvent):
    """The chunk has completed: its result is there. `archive` is empty when nothing was kept."""

    topic: ClassVar[str] = topics.CHUNK_UPLOADED
    images: ImageTotals
    archive: str = ""


class ChunkFailed(ChunkEvent):
    """One attempt at a chunk failed. `retriable`: another attempt may help."""

    topic: ClassVar[str] = topics.CHUNK_FAILED
    stage: Stage
    retriable: bool
    error: str
    """A short machine-readable word, such as `no_valid_images` or `blob_store`."""
    message: str = ""
    """One sentence for people."""


class ChunkProgress(ChunkEvent):
    """How many of the chunk's candidates a stage has done; at most one a second a chunk."""

    topic: ClassVar[str] = topics.CHUNK_PROGRESS
    stage: Stage
    done: int = Field(ge=0)
    total: int = Field(ge=0)
    images: ImageTotals = ImageTotals()

    @property
    def event_id(self) -> str:
        """One per step of one stage."""
        return f"{self.chunk_id}:progress:{self.stage}:{self.attempt}:{self.done}"


class ProgressImages(ImageTotals):
    """Image counts with the number asked for."""

    requested: int = 0
    """How many are asked for."""


class ProgressView(Value):
    """The progress object of the API (field by field as clients see it)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    job_id: str
    """The job."""
    status: JobStatus
    """`pending` (not started, or waiting for a slot), `running`, or how the round ended: then the
    dataset is there."""
    progress: float = 0.0
    """Kept ÷ requested, in percent; never falls within a round, and is 100 only at the end."""
    total_chunks: int = 0
    """Chunks planned so far; failed ones that were retried as others do not count."""
    pending_chunks: int = 0
    """Of them, those that wait for a slot."""
    active_chunks: int = 0
    """Of them, those that hold one."""
    completed_chunks: int = 0
    """Of them, those that ended well."""
    failed_chunks: int = 0
    """Of them, those that were given up."""
    chunk_progress: float = 0.0
    """Ended ÷ total chunks, in percent; may fall when a refill is planned."""
    images: ProgressImages = ProgressImages()
    """What became of the candidates so far."""
    started_at: datetime | None = None
    """When the job was started."""
    finished_at: datetime | None = None
    """When the round ended; null while it is open."""
    eta_s: float | None = None
    """Seconds until the end, as far as can be told; null where nothing can."""
    updated_at: datetime | None = None
    """When this last changed."""


Revision = tuple[int, int, int, int, int]
"""(finished round, round, closed round, total chunks, the sum of everything else that grows)."""


class JobProgress(JobEvent):
    """What a job looks like now; the greater revision wins."""

    topic: ClassVar[str] = topics.JOB_PROGRESS
    revision: Revision
    progress: ProgressView

    @property
    def event_id(self) -> str:
        """One per revision."""
        return f"{self.job_id}:progress:{'.'.join(map(str, self.revision))}"


ALL: tuple[type[Event], ...] = (
    JobCreated,
    JobCancelled,
    JobPlanned,
    JobFinished,
    JobProgress,
    ChunkPlanned,
    ChunkDownloaded,
    ChunkValidated,
    ChunkUploaded,
    ChunkFailed,
    ChunkProgress,
)

BY_TOPIC: Mapping[str, type[Event]] = {event.topic: event for event in ALL}


class Record(NamedTuple):
    """An event as Kafka carries it; a value of None is a compacted topic's tombstone."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers


def event_type(event: type[Event]) -> str:
    """`ce_type`, such as `io.pixcrawler.chunk.planned.v1`."""
    return f"{TYPE_PREFIX}{event.topic}.v{event.version}"


def encode(event: Event, *, source: str, traceparent: str, at: datetime | None = None) -> Record:
    """An event as a record.

    Args:
        event: What happened.
        source: Who says so, such as `/downloader/<worker>`: `ce_source`.
        traceparent: W3C trace context.
        at: When it happened; now if not given.
    """
    subject = event.key
    when = (at or datetime.now(UTC)).isoformat()
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", event.event_id.encode()),
        ("ce_type", event_type(type(event)).encode()),
        ("ce_source", source.encode()),
        ("ce_time", when.encode()),
        ("ce_subject", subject.encode()),
        ("content-type", b"application/json"),
        ("traceparent", traceparent.encode()),
    )
    return Record(event.topic, subject.encode(), event.model_dump_json().encode(), headers)


def header(headers: Sequence[tuple[str, bytes]], name: str) -> str:
    """A header's text, or the empty string."""
    for key, value in headers:
        if key == name:
            return value.decode("utf-8", "replace") if value is not None else ""
    return ""


def decode(
    topic: str,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]] = (),
) -> Event:
    """The event in a record.

    A record without `ce_type` is read as the topic's event, so that a person can write one by hand.

    Raises:
        Poison: no code here can read it; the message says why.
    """
    model = BY_TOPIC.get(topic)
    if model is None:
        raise Poison(f"no event is known on topic {topic}")
    if value is None:
        raise Poison(f"a record of {topic} without a value")
    declared = header(headers, "ce_type")
    if declared and declared != event_type(model):
        raise Poison(f"{declared} on {topic}: {event_type(model)} is what this version reads")
    try:
        event = model.model_validate_json(value)
    except (ValidationError, ValueError) as error:
        raise Poison(f"not a {event_type(model)}: {str(error)[:_QUOTED]}") from error
    if key is not None and key != event.key.encode():
        raise Poison(f"the key {key[:_QUOTED]!r} is not the {event.key!r} of the value")
    return event
