"""The registry of topics: the one place that says which there are and how they are kept.

Standalone mode, the tests, the containers and the cluster's manifests are made from it or checked
against it. Auto-creation is off everywhere.
"""

from dataclasses import dataclass
from typing import Literal

DAY_MS = 86_400_000

KeyedBy = Literal["job_id", "chunk_id", "original"]

STAGES = ("planner", "downloader", "validator", "uploader", "tracker")


@dataclass(frozen=True)
class Topic:
    """One topic.

    Attributes:
        name: As Kafka knows it.
        key: What its records are keyed by, raw UTF-8 bytes.
        partitions: Default number; a cluster sets its own (at least the replicas of a stage).
        retention_ms: How long records stay; None for a compacted topic.
        compacted: Keeps the last record of each key instead of deleting by age.
        writers: Which services write it.
        readers: Which services read it.
        description: One line for people.
    """

    name: str
    key: KeyedBy
    partitions: int
    retention_ms: int | None
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    description: str
    compacted: bool = False


JOB_CREATED = "job.created"
JOB_CANCELLED = "job.cancelled"
JOB_PLANNED = "job.planned"
JOB_FINISHED = "job.finished"
JOB_PROGRESS = "job.progress"
CHUNK_PLANNED = "chunk.planned"
CHUNK_DOWNLOADED = "chunk.downloaded"
CHUNK_VALIDATED = "chunk.validated"
CHUNK_UPLOADED = "chunk.uploaded"
CHUNK_FAILED = "chunk.failed"
CHUNK_PROGRESS = "chunk.progress"
TRACKER_EVENTS = "tracker.events"
TABLE_GROUP = "tracker-table"
"""The consumer group of the tracker's table."""
CONSUMERS = (*STAGES, "api")
"""Every service with a consumer loop; its group has its name, and it has dead letters."""
GROUPS = (*CONSUMERS, TABLE_GROUP)
"""Every consumer group."""
TRACKER_CHANGELOG = "tracker.changelog"
COMMITS = "__consumer_offsets"
"""Kafka's own: what groups have committed, and when."""


def dead_letters(stage: str) -> str:
    """The topic of records that a stage could not read."""
    return f"{stage}.dlq"


PARTITIONS = 12
"""Of topics keyed by chunk or job, where nothing else is said: it divides evenly among 1, 2, 3, 4,
6 and 12 replicas."""


def registry(partitions: int = PARTITIONS) -> tuple[Topic, ...]:
    """Every topic of the pipeline.

    Args:
        partitions: For topics keyed by chunk or job; at least the highest number of replicas of
            any stage.
    """

    def topic(  # noqa: PLR0917 - a row of the table below
        name: str,
        key: KeyedBy,
        days: int,
        writers: str,
        readers: str,
        description: str,
    ) -> Topic:
        return Topic(
            name,
            key,
            partitions,
            days * DAY_MS,
            tuple(writers.split()),
            tuple(readers.split()),
            description,
        )

    return (
        topic(JOB_CREATED, "job_id", 7, "api", "planner tracker", "a round was asked for"),
        topic(JOB_CANCELLED, "job_id", 7, "api planner", "planner tracker", "cancelled or deleted"),
        topic(JOB_PLANNED, "job_id", 30, "planner", "uploader tracker", "the facts of a job"),
        topic(CHUNK_PLANNED, "chunk_id", 7, "planner", "downloader tracker", "a chunk got a slot"),
        topic(
            CHUNK_DOWNLOADED,
            "chunk_id",
            7,
            "downloader",
            "validator planner tracker",
            "every candidate was fetched or has its reason",
        ),
        topic(
            CHUNK_VALIDATED,
            "chunk_id",
            7,
            "validator",
            "uploader planner tracker",
            "every candidate has its verdict",
        ),
        topic(
            CHUNK_UPLOADED, "chunk_id", 30, "uploader", "planner tracker", "the chunk has completed"
        ),
        topic(
            CHUNK_FAILED,
            "chunk_id",
            30,
            "downloader validator uploader",
            "planner tracker",
            "one attempt at a chunk failed",
        ),
        topic(
            CHUNK_PROGRESS,
            "chunk_id",
            1,
            "downloader validator uploader",
            "planner tracker",
            "images done so far in one stage",
        ),
        topic(JOB_FINISHED, "job_id", 30, "uploader", "tracker api", "a round's dataset is there"),
        Topic(
            JOB_PROGRESS,
            "job_id",
            partitions,
            None,
            ("tracker",),
            ("api",),
            "what a job looks like now; null once it is deleted",
            compacted=True,
        ),
        topic(
            TRACKER_EVENTS, "job_id", 1, "tracker", TABLE_GROUP, "every event, repartitioned by job"
        ),
        Topic(
            TRACKER_CHANGELOG,
            "job_id",
            partitions,
            None,
            ("tracker",),
            (),  # read back to recover, by no consumer group
            "the tracker's table, from which it recovers",
            compacted=True,
        ),
        *(
            Topic(
                dead_letters(stage),
                "original",
                1,
                30 * DAY_MS,
                (stage,),
                (),
                f"records that the {stage} could not read",
            )
            for stage in CONSUMERS
        ),
    )


def read_by(group: str) -> tuple[str, ...]:
    """The topics that a consumer group reads, as far as it has committed.

    A compacted one is no work to be done: whoever reads it takes all of it, in no group.
    """
    return tuple(t.name for t in registry() if group in t.readers and not t.compacted)
