"""What the dashboard shows: rows of panels of queries.

`dashboard.py` makes Grafana's JSON of them, `drawing.py` a picture; a test asks a Prometheus that
has watched a job every one of them.
"""

from typing import Final, Literal, NamedTuple

INTERVAL: Final = "$__rate_interval"
"""Grafana's: long enough for a rate, whatever the resolution and the scrape interval are."""

Unit = Literal["short", "s", "bytes", "Bps", "percentunit", "cpm", "ops", "reqps"]


class Query(NamedTuple):
    """One question to Prometheus.

    Attributes:
        expr: PromQL.
        legend: A series' name; `{{label}}` is its value.
        quiet: Why there may be nothing to answer on a system that is well; empty: never.
    """

    expr: str
    legend: str
    quiet: str = ""


class Panel(NamedTuple):
    """Queries with one unit."""

    title: str
    about: str
    unit: Unit
    queries: tuple[Query, ...]
    kind: Literal["lines", "number"] = "lines"
    bad_above: float | None = None
    """A number is red from here on."""


class Row(NamedTuple):
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]


def _share(bad: str, all_of: str, by: str) -> str:
    """The rate of some of all, by label: 0 where there are none of them."""
    rate = f"sum by ({by}) (rate({all_of}[{INTERVAL}]))"
    return f"(sum by ({by}) (rate({bad}[{INTERVAL}])) or 0 * {rate}) / {rate}"


def _quantile(share: float, histogram: str, by: str = "") -> str:
    labels = f"{by}, le" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket[{INTERVAL}])))"


_DEAD = "nothing has died"

ROWS: Final = (
    Row(
        "Now",
        (
            Panel(
                "Alerts",
                "Rules that fire; docs/operations.md has a section for each.",
                "short",
                (
                    Query(
                        'count(ALERTS{alertstate="firing", alertname=~"PixCrawler.+"}) '
                        "or vector(0)",
                        "alerts",
                    ),
                ),
                "number",
                1,
            ),
            Panel(
                "Chunks in progress",
                "Slots in use, over the whole cluster.",
                "short",
                (Query("max(pixcrawler_chunks_active)", "chunks"),),
                "number",
            ),
            Panel(
                "Chunks that wait",
                "In the planner's queue, for a slot.",
                "short",
                (Query("sum(max by (priority) (pixcrawler_chunks_pending))", "chunks"),),
                "number",
            ),
            Panel(
                "Oldest record",
                "Age of the oldest record that some stage is not done with.",
                "s",
                (Query("max(pixcrawler_consumer_lag_seconds)", "age"),),
                "number",
                600,
            ),
            Panel(
                "Dead letters in a day",
                "Records that no code could read.",
                "short",
                (Query("sum(increase(pixcrawler_dlq_total[1d])) or vector(0)", "letters"),),
                "number",
                1,
            ),
            Panel(
                "Images kept in an hour",
                "What all of it is for.",
                "short",
                (
                    Query(
                        'sum(increase(pixcrawler_images_total{outcome="kept"}[1h]))',
                        "images",
                    ),
                ),
                "number",
            ),
        ),
    ),
    Row(
        "The stages: traffic, latency, errors, saturation",
        (
            Panel(
                "Chunks done",
                "A minute, by stage; the planner's are those that ended for good.",
                "cpm",
                (
                    Query(
                        f"60 * sum by (stage) (rate(pixcrawler_chunks_total[{INTERVAL}]))",
                        "{{stage}}",
                    ),
                ),
            ),
            Panel(
                "Seconds a chunk",
                "Of work in hand, waiting for hosts and retries included; half, and all but 5%.",
                "s",
                (
                    Query(
                        _quantile(0.5, "pixcrawler_chunk_duration_seconds", "stage"),
                        "{{stage}} 50%",
                    ),
                    Query(
                        _quantile(0.95, "pixcrawler_chunk_duration_seconds", "stage"),
                        "{{stage}} 95%",
                    ),
                ),
            ),
            Panel(
                "Chunks that failed",
                "Share of the attempts that a stage is done with and that did not complete.",
                "percentunit",
                (
                    Query(
                        _share(
                            'pixcrawler_chunks_total{status!="completed"}',
                            "pixcrawler_chunks_total",
                            "stage",
                        ),
                        "{{stage}}",
                    ),
                ),
            ),
            Panel(
                "In hand",
                "Pieces of work that replicas have in hand; full at PIXCRAWLER_IN_FLIGHT each.",
                "short",
                (Query("sum by (stage) (pixcrawler_in_flight)", "{{stage}}"),),
            ),
        ),
    ),
    Row(
        "How far behind",
        (
            Panel(
                "Lag in records",
                "Not done yet, by who reads what.",
                "short",
                (
                    Query(
                        "sum by (service, topic) (pixcrawler_consumer_lag)",
                        "{{service}} {{topic}}",
                    ),
                ),
            ),
            Panel(
                "Lag in seconds",
                "Age of the oldest record that is not done.",
                "s",
                (
                    Query(
                        "max by (service, topic) (pixcrawler_consumer_lag_seconds)",
                        "{{service}} {{topic}}",
                    ),
                ),
            ),
            Panel(
                "Rebalances",
                "Assignments of partitions a minute: many of them cost more than they bring.",
                "cpm",
                (
                    Query(
                        f"60 * sum by (stage) (rate(pixcrawler_rebalances_total[{INTERVAL}]))",
                        "{{stage}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Slots and budgets",
        (
            Panel(
                "Slots",
                "Chunks in progress, and as many as there may be.",
                "short",
                (
                    Query("max(pixcrawler_chunks_active)", "in use"),
                    Query("max(pixcrawler_chunks_max)", "there are"),
                ),
            ),
            Panel(
                "The queue by priority",
                "Chunks that wait for a slot.",
                "short",
                (
                    Query(
                        "max by (priority) (pixcrawler_chunks_pending)",
                        "priority {{priority}}",
                    ),
                ),
            ),
            Panel(
                "Budgets of hosts",
                "Connections that replicas lease within the budgets of hosts, of them used, and "
                "candidates that wait for one: the price of politeness.",
                "short",
                (Query("sum by (state) (pixcrawler_host_connections)", "{{state}}"),),
            ),
        ),
    ),
    Row(
        "Images",
        (
            Panel(
                "Outcomes",
                "Candidates of chunks that completed, a minute.",
                "cpm",
                (
                    Query(
                        f"60 * sum by (outcome) (rate(pixcrawler_images_total[{INTERVAL}]))",
                        "{{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Seconds a try",
                "From the request to the last byte; half, and all but 5%.",
                "s",
                (
                    Query(_quantile(0.5, "pixcrawler_fetch_seconds"), "50%"),
                    Query(_quantile(0.95, "pixcrawler_fetch_seconds"), "95%"),
                ),
            ),
            Panel(
                "Received",
                "Bytes of images.",
                "Bps",
                (Query(f"sum(rate(pixcrawler_fetch_bytes_total[{INTERVAL}]))", "all"),),
            ),
            Panel(
                "Rounds of jobs that ended",
                "In an hour, by how.",
                "short",
                (
                    Query(
                        "sum by (status) (increase(pixcrawler_jobs_total[1h]))",
                        "{{status}}",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "Sources",
        (
            Panel(
                "Requests to searches",
                "By answer.",
                "reqps",
                (
                    Query(
                        "sum by (source, status) "
                        f"(rate(pixcrawler_source_requests_total[{INTERVAL}]))",
                        "{{source}} {{status}}",
                    ),
                ),
            ),
            Panel(
                "Requests that fail",
                "Share of all to the same search.",
                "percentunit",
                (
                    Query(
                        _share(
                            'pixcrawler_source_requests_total{status!~"2.."}',
                            "pixcrawler_source_requests_total",
                            "source",
                        ),
                        "{{source}}",
                    ),
                ),
            ),
            Panel(
                "Breakers",
                "Replicas for which a source or a host rests. Hosts are shown only while they do.",
                "short",
                (Query("sum by (name) (pixcrawler_breaker_open)", "{{name}}"),),
            ),
        ),
    ),
    Row(
        "What should be nothing",
        (
            Panel(
                "Dead letters",
                "In a quarter of an hour, by stage and reason.",
                "short",
                (
                    Query(
                        "sum by (stage, reason) (increase(pixcrawler_dlq_total[15m]))",
                        "{{stage}} {{reason}}",
                        _DEAD,
                    ),
                ),
            ),
            Panel(
                "Outbox",
                "Events that wait to leave the database.",
                "short",
                (Query("max(pixcrawler_outbox_pending)", "events"),),
            ),
            Panel(
                "Outbox, age",
                "Of the oldest event in it.",
                "s",
                (Query("max(pixcrawler_outbox_oldest_seconds)", "oldest"),),
            ),
            Panel(
                "Disks",
                "Share that is left where programs write.",
                "percentunit",
                (
                    Query(
                        "min by (service, folder) "
                        "(pixcrawler_disk_free_bytes / pixcrawler_disk_size_bytes)",
                        "{{service}} {{folder}}",
                    ),
                    Query(
                        "min by (persistentvolumeclaim) ("
                        'kubelet_volume_stats_available_bytes{namespace="pixcrawler"} / '
                        'kubelet_volume_stats_capacity_bytes{namespace="pixcrawler"})',
                        "{{persistentvolumeclaim}}",
                        "there is no kubelet outside of Kubernetes",
                    ),
                ),
            ),
        ),
    ),
    Row(
        "The API",
        (
            Panel(
                "Requests",
                "By status; health and metrics are not counted.",
                "reqps",
                (
                    Query(
                        f"sum by (status) (rate(pixcrawler_request_seconds_count[{INTERVAL}]))",
                        "{{status}}",
                    ),
                ),
            ),
            Panel(
                "Seconds a request",
                "Half, and all but 5%. A stream of events counts when it ends.",
                "s",
                (
                    Query(_quantile(0.5, "pixcrawler_request_seconds"), "50%"),
                    Query(_quantile(0.95, "pixcrawler_request_seconds"), "95%"),
                ),
            ),
            Panel(
                "Requests that fail",
                "Share of 5xx.",
                "percentunit",
                (
                    Query(
                        _share(
                            'pixcrawler_request_seconds_count{status=~"5.."}',
                            "pixcrawler_request_seconds_count",
                            "service",
                        ),
                        "{{service}}",
                    ),
                ),
            ),
            Panel(
                "Webhooks",
                "Attempts a minute, by what became of them.",
                "cpm",
                (
                    Query(
                        f"60 * sum by (status) (rate(pixcrawler_webhooks_total[{INTERVAL}]))",
                        "{{status}}",
                        "nobody asked for one",
                    ),
                ),
            ),
        ),
    ),
)
