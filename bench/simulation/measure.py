"""What a chunk takes, measured on a real run: one chunk at a time, then several for comparison."""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx
import psutil

from bench.simulation.draws import always, like
from bench.simulation.model import Plan, Work
from pixcrawler import standalone
from pixcrawler.common import admin, topics
from pixcrawler.miniweb import plans, site
from pixcrawler.standalone import Status, UpOptions

STAGES = ("downloader", "validator", "uploader")
MARKS = (
    topics.CHUNK_PLANNED,
    topics.CHUNK_DOWNLOADED,
    topics.CHUNK_VALIDATED,
    topics.CHUNK_UPLOADED,
)
TERMINAL = {"completed", "incomplete", "failed", "cancelled"}
IDLE_S = 10.0


class Run(NamedTuple):
    """One job on this machine.

    Attributes:
        chunks: How many it had.
        seconds: From the first `chunk.planned` to the last `chunk.uploaded`.
        spans: Seconds of each chunk in each stage, from the event before to the stage's own.
        cpu: CPU seconds of each service, and of the `rest`: broker, database, the web it crawls.
        transactions: Committed by the database meanwhile.
        others_s: CPU seconds of everybody else on this machine, within `wall_s` seconds.
        wall_s: Likewise.
    """

    chunks: int
    seconds: float
    spans: dict[str, list[float]]
    cpu: dict[str, float]
    transactions: int
    others_s: float
    wall_s: float


class Measured(NamedTuple):
    """One chunk at a time, several at a time, `times` jobs of each; and a second without any job.

    `idle_cpu` are CPU seconds by service, `idle_transactions` those of the database.
    """

    single: Run
    several: Run
    times: int
    idle_cpu: dict[str, float]
    idle_transactions: float


def measure(images: int, chunk_size: int, at_once: int, times: int) -> Measured:
    """The same job in two systems in turn, so that what else the machine does falls on both.

    Args:
        images: Of each job; all chunks should be of one size.
        chunk_size: Candidates in a chunk.
        at_once: Slots of the second system; the first has one.
        times: How often each.
    """
    with (
        site.running(plans.good_plan(images)) as web,
        _system(web.env, chunk_size, 1) as one,
        _system(web.env, chunk_size, at_once) as other,
    ):
        for status in (one, other):
            _run(status, web.keywords, chunk_size)  # what is loaded only once is loaded by now
        pairs = [
            (_run(one, web.keywords, images), _run(other, web.keywords, images))
            for _ in range(times)
        ]
        idle_cpu, idle_transactions = _idle(one)
    singles, severals = zip(*pairs, strict=True)
    return Measured(_sum(singles), _sum(severals), times, idle_cpu, idle_transactions)


def _sum(runs: Sequence[Run]) -> Run:
    """Several runs as if they were one."""
    return Run(
        chunks=sum(run.chunks for run in runs),
        seconds=sum(run.seconds for run in runs),
        spans={stage: [s for run in runs for s in run.spans[stage]] for stage in STAGES},
        cpu={name: sum(run.cpu[name] for run in runs) for name in runs[0].cpu},
        transactions=sum(run.transactions for run in runs),
        others_s=sum(run.others_s for run in runs),
        wall_s=sum(run.wall_s for run in runs),
    )


def plan_of(measured: Measured, at_once: int, cores: int) -> Plan:
    """The system that was measured: one replica a stage, all on the same cores.

    What a chunk computes in a stage is the service's own CPU time and a third of the rest's,
    without what they use when there is no work; that makes all of it slower instead, as does what
    others took of the machine. What a chunk waits is what remains of its span.
    """
    works, run, several = [], measured.single, measured.several
    taken = sum(measured.idle_cpu.values()) + several.others_s / several.wall_s
    slower = 1 / (1 - min(taken / cores, 0.9))
    used = {
        name: max(run.cpu[name] - idle * run.seconds, 0.0)
        for name, idle in measured.idle_cpu.items()
    }
    for stage in STAGES:
        cpu = slower * (used[stage] + used["rest"] / len(STAGES)) / run.chunks
        waits = [max(span - cpu, 0.0) for span in run.spans[stage]]
        works.append(Work(stage, like(waits), always(cpu)))
    return Plan(
        tuple(works), dict.fromkeys(STAGES, 1), capacity=at_once, cores=None, machine_cores=cores
    )


@contextmanager
def _system(web: Mapping[str, str], chunk_size: int, at_once: int) -> Iterator[Status]:
    settings = {
        "PIXCRAWLER_RESOURCE_CHUNK_SIZE_IMAGES": str(chunk_size),
        "PIXCRAWLER_RESOURCE_MAX_CONCURRENT_CHUNKS": str(at_once),
    }
    with tempfile.TemporaryDirectory(prefix="pixcrawler-bench-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        options = UpOptions(data_dir=Path(folder), port=0)
        environment = {**os.environ, **web, **settings}
        with standalone.temporary(options, environment=environment) as status:
            yield status


def _run(status: Status, keywords: tuple[str, ...], images: int) -> Run:
    used, committed = _cpu(status), _transactions(status)
    begun_at, busy = time.monotonic(), _busy()
    job = _finish(status, keywords, images)
    wall_s, busy = time.monotonic() - begun_at, _busy() - busy
    after, committed = _cpu(status), _transactions(status) - committed
    marks = asyncio.run(_marks(str(status.kafka_bootstrap_servers), job))
    begun, ended = marks[MARKS[0]], marks[MARKS[-1]]
    spans = {
        stage: [marks[after][chunk] - at for chunk, at in marks[before].items()]
        for stage, before, after in zip(STAGES, MARKS, MARKS[1:], strict=False)
    }
    return Run(
        chunks=len(ended),
        seconds=max(ended.values()) - min(begun.values()),
        spans=spans,
        cpu={name: after[name] - used[name] for name in after},
        transactions=committed,
        others_s=max(busy - sum(after.values()) + sum(used.values()), 0.0),
        wall_s=wall_s,
    )


def _finish(status: Status, keywords: tuple[str, ...], images: int) -> str:
    headers = {"X-API-Key": str(status.api_key)}
    with httpx.Client(base_url=str(status.api_url), headers=headers, timeout=60) as api:
        wish = {"keywords": list(keywords), "max_images": images}
        job = str(api.post("/v1/jobs", json=wish).raise_for_status().json()["job_id"])
        while api.get(f"/v1/jobs/{job}/progress").json()["status"] not in TERMINAL:
            time.sleep(0.1)
    return job


async def _marks(servers: str, job: str) -> dict[str, dict[str, float]]:
    """When each event of each chunk was published, the first of its kind."""
    found: dict[str, dict[str, float]] = {}
    for topic in MARKS:
        found[topic] = {}
        async for record in admin.tail(servers, topic, job_id=job):
            at = datetime.fromisoformat(dict(record.headers)["ce_time"].decode()).timestamp()
            found[topic].setdefault((record.key or b"").decode(), at)
    return found


def _cpu(status: Status) -> dict[str, float]:
    """CPU seconds of each stage, and of everything else that the run needs, ourselves included."""
    seconds = dict.fromkeys((*STAGES, "rest"), 0.0)
    for component in status.components:
        if component.pid is not None:
            name = component.service if component.service in STAGES else "rest"
            seconds[name] += _of(psutil.Process(component.pid))
    seconds["rest"] += _of(psutil.Process())
    return seconds


def _busy() -> float:
    """CPU seconds of the whole machine so far."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _of(process: psutil.Process) -> float:
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _transactions(status: Status) -> int:
    async def ask() -> int:
        url = str(status.database_url).replace("+asyncpg", "")
        connection = await asyncpg.connect(url)
        try:
            return int(
                await connection.fetchval(
                    "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
                )
            )
        finally:
            await connection.close()

    return asyncio.run(ask())


def _idle(status: Status) -> tuple[dict[str, float], float]:
    """CPU seconds and transactions in a second without a job: what services do by themselves."""
    used, committed = _cpu(status), _transactions(status)
    time.sleep(IDLE_S)
    after = _cpu(status)
    cpu = {name: (after[name] - used[name]) / IDLE_S for name in after}
    return cpu, (_transactions(status) - committed) / IDLE_S
