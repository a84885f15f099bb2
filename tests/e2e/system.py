"""A running PixCrawler as tests see it: jobs over HTTP, and everything behind them."""

import json
import os
import random
import signal
import sys
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from prometheus_client.parser import text_string_to_metric_families

from pixcrawler.client import download
from pixcrawler.client.api import Api
from pixcrawler.client.errors import ApiError
from pixcrawler.client.watching import TERMINAL
from pixcrawler.common import admin, failpoints
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.standalone import Program, Status, UpOptions, temporary
from pixcrawler.standalone import options as up_options
from pixcrawler.standalone.events import Event, ignore
from pixcrawler.standalone.paths import Paths
from pixcrawler.standalone.probing import probe
from pixcrawler.standalone.state import ComponentState, read_kept, read_state
from pixcrawler.standalone.told import Told
from tests.e2e import records
from tests.e2e import through as through_port
from tests.e2e.background import Background
from tests.e2e.records import Raw
from tests.e2e.waiting import DEADLINE_S, until
from tests.pooler import Pooler
from tests.pooler import asked_for as pooled
from tests.scratch import reachable_folder

Json = dict[str, Any]
T = TypeVar("T")

STAGES = ("planner", "downloader", "validator", "uploader", "tracker")
SERVICES = ("api", *STAGES)

FORKS = (*(f"pixcrawler.{name}.__main__" for name in SERVICES), "pyarrow.parquet", "pandas")
"""Replicas are forked from a process that has imported them, and what an uploader imports with its
first dataset: they start often, and a second of a core or two go into it otherwise.
(`test_command` and the demo start them as users do.)"""

CHUNK_SIZE = 20
"""So that small jobs have many chunks."""

PARTITIONS = 4
"""More than any stage has replicas here. Every consumer asks for each of its partitions twice a
second: with the usual twelve a sixth more is worked while nothing is to be done."""

SESSION_TIMEOUT_S = 6.0
"""The least that a broker allows by default (group.min.session.timeout.ms)."""

SETTINGS = {
    "PIXCRAWLER_RESOURCE_CHUNK_SIZE_IMAGES": str(CHUNK_SIZE),
    "PIXCRAWLER_RESOURCE_RELEASE_INTERVAL_S": "0.05",
    "PIXCRAWLER_SESSION_TIMEOUT_S": f"{SESSION_TIMEOUT_S:g}",
    "PIXCRAWLER_DRAIN_S": "5",
    "PIXCRAWLER_RETRY_MAX_WAIT_S": "2",
    "PIXCRAWLER_PLANNER_TICK_S": "1",
    "PIXCRAWLER_PLANNER_REVIEW_S": "3",
    "PIXCRAWLER_CHUNK_BACKOFF_S": "0.2",
    "PIXCRAWLER_SWEEP_INTERVAL_S": "2",
    "PIXCRAWLER_SWEEP_ALL_INTERVAL_S": "5",
    "PIXCRAWLER_ERASE_INTERVAL_S": "2",
    "PIXCRAWLER_TRACKER_ERASE_S": "2",
    "PIXCRAWLER_FETCH_BACKOFF_S": "0.1",
    "PIXCRAWLER_FETCH_LEASE_S": "2",
    "PIXCRAWLER_CHUNK_DEADLINE_S": "600",
}
"""Short times, so that what is wrong shows soon. Not so the deadline of chunks: an event that gets
lost has to show as a job that does not end, and not to be healed by planning the chunk again."""


LONGEST_PAUSE_S: float = UpOptions.model_fields["longest_pause_s"].default
"""As it comes."""


class System:
    """One run of standalone mode, and jobs in it.

    Args:
        started: As it was when it was ready.
        background: Where asynchronous work is done.
        points: The folder in which points of death are armed (see `pixcrawler.common.failpoints`).
        environment: What its services inherit.
        store: Where its objects are, as nobody's faults can reach it; the data directory's blobs
            if it is not given.
        pooler: What stands between its services and the database, if anything does.
    """

    def __init__(
        self,
        started: Status,
        background: Background,
        points: Path,
        environment: Mapping[str, str],
        store: BlobStore | None = None,
        *,
        pooler: Pooler | None = None,
    ) -> None:
        self.pooler = pooler
        self.data_dir = started.data_dir
        self.blobs = started.data_dir / "blobs"
        self.store = store or LocalBlobs(self.blobs)
        self.environment = environment
        self.servers = str(started.kafka_bootstrap_servers)
        self.key = str(started.api_key)
        self.api = Api(str(started.api_url), self.key, patience_s=60.0)
        self._background = background
        self._database_url = str(started.database_url)
        self._database = self._database_url.replace("+asyncpg", "")
        self.points = points

    def told(self, service: str, name: str, port: int) -> dict[str, str]:
        """The environment of one more replica of a service, as the supervisor would tell it."""
        paths = Paths(self.data_dir)
        [program] = [each for each in programs(self.points) if each.service == service]
        kept = read_kept(paths)
        told = Told(
            inherited=self.environment,
            paths=paths,
            kafka_bootstrap_servers=self.servers,
            database_url=self._database_url,
            passwords=kept.passwords,
            partitions=kept.partitions,
        ).environment(name, program, port)
        if self.pooler is not None:
            address = told[through_port.VARIABLE]
            told[through_port.VARIABLE] = through_port.behind(self.pooler.port, address)
        return told

    # ---- jobs

    def create(self, **wish: Any) -> str:
        """Create a job; its id. Safe while the api dies: it is asked for by an Idempotency-Key."""
        job = self.api.post("/v1/jobs", wish, headers={"Idempotency-Key": uuid.uuid4().hex})
        return str(job["job_id"])

    def create_from(self, urls: Sequence[str], number: int | None = None, **wish: Any) -> str:
        """A job for a list of URLs."""
        return self.create(urls=list(urls), max_images=number or len(urls), **wish)

    def job(self, job_id: str) -> Json:
        """The job object."""
        return self.api.get(f"/v1/jobs/{job_id}")

    def progress(self, job_id: str) -> Json:
        """The progress object."""
        return self.api.get(f"/v1/jobs/{job_id}/progress")

    def chunks(self, job_id: str) -> list[Json]:
        """All chunks, superseded ones too."""
        return list(self.api.pages(f"/v1/jobs/{job_id}/chunks"))

    def outcomes(self, job_id: str) -> list[Json]:
        """One row per URL."""
        return list(self.api.pages(f"/v1/jobs/{job_id}/outcomes", limit=5000))

    def finish(self, job_id: str, *, deadline_s: float = DEADLINE_S) -> Json:
        """Wait until the latest round's dataset is there; the last progress."""

        def over() -> Json | None:
            shown = self.progress(job_id)
            return shown if shown["status"] in TERMINAL else None

        answer = until(
            f"job {job_id} ends", over, deadline_s=deadline_s, about=lambda: self.describe(job_id)
        )
        assert answer is not None
        return answer

    def fetch(self, job_id: str, folder: Path) -> Path:
        """The dataset, as users fetch it."""
        # A client of its own: one that could not fetch something asks for nothing more.
        with Api(self.api.url, self.key, patience_s=60.0) as api:
            download.fetch(api, job_id, folder)
        return folder

    def archives(self, job_id: str) -> dict[int, str]:
        """sha256 of every archive, by the index of its chunk."""
        files = self.api.get(f"/v1/jobs/{job_id}/dataset")["files"]
        return {
            int(file["path"].rpartition("-")[2].partition(".")[0]): str(file["sha256"])
            for file in files
            if file["path"].startswith("chunk_")
        }

    def ended(self, job_id: str) -> int:
        """How many of its chunks have ended, as their results say: what nobody can take back."""
        names = self.names(f"jobs/{job_id}/chunks/")
        return sum(name.endswith("/result.json") for name in names)

    def wait_ended(self, number: int, *job_ids: str) -> None:
        """Wait until so many chunks of these jobs have ended."""
        until(f"{number} chunks end", lambda: sum(map(self.ended, job_ids)) >= number)

    def describe(self, job_id: str) -> Json:
        """What there is to know about a job that does not do as it should."""
        chunks = {
            chunk["index"]: (chunk["status"], chunk["stage"]) for chunk in self.chunks(job_id)
        }
        ended = self.ended(job_id)
        behind = {k: v for k, v in self.lag().items() if v}
        return {"progress": self.progress(job_id), "chunks": chunks, "ended": ended, "lag": behind}

    def missing(self, job_id: str) -> bool:
        """Whether the api does not know the job (any more)."""
        try:
            self.job(job_id)
        except ApiError as error:
            return error.status == 404
        return False

    # ---- what is behind them

    def work(self, work: Coroutine[Any, Any, T], timeout_s: float = 60.0) -> T:
        """The result of what is asynchronous."""
        return self._background.run(work, timeout_s)

    def rows(self, query: str, *arguments: object) -> list[Any]:
        """Ask the database."""

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self._database)
            try:
                return list(await connection.fetch(query, *arguments))
            finally:
                await connection.close()

        return self._background.run(ask())

    def count(self, table: str, job_id: str) -> int:
        """Rows of a job."""
        return int(self.rows(f"SELECT count(*) FROM {table} WHERE job_id = $1", job_id)[0][0])

    def read(self, names: Sequence[str], job_id: str = "") -> list[Raw]:
        """Records of these topics, those of one job if it is given."""
        return self._background.run(records.read(self.servers, names, job_id))

    def publish(self, raw: Sequence[Raw], *, spread: bool = False) -> None:
        """Publish records as they are; `spread`: each to every partition."""
        self._background.run(records.publish(self.servers, raw, spread=spread))

    def forget(self, names: Sequence[str]) -> None:
        """Remove all records of these topics."""
        self._background.run(records.forget(self.servers, names))

    def lag(self) -> Counter[str]:
        """Records that each group has before it."""
        behind: Counter[str] = Counter()
        for each in self._background.run(admin.lag(self.servers)):
            behind[f"{each.group} {each.topic}"] += each.lag
        return behind

    def names(self, prefix: str) -> list[str]:
        """Every object whose name begins so."""

        async def ask() -> list[str]:
            return [info.name async for info in self.store.list(prefix)]

        return self._background.run(ask())

    def content(self, name: str) -> bytes:
        """An object's bytes."""
        return self._background.run(self.store.read(name))

    def objects(self, folder: str) -> dict[str, bytes]:
        """Every object below a folder, by name."""
        return {name: self.content(name) for name in self.names(f"{folder}/")}

    # ---- processes

    def status(self) -> Status:
        """How everything is."""
        return self._background.run(probe(self.data_dir))

    def components(self) -> tuple[ComponentState, ...]:
        """What the supervisor keeps running. Asks none of them."""
        state = read_state(Paths(self.data_dir))
        assert state is not None
        return state.components

    def processes(self, service: str) -> dict[str, int]:
        """Processes that run now of a service, of `kafka` or of `postgres`, by replica."""
        found = {c.name: c.process for c in self.components() if c.service == service}
        return {name: each.pid for name, each in found.items() if each is not None and each.alive}

    def pids(self, service: str) -> list[int]:
        """The same without their names."""
        return list(self.processes(service).values())

    def restarts(self) -> Counter[str]:
        """How often something had to be started again, by service."""
        counted: Counter[str] = Counter()
        for each in self.status().components:
            counted[each.service] += each.restarts
        return counted

    def kill(self, *services: str, number: signal.Signals = signal.SIGKILL) -> list[int]:
        """Send a signal to every replica of these services; to whom."""
        pids = [pid for service in services for pid in self.pids(service)]
        for pid in pids:
            os.kill(pid, number)
        return pids

    def wait_healthy(self) -> None:
        """Wait until every part answers, and every group has its members."""
        until("all parts answer", lambda: self.status().healthy, about=self.status)

    def metrics(self) -> Counter[tuple[str, ...]]:
        """What all services expose, added up: by name and values of labels."""
        found: Counter[tuple[str, ...]] = Counter()
        for each in self.components():
            if each.service not in SERVICES:
                continue
            with urllib.request.urlopen(f"http://{each.address}/metrics") as answer:
                text = answer.read().decode()
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    labels = (value for _, value in sorted(sample.labels.items()))
                    found[sample.name, *labels] += sample.value  # type: ignore[assignment]
        return found

    def log(self, component: str) -> str:
        """What a component has written."""
        return (self.data_dir / "logs" / f"{component}.log").read_text(errors="replace")

    # ---- points of death

    def arm(self, *points: str) -> None:
        """The next process that gets to such a point, `<service>.<point>`, dies there."""
        for point in points:
            (self.points / point).touch()

    def died(self, point: str) -> bool:
        """Whether a process has died there since it was armed."""
        return (self.points / f"{point}{failpoints.DIED}").exists()

    def armed(self) -> list[str]:
        """Points at which nobody has died yet."""
        names = sorted(path.name for path in self.points.iterdir())
        return [name for name in names if not name.endswith((failpoints.DIED, failpoints.UNKNOWN))]

    def unlisted(self) -> list[str]:
        """Points that somebody got to, and that are in no list."""
        return sorted(path.name for path in self.points.glob(f"*{failpoints.UNKNOWN}"))

    def disarm(self) -> None:
        """Nobody dies any more."""
        for path in self.points.iterdir():
            path.unlink()

    # ---- the command

    def command_environment(self) -> dict[str, str]:
        """For `pixcrawler`, so that it finds this system by its data directory."""
        return {**inherited(), "PIXCRAWLER_DATA_DIR": str(self.data_dir)}


def programs(points: Path) -> tuple[Program, ...]:
    """Every service as a program that can die at a point; where none is armed it is as it is."""
    can_die = {"PIXCRAWLER_FAILPOINTS": str(points)}
    return tuple(
        program.model_copy(update={"environment": can_die}) for program in up_options.SERVICES
    )


def through(port: int, program: Program) -> Program:
    """The program, with its database behind this port."""
    argv = (sys.executable, "-P", through_port.__file__, str(port), *program.argv)
    return program.model_copy(update={"argv": argv})


def start_pooler(pooler: Pooler, paths: Paths, event: Event) -> None:
    """Start it once there is a schema: then services begin, and not before."""
    if (event.kind, event.component) == ("ready", "schema"):
        state = read_state(paths)
        assert state is not None
        pooler.start(state.database_url)


def inherited() -> dict[str, str]:
    """Our environment without what would lead a service elsewhere."""
    kept = {"PIXCRAWLER_CACHE_DIR"}
    return {k: v for k, v in os.environ.items() if not k.startswith("PIXCRAWLER_") or k in kept}


@contextmanager
def running(
    settings: Mapping[str, str],
    scale: Mapping[str, int],
    *,
    brokers: int = 1,
    folder: Path | None = None,
    programs: Callable[[Path], tuple[Program, ...]] = programs,
    store: BlobStore | None = None,
    pooler: bool | None = None,
    longest_pause_s: float = LONGEST_PAUSE_S,
) -> Iterator[System]:
    """A system for as long as the context lasts.

    Args:
        settings: Beside those of all tests.
        scale: Replicas by service.
        brokers: An odd number.
        folder: Where it lives, with a folder `points`; one of its own if it is not given.
        programs: What runs; told of the folder `points`.
        store: See `System`.
        pooler: Whether the services reach the database through PgBouncer; as the environment says
            if it is not given (see `tests.pooler`).
        longest_pause_s: Before a part that died is started anew.
    """
    with ExitStack() as stack:
        folder = folder or stack.enter_context(reachable_folder())
        points = folder / "points"
        points.mkdir(exist_ok=True)
        environment = {**inherited(), **SETTINGS, **settings}
        run, on_event = programs(points), ignore
        between = None
        if pooled() if pooler is None else pooler:
            between = Pooler(folder / "pooler")
            run = tuple(through(between.port, program) for program in run)
            on_event = partial(start_pooler, between, Paths(folder / "data"))
            stack.callback(between.stop)
        options = UpOptions(
            data_dir=folder / "data",
            port=0,
            scale=dict(scale),
            brokers=brokers,
            partitions=PARTITIONS,
            programs=run,
            forks=FORKS,
            longest_pause_s=longest_pause_s,
        )
        background = stack.enter_context(Background())
        started = stack.enter_context(temporary(options, on_event, environment=environment))
        system = System(started, background, points, environment, store, pooler=between)
        stack.enter_context(system.api)
        yield system


def mixed(urls: Iterable[str], seed: int = 1) -> list[str]:
    """The URLs in an order in which those that belong together do not stand together."""
    order = list(urls)
    random.Random(seed).shuffle(order)
    return order


def lines(text: str) -> list[Json]:
    """One JSON document a line."""
    return [json.loads(line) for line in text.splitlines() if line.strip()]
