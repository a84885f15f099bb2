"""What the blob store has and what the topics said, job by job. Nothing here asks the database."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from pixcrawler.common import admin, topics
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.events import (
    ChunkPlanned,
    Event,
    JobCancelled,
    JobCreated,
    JobFacts,
    JobPlanned,
    JobProgress,
)
from pixcrawler.common.ids import parse_chunk_id
from pixcrawler.common.kafka import Servers

JOBS = "jobs/"
TOPICS = (
    topics.JOB_CREATED,
    topics.JOB_CANCELLED,
    topics.JOB_PLANNED,
    topics.CHUNK_PLANNED,
    topics.JOB_PROGRESS,
)
"""What is read of Kafka: the rest says nothing that is not in the blob store."""


@dataclass
class Stored:
    """Which objects there are of a job: chunk ids, and numbers of rounds."""

    candidates: set[str] = field(default_factory=set)
    verdicts: set[str] = field(default_factory=set)
    results: set[str] = field(default_factory=set)
    requests: set[int] = field(default_factory=set)
    datasets: set[int] = field(default_factory=set)

    @property
    def chunks(self) -> set[str]:
        """Chunks that anything was decided about."""
        return self.candidates | self.verdicts | self.results


@dataclass
class Told:
    """What the topics said of a job.

    Attributes:
        asked: The latest round that was asked for.
        cancelled: It was cancelled (or deleted).
        deleted: It was deleted.
        chunks: The last admission of each chunk.
        closings: The facts with which each round was closed.
        progress: The greatest that was shown.
    """

    asked: int = 0
    cancelled: bool = False
    deleted: bool = False
    chunks: dict[str, ChunkPlanned] = field(default_factory=dict)
    closings: dict[int, JobFacts] = field(default_factory=dict)
    progress: JobProgress | None = None

    def hear(self, event: Event) -> None:
        """Take in one event; the same ones in any order say the same."""
        match event:
            case JobCreated():
                self.asked = max(self.asked, event.round)
            case JobCancelled():
                self.cancelled = True
                self.deleted |= event.deleted
            case ChunkPlanned():
                before = self.chunks.get(event.chunk_id)
                if before is None or before.attempt < event.attempt:
                    self.chunks[event.chunk_id] = event
            case JobPlanned(closed_round=number, round=latest, reason=reason) if reason:
                if number == latest:
                    self.closings.setdefault(number, event.facts())
            case JobProgress():
                if self.progress is None or self.progress.revision < event.revision:
                    self.progress = event
            case _:
                pass


async def stored(blobs: BlobStore) -> dict[str, Stored]:
    """Which objects every job has: one listing of all of them, no content."""
    found: defaultdict[str, Stored] = defaultdict(Stored)
    async for blob in blobs.list(JOBS):
        for job_id, kind, which in _parts(blob.name):
            if kind == "chunks":
                chunk, _, name = which.partition("/")
                _note_chunk(found[job_id], chunk, name)
            elif kind == "rounds":
                number, _, name = which.partition("/")
                _note_round(found[job_id], number, name)
    return dict(found)


def _parts(name: str) -> Iterator[tuple[str, str, str]]:
    parts = name.split("/", 3)
    if len(parts) == len(("jobs", "job", "kind", "which")):
        yield parts[1], parts[2], parts[3]


def _note_chunk(job: Stored, chunk: str, name: str) -> None:
    try:
        parse_chunk_id(chunk)
    except ValueError:
        return
    {
        "candidates.jsonl": job.candidates,
        "verdicts.jsonl": job.verdicts,
        "result.json": job.results,
    }.get(name, set()).add(chunk)


def _note_round(job: Stored, number: str, name: str) -> None:
    if number.isdecimal():
        known = {"request.json": job.requests, "dataset.json": job.datasets}
        known.get(name, set()).add(int(number))


async def told(servers: Servers) -> dict[str, Told]:
    """What the topics say of every job; a topic that is not there says nothing.

    Raises:
        KafkaError: the cluster cannot be reached.
    """
    there: Collection[str] = await admin.list_topics(servers)
    found: defaultdict[str, Told] = defaultdict(Told)
    for topic in TOPICS:
        if topic in there:
            async for record in admin.tail(servers, topic):
                if record.event is not None:
                    found[_job_of(record.event)].hear(record.event)
    return dict(found)


def _job_of(event: Event) -> str:
    job_id: str = getattr(event, "job_id")  # noqa: B009 - events of jobs and of chunks have it
    return job_id


NOTHING_STORED = Stored()
NOTHING_TOLD = Told()


def jobs(one: Mapping[str, Stored], other: Mapping[str, Told]) -> set[str]:
    """Every job that either knows."""
    return one.keys() | other.keys()
