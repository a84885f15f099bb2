"""The documented names of metrics are the exposed ones."""

from prometheus_client import generate_latest

from pixcrawler.common import metrics

DOCUMENTED = {
    "pixcrawler_jobs_total": ("status",),
    "pixcrawler_chunks_total": ("stage", "status"),
    "pixcrawler_chunk_duration_seconds": ("stage",),
    "pixcrawler_chunks_pending": ("priority",),
    "pixcrawler_chunks_active": (),
    "pixcrawler_chunks_max": (),
    "pixcrawler_host_connections": ("state",),
    "pixcrawler_request_seconds": ("method", "status"),
    "pixcrawler_images_total": ("outcome",),
    "pixcrawler_fetch_seconds": (),
    "pixcrawler_fetch_bytes_total": (),
    "pixcrawler_consumer_lag": ("topic",),
    "pixcrawler_consumer_lag_seconds": ("topic",),
    "pixcrawler_in_flight": ("stage",),
    "pixcrawler_dlq_total": ("stage", "reason"),
    "pixcrawler_rebalances_total": ("stage",),
    "pixcrawler_outbox_pending": (),
    "pixcrawler_outbox_oldest_seconds": (),
    "pixcrawler_source_requests_total": ("source", "status"),
    "pixcrawler_breaker_open": ("name",),
    "pixcrawler_webhooks_total": ("status",),
    "pixcrawler_disk_free_bytes": ("folder",),
    "pixcrawler_disk_size_bytes": ("folder",),
}


def test_names_and_labels_are_the_documented_ones() -> None:
    """Dashboards and scalers rely on them."""
    exposed = {
        metric._name + ("_total" if metric._type == "counter" else ""): metric._labelnames
        for metric in metrics.ALL
    }
    assert exposed == DOCUMENTED


def test_chunks_are_measured_in_the_documented_buckets() -> None:
    """1, 5, 10, 30, 60, 120, 300 seconds."""
    metrics.CHUNK_DURATION.labels("test").observe(2)
    lines = generate_latest().decode().splitlines()
    bounds = [
        line.split('le="')[1].split('"')[0]
        for line in lines
        if line.startswith("pixcrawler_chunk_duration_seconds_bucket") and 'stage="test"' in line
    ]
    assert bounds == ["1.0", "5.0", "10.0", "30.0", "60.0", "120.0", "300.0", "+Inf"]
