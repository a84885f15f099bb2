"""Every metric of the pipeline, in one list; the names are documented and others rely on them.

They live in the process's default Prometheus registry. A program that has no use for one never
touches it: a labelled metric without a label set exposes nothing.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]

CHUNK_SECONDS: Final = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
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
SOURCE_REQUESTS = Counter(
    "pixcrawler_source_requests_total", "Requests to a search, by answer", ["source", "status"]
)
BREAKER_OPEN = Gauge("pixcrawler_breaker_open", "1 while a source or a host rests", ["name"])
WEBHOOKS = Counter("pixcrawler_webhooks_total", "Attempts to deliver a webhook", ["status"])

ALL: Final = (
    JOBS,
    CHUNKS,
    CHUNK_DURATION,
    CHUNKS_PENDING,
    CHUNKS_ACTIVE,
    IMAGES,
    FETCH,
    FETCH_BYTES,
    CONSUMER_LAG,
    CONSUMER_LAG_SECONDS,
    IN_FLIGHT,
    DEAD_LETTERS,
    REBALANCES,
    OUTBOX_PENDING,
    SOURCE_REQUESTS,
    BREAKER_OPEN,
    WEBHOOKS,
)
"""The list, as documentation and tests read it."""
