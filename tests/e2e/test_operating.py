"""What an operator sees of a running system: its metrics, its alerts, its traces, its logs.

One system for all of it, with its log as JSON with every line, its blobs in Azurite, a collector of
spans, and a Prometheus that watches it. The tests build on each other in their order: jobs first,
then what they left behind, then faults, and last what all of it left in the logs.
"""

import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from deploy import panels
from deploy.panels import INTERVAL, Query
from pixcrawler.client.api import Api
from pixcrawler.common.blobs import open_blobs
from pixcrawler.miniweb import plans, site
from pixcrawler.miniweb.plans import Plan
from pixcrawler.miniweb.site import Site
from pixcrawler.standalone.paths import cache_dir
from tests import prometheus
from tests.azurite.server import Azurite
from tests.chaos.stores import Disk, disk_of_its_own
from tests.e2e import faults
from tests.e2e.collector import Collector, Spanned, collecting
from tests.e2e.faults import Faults
from tests.e2e.system import CHUNK_SIZE, SERVICES, STAGES, Json, System, running
from tests.e2e.waiting import until
from tests.prometheus import Prometheus
from tests.scratch import reachable_folder

CLIENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SOURCE_PASSWORD = "s0urce-pass.word"
IMAGE_PASSWORD = "im4ge-pass.word"
WEBHOOK_PASSWORD = "h00k-pass.word"
COLLECTOR_PASSWORD = "coll3ctor-pass.word"

SECONDS_A_MINUTE = float(os.environ.get("PIXCRAWLER_TEST_MINUTE_S", "0.4"))
"""The rules are evaluated with minutes as short as this. With the real 60 it takes 45 minutes, as
`PIXCRAWLER_TEST_MINUTE_S=60 pytest -o timeout=4000 …`."""
DEADLINE_S = 90.0 + 30 * SECONDS_A_MINUTE


@dataclass(frozen=True, slots=True)
class Watched:
    """A running system, and everybody who watches it.

    Attributes:
        jobs: Two that have ended: by keywords, and by a list of URLs.
        began: When they began, in seconds since the epoch.
    """

    system: System
    web: Site
    prometheus: Prometheus
    collector: Collector
    storage_key: str
    disk: Disk | None
    spool: Path
    jobs: tuple[str, str]
    began: float


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    """Photographs of three keywords; the last is for the time when a search is away."""
    with site.running(Plan((("photo", 90),), keywords=plans.KEYWORDS[:3]), seed=12) as found:
        yield found


@pytest.fixture(scope="module")
def watched(web: Site) -> Iterator[Watched]:
    """Everything, after two jobs."""
    prometheus.program("prometheus")
    with ExitStack() as stack:
        folder = stack.enter_context(reachable_folder())
        collector = stack.enter_context(collecting())
        azurite = Azurite(cache_dir(os.environ), folder)
        asyncio.run(azurite.start())
        stack.callback(lambda: asyncio.run(azurite.stop()))
        disk = stack.enter_context(disk_of_its_own(folder / "spool"))
        told = {
            **web.env,
            **faults.SETTINGS,
            "PIXCRAWLER_LOG_FORMAT": "json",
            "PIXCRAWLER_LOG_LEVEL": "debug",
            "PIXCRAWLER_BLOB_URL": "azure://operating",
            "AZURE_STORAGE_CONNECTION_STRING": azurite.connection_string,
            "PIXCRAWLER_SPOOL_DIR": str(folder / "spool"),
            "PIXCRAWLER_SOURCE_OPENVERSE_URL": with_credentials(
                web.env["PIXCRAWLER_SOURCE_OPENVERSE_URL"], SOURCE_PASSWORD
            ),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Basic%20{quote(COLLECTOR_PASSWORD)}",
        }
        store = open_blobs("azure://operating", azurite.connection_string)
        system = stack.enter_context(
            running(told, dict.fromkeys(STAGES, 1), folder=folder, store=store)
        )
        system.wait_healthy()
        watcher = stack.enter_context(
            prometheus.watching(
                addresses(system),
                folder / "prometheus",
                rules=prometheus.scaled_rules(prometheus.RULES, SECONDS_A_MINUTE),
            )
        )
        began = time.time()
        jobs = run_jobs(system, web)
        key = azurite.connection_string.partition("AccountKey=")[2].partition(";")[0]
        yield Watched(system, web, watcher, collector, key, disk, folder / "spool", jobs, began)


def addresses(system: System) -> list[tuple[str, str]]:
    """Where Prometheus finds each replica."""
    return [
        (each.service, str(each.address))
        for each in system.components()
        if each.service in SERVICES
    ]


def with_credentials(url: str, password: str) -> str:
    """The URL with a user and a password in it."""
    return url.replace("://", f"://user:{password}@")


def run_jobs(system: System, web: Site) -> tuple[str, str]:
    """Two jobs until they have ended: images of two searches; URLs, of which one has credentials,
    and a receiver that is told, which does not exist."""
    made = system.api.post(
        "/v1/jobs",
        {"keywords": [web.keywords[0]], "max_images": CHUNK_SIZE + 1},
        headers={"Idempotency-Key": "operating", "traceparent": CLIENT},
    )
    urls = list(web.truth)
    listed = system.create(
        urls=[*urls[:5], with_credentials(urls[5], IMAGE_PASSWORD)],
        max_images=6,
        webhook_url=with_credentials("http://127.0.0.1:9/hook", WEBHOOK_PASSWORD),
    )
    jobs = str(made["job_id"]), listed
    for job in jobs:
        assert system.finish(job)["status"] == "completed"
    return jobs


# ---- metrics


def test_every_panel_has_its_data(watched: Watched) -> None:
    """Prometheus answers every query of the dashboard, and each with numbers, unless it says why
    there may be none."""

    # What a counter begins with is no rate: another job, after all of the first ones was seen.
    kept = sum(watched.system.progress(job)["images"]["valid"] for job in watched.jobs)
    seen = 'min_over_time(sum(pixcrawler_images_total{outcome="kept"})[3s:1s])'
    until(
        "Prometheus has seen the jobs",
        lambda: (watched.prometheus.value(seen) or 0) >= kept,
        deadline_s=30,
        about=lambda: (watched.prometheus.value(seen), kept),
    )
    job = watched.system.create(keywords=[watched.web.keywords[1]], max_images=5)
    watched.system.finish(job)

    def silent() -> list[str]:
        return [
            f"{panel.title}: {query.expr}"
            for row in panels.ROWS
            for panel in row.panels
            for query in panel.queries
            if not (numbers(watched, query) or query.quiet)
        ]

    until("all have data", lambda: not silent(), deadline_s=30, about=silent)


def numbers(watched: Watched, query: Query) -> int:
    """How many numbers it was answered since the jobs began."""
    found = watched.prometheus.range(query.expr.replace(INTERVAL, "5s"), watched.began)
    return sum(value == value for each in found for _, value in each.samples)  # noqa: PLR0124 - NaN


# ---- traces


def test_one_tree_for_each_chunk(watched: Watched) -> None:
    """Every span of a chunk, of every stage from the planner to the uploader and back, hangs from
    the request that made the job, and that from the client's; a job's trace has no other root."""
    job = watched.jobs[0]
    trace = CLIENT.split("-")[1]
    chunks = {str(chunk["chunk_id"]) for chunk in watched.system.chunks(job)}
    assert len(chunks) > 1
    wanted = {
        ("pixcrawler-planner", "send chunk.planned"),
        ("pixcrawler-downloader", "downloader chunk.planned"),
        ("pixcrawler-validator", "validator chunk.downloaded"),
        ("pixcrawler-uploader", "uploader chunk.validated"),
        ("pixcrawler-planner", "planner chunk.uploaded"),
        ("pixcrawler-tracker", "tracker chunk.uploaded"),
    }

    def missing() -> dict[str, set[tuple[str, str]]]:
        found = by_chunk(watched.collector.of(trace))
        return {
            chunk: left
            for chunk in chunks
            if (left := wanted - {(each.service, each.name) for each in found[chunk]})
        }

    def roots_of(spans: list[Spanned]) -> list[Spanned]:
        ids = {each.span_id for each in spans}
        assert len(ids) == len(spans)
        return [each for each in spans if each.parent_id not in ids]

    def above() -> list[Spanned]:
        return roots_of(watched.collector.of(trace))

    until("all spans are there", lambda: not missing(), deadline_s=30, about=missing)
    # Programs send theirs once a second, and who is caused may be quicker than who causes.
    until("they are one tree", lambda: len(above()) == 1, deadline_s=30, about=above)
    spans = watched.collector.of(trace)
    by_id, roots = {each.span_id: each for each in spans}, roots_of(spans)
    assert [(root.name, root.parent_id) for root in roots] == [
        ("POST /v1/jobs", CLIENT.split("-")[2])
    ]
    for chunk, found in by_chunk(spans).items():
        assert chunk in chunks
        assert {way(each, by_id)[-1].span_id for each in found} == {roots[0].span_id}
        for each in found:
            assert each.attributes["pixcrawler.job"] == job
            assert each.began <= each.ended
        # From the ZIP back to the request: each stage was caused by the one before it.
        (packed, *_) = [each for each in found if each.name == "uploader chunk.validated"]
        assert [each.name for each in way(packed, by_id)] == [
            "uploader chunk.validated",
            "validator chunk.downloaded",
            "downloader chunk.planned",
            "send chunk.planned",
            "POST /v1/jobs",
        ]


def by_chunk(spans: list[Spanned]) -> dict[str, list[Spanned]]:
    """The spans that are about a chunk."""
    found: dict[str, list[Spanned]] = defaultdict(list)
    for each in spans:
        if each.chunk:
            found[each.chunk].append(each)
    return found


def way(span: Spanned, by_id: dict[str, Spanned]) -> list[Spanned]:
    """From a span up to its root."""
    found = [span]
    while (above := by_id.get(found[-1].parent_id)) is not None:
        assert above not in found
        found.append(above)
    return found


# ---- logs


def test_machines_can_follow_a_chunk_through_the_logs(watched: Watched) -> None:
    """Every line is one JSON object with the fields of the interface; those about a chunk's work
    name its job, its trace, and the stage."""
    (first, second), trace = watched.jobs, CLIENT.split("-")[1]
    expected = {first: trace, second: second.replace("-", "")}
    seen = defaultdict(set)
    for service in SERVICES:
        for line in logged(watched.system, service):
            assert {"task_id", "chunk", "phase", "job", "trace_id", "message"} <= line.keys(), line
            if line["chunk"] and line["job"] in expected and line["task_id"]:
                assert line["chunk"].startswith(line["job"]), line
                assert line["task_id"].startswith(line["chunk"]), line
                assert (line["phase"], line["trace_id"]) == (service, expected[line["job"]]), line
                seen[line["job"]].add(line["phase"])
    for job in expected:
        assert seen[job] >= {"downloader", "validator", "uploader"}


def logged(system: System, service: str) -> list[Json]:
    """The lines of a service's log; what is not JSON fails."""
    replica = "api-1" if service == "api" else f"{service}-1"
    return [json.loads(line) for line in system.log(replica).splitlines()]


# ---- alerts


def test_each_fault_fires_its_alert(
    watched: Watched, record_testsuite_property: Callable[[str, float], None]
) -> None:
    """What the rules are for happens, and a real Prometheus says so: with the rules as they are,
    but for shorter minutes."""
    made = Faults(watched.system, watched.web, watched.prometheus, watched.disk, watched.spool)
    until("nothing fires", lambda: not watched.prometheus.firing(), deadline_s=DEADLINE_S)
    made.first(DEADLINE_S)
    made.second(DEADLINE_S)
    for name, seconds in sorted(made.seconds.items()):
        record_testsuite_property(name, round(seconds, 1))
    told = {
        rule["alert"] for rule in prometheus.scaled_rules(prometheus.RULES, 1)["groups"][0]["rules"]
    }
    if watched.disk is None:
        told.remove("PixCrawlerDiskFull")  # only root may have a file system of its own
    assert made.seconds.keys() == told


# ---- after all that


def test_no_secret_is_logged(watched: Watched) -> None:
    """Keys, passwords, signatures, and credentials in URLs are in no line of any program, at the
    level that has most lines, after jobs, refused requests and outages; nor in metrics or spans."""
    system = watched.system
    system.wait_healthy()
    secret = system.api.get("/v1/webhook-secret")["secret"]
    links = [
        each["url"]
        for job in watched.jobs
        for each in system.api.get(f"/v1/jobs/{job}/dataset")["files"]
    ]
    wrong = f"pxc_{'a' * 12}_{'b' * 48}"
    with Api(system.api.url, wrong, patience_s=1) as stranger:
        assert faults.refused_by(stranger, "/v1/jobs?signature=w0rn-out") == 401
    until(
        "the receiver was tried",
        lambda: any(line.get("action") == "webhook" for line in logged(system, "api")),
    )
    secrets = {
        "the API key": system.key.rpartition("_")[2],
        "a wrong API key": "b" * 48,
        "the webhooks' secret": str(secret).removeprefix("whsec_"),
        "the storage key": watched.storage_key,
        "a search's password": SOURCE_PASSWORD,
        "an image's password": IMAGE_PASSWORD,
        "a receiver's password": WEBHOOK_PASSWORD,
        "the collector's password": COLLECTOR_PASSWORD,
        **{f"{name}'s password": word for name, word in faults.passwords(system).items()},
        **{f"link {n}": parse_qs(urlsplit(url).query)["sig"][0] for n, url in enumerate(links)},
        "a signature": "w0rn-out",
    }
    assert len(secrets) > 9 + len(SERVICES)
    assert all(len(each) > 7 for each in secrets.values())
    texts = {
        path.name: path.read_text(errors="replace")
        for path in (system.data_dir / "logs").iterdir()
        if path.is_file()
    }
    assert {f"{service}-1.log" for service in SERVICES} <= texts.keys()
    texts["metrics"] = "\n".join(map(repr, system.metrics()))
    texts["spans"] = "\n".join(map(repr, watched.collector.all()))
    assert "pixcrawler_chunks_total" in texts["metrics"]
    assert "POST /v1/jobs" in texts["spans"]
    leaks = [
        (name, file, line[max(0, line.find(form) - 200) :][:400])
        for name, plain in secrets.items()
        for form in {plain, quote(plain, safe="")}
        for file, text in texts.items()
        for line in text.splitlines()
        if form in line
    ]
    assert leaks == []
