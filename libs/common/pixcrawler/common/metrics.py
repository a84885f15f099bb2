"""Every metric of the pipeline, in one list; the names are documented and others rely on them.

They live in the process's default Prometheus registry. A program that has no use for one never
touches it: a labelled metric without a label set exposes nothing.
"""

import math
import os
from pathlib import Path
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]

CHUNK_SECONDS: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
FETCH_SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

JOBS = Counter("pixcrawler_jobs_total", "Rounds of jobs that ended, by how", ["status"])
CHUNKS = Counter("pixcrawler_chunks_total", "Chunks a stage is done with", ["stage", "status"])
CHUNK_DURATION = Histogram(
    "pixcrawler_chunk_duration_seconds",
    "Seconds a stage worked on a chunk",
    ["stage"],
    buckets=CHUNK_SECONDS,
)
CHUNKS_PENDING = Gauge("pixcrawler_chunks_pending", "Chunks that wait for a slot", ["priority"])
CHUNKS_ACTIVE = Gauge("pixcrawler_chunks_active", "Chunks that hold a slot")
CHUNKS_MAX = Gauge("pixcrawler_chunks_max", "Slots that there are")
IMAGES = Counter("pixcrawler_images_total", "Candidates with an outcome", ["outcome"])
FETCH = Histogram(
    "pixcrawler_fetch_seconds", "Seconds one try at a URL took", buckets=FETCH_SECONDS
)
FETCH_BYTES = Counter("pixcrawler_fetch_bytes_total", "Bytes of images received")
CONSUMER_LAG = Gauge(
    "pixcrawler_consumer_lag", "Records of this replica's partitions not done yet", ["topic"]
)
CONSUMER_LAG_SECONDS = Gauge(
    "pixcrawler_consumer_lag_seconds", "Age of the oldest record in hand", ["topic"]
)
IN_FLIGHT = Gauge("pixcrawler_in_flight", "Pieces of work in hand", ["stage"])
DEAD_LETTERS = Counter(
    "pixcrawler_dlq_total", "Records sent to the dead letters", ["stage", "reason"]
)
REBALANCES = Counter("pixcrawler_rebalances_total", "Assignments of partitions", ["stage"])
OUTBOX_PENDING = Gauge("pixcrawler_outbox_pending", "Events that wait in the outbox")
OUTBOX_AGE = Gauge(
    "pixcrawler_outbox_oldest_seconds", "Age of the oldest event that waits in the outbox"
)
SOURCE_REQUESTS = Counter(
    "pixcrawler_source_requests_total", "Requests to a search, by answer", ["source", "status"]
)
BREAKER_OPEN = Gauge("pixcrawler_breaker_open", "1 while a source or a host rests", ["name"])
HOST_CONNECTIONS = Gauge(
    "pixcrawler_host_connections",
    "Connections within the budgets of all hosts: leased by this replica, of them used, waited for",
    ["state"],
)
REQUESTS = Histogram(
    "pixcrawler_request_seconds",
    "Seconds until a request to the API was answered",
    ["method", "status"],
    buckets=REQUEST_SECONDS,
)
WEBHOOKS = Counter("pixcrawler_webhooks_total", "Attempts to deliver a webhook", ["status"])
DISK_FREE = Gauge(
    "pixcrawler_disk_free_bytes", "Bytes that this program may still write there", ["folder"]
)
DISK_SIZE = Gauge(
    "pixcrawler_disk_size_bytes", "Bytes of the file system that the folder is on", ["folder"]
)

ALL: Final = (
    JOBS,
    CHUNKS,
    CHUNK_DURATION,
    CHUNKS_PENDING,
    CHUNKS_ACTIVE,
    CHUNKS_MAX,
    IMAGES,
    FETCH,
    FETCH_BYTES,
    CONSUMER_LAG,
    CONSUMER_LAG_SECONDS,
    IN_FLIGHT,
    DEAD_LETTERS,
    REBALANCES,
    OUTBOX_PENDING,
    OUTBOX_AGE,
    SOURCE_REQUESTS,
    BREAKER_OPEN,
    HOST_CONNECTIONS,
    REQUESTS,
    WEBHOOKS,
    DISK_FREE,
    DISK_SIZE,
)
"""The list, as documentation and tests read it."""


def watch_disk(name: str, folder: Path) -> None:
    """Show, whenever somebody asks, how much room there is where a program writes.

    Args:
        name: What the folder is for, such as `temporary`; its label.
        folder: It may not be there yet: then the file system is asked that it will be on.
    """
    DISK_FREE.labels(name).set_function(lambda: _room(folder)[0])
    DISK_SIZE.labels(name).set_function(lambda: _room(folder)[1])


def _room(folder: Path) -> tuple[float, float]:
    """Free bytes and all bytes; NaN where nobody can say, so that the other metrics are shown."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        state = os.statvfs(folder)
    except OSError:
        return math.nan, math.nan
    return state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize
