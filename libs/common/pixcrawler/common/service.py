"""What every program of the pipeline shares: from the environment to a clean exit.

A composition root is

    def main() -> None:
        service.main("downloader", Settings, build)

    async def build(settings: Settings, runtime: Runtime) -> Runnable:
        handler = functools.partial(handle_chunk_planned, blobs=runtime.blobs)
        return runtime.stage([Route(ChunkPlanned, handler)])

`build` wires and connects to nothing: the engine, the blob store and the publisher connect when
they are first used, and `main` waits for the broker and the database before anything runs. It may
return one runnable or several (a stage, the outbox's relay, timers).
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import failpoints, logs, metrics, telemetry
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.tables import REPLICA_WRITERS
from pixcrawler.common.errors import Retry, SettingsError
from pixcrawler.common.health import Check, Health, HealthServer, database_check, schema_check
from pixcrawler.common.limits import STOP_MARGIN_S, Limits
from pixcrawler.common.publisher import Publisher
from pixcrawler.common.settings import ServiceSettings, StageSettings, load
from pixcrawler.common.stage import Route, Stage
from pixcrawler.common.steering import Steering
from pixcrawler.common.watchdog import Watchdog

log = logs.get(__name__)

EXIT_FAILED, EXIT_USAGE = 1, 2
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)
_CANCEL_S = 1.0
_CLOSE_S = 2.0
"""What a collector of spans has for the last of them."""


class Runnable(Protocol):
    """Something that runs until it is stopped."""

    async def run(self) -> None:
        """Work until stopped; whatever is raised ends the program."""
        ...

    async def stop(self) -> None:
        """Let `run` return soon. Also before it was started, and twice."""
        ...


@runtime_checkable
class Observed(Protocol):
    """A runnable that says whether it advances."""

    def alive(self) -> bool:
        """Whether it advanced lately."""
        ...


@runtime_checkable
class Early(Protocol):
    """A runnable that needs neither broker nor database, and runs while they are waited for.

    Such as the web server of a program that shows its health itself.
    """

    early: Literal[True]


@runtime_checkable
class Needy(Protocol):
    """A runnable that is not always ready."""

    async def check(self) -> None:
        """Raise if it is not ready; the message says why."""
        ...


class Runtime:
    """What a composition root builds with. Everything is made when it is first asked for.

    Args:
        name: The program, such as `downloader`.
        settings: Its settings.
    """

    def __init__(self, name: str, settings: ServiceSettings) -> None:
        self.name = name
        self.settings = settings
        self.worker = settings.worker or f"{socket.gethostname()}-{os.getpid()}"
        self.source = f"/{name}/{self.worker}"
        self.health = Health()
        self.watchdog = Watchdog(settings.session_timeout_s)

    @cached_property
    def engine(self) -> AsyncEngine:
        """Connections to the database."""
        application = f"pixcrawler-{self.name}"
        return connect(self.settings.database, application=application)

    @cached_property
    def blobs(self) -> BlobStore:
        """The blob store."""
        from pixcrawler.common.blobs import open_blobs

        settings = self.settings
        store = open_blobs(settings.effective_blob_url, settings.azure_storage_connection_string)
        if failpoints.enabled():
            from pixcrawler.common.blobs.failing import FailingBlobs

            return FailingBlobs(store)
        return store

    @cached_property
    def publisher(self) -> Publisher:
        """The producer; `main` starts it before anything runs."""
        return Publisher(self.settings.kafka, source=self.source, watchdog=self.watchdog)

    @cached_property
    def steering(self) -> Steering:
        """What operators want of this replica; its stage reads it."""
        return Steering(self.engine, self.name, self.worker)

    def stage(
        self,
        routes: Sequence[Route[Any]],
        *,
        in_flight: int | None = None,
        watch_jobs: bool = True,
    ) -> Stage:
        """The consumer loop of this program.

        Args:
            routes: What is read, and by which handler.
            in_flight: Pieces of work at a time; as the settings say if not given.
            watch_jobs: Cancel work as soon as its job is cancelled or deleted. The planner, which
                has to act on cancelled jobs, says no.
        """
        settings, steered = self.settings, self.name in REPLICA_WRITERS
        limits = settings.limits() if isinstance(settings, StageSettings) else Limits()
        stage = Stage(
            self.name,
            routes,
            bootstrap_servers=settings.kafka,
            worker=self.worker,
            publisher=self.publisher,
            engine=self.engine if watch_jobs else None,
            watchdog=self.watchdog,
            session_timeout_s=settings.session_timeout_s,
            drain_s=settings.drain_s,
            limits=limits if in_flight is None else limits.with_in_flight(in_flight),
            instance=settings.worker,
            steering=self.steering if steered else None,
        )
        self.health.note_if(self.name, stage.note)
        return stage

    async def close(self) -> None:
        """Let go of everything that was made."""
        made = vars(self)
        if "publisher" in made:
            await self.publisher.stop()
        if "blobs" in made:
            await self.blobs.close()
        if "engine" in made:
            await self.engine.dispose()


S = TypeVar("S", bound=ServiceSettings)
Build = Callable[[S, Runtime], Awaitable[Runnable | Sequence[Runnable]]]


def main(name: str, settings: type[S], build: Build[S], *, health_server: bool = True) -> None:
    """Run a program until SIGTERM or SIGINT, and exit the process.

    Exit codes: 0 stopped when asked to; 1 something failed that a new process may survive; 2 a
    setting is wrong; 75 the process had been paused.

    Args:
        name: The program, such as `downloader`.
        settings: What it can be told.
        build: Wires its runnables.
        health_server: Serve `/healthz`, `/readyz` and `/metrics` on `http_host:http_port`; False
            for a program that serves them itself, from `runtime.health`, by a runnable that is
            `Early`.
    """
    try:
        told = load(settings)
        runtime = Runtime(name, told)
        if told.failpoints is not None:
            failpoints.enable(name, told.failpoints)
        logs.configure(name, runtime.worker, level=told.log_level, style=told.log_format)
        if told.otel_exporter_otlp_endpoint:
            telemetry.export(name, runtime.worker)
        code = asyncio.run(_serve(runtime, told, build, health_server=health_server))
        telemetry.close(_CLOSE_S)
    except SettingsError as error:
        print(f"{name}: {logs.masked(str(error))}", file=sys.stderr)  # noqa: T201
        code = EXIT_USAGE
    sys.exit(code)


async def _serve(runtime: Runtime, settings: S, build: Build[S], *, health_server: bool) -> int:
    """From the start to the exit code."""
    stop = _stop_on_signals(settings.drain_s + STOP_MARGIN_S)
    server = HealthServer(runtime.health, settings.http_host, settings.http_port)
    pulse = asyncio.create_task(runtime.watchdog.run())
    try:
        built = await build(settings, runtime)
        _watch_disks(settings)
        runnables = list(built) if isinstance(built, Sequence) else [built]
        _ready_with(runtime, runnables)
        if health_server:
            await server.start()
        await _run(runtime, runnables, stop, settings.drain_s + STOP_MARGIN_S / 2)
    except SettingsError:
        raise
    except Exception as error:
        log.exception("failed", action="exit", error=str(error) or repr(error))
        return EXIT_FAILED
    else:
        log.info("stopped", action="exit")
        return 0
    finally:
        await server.stop()
        await runtime.close()
        pulse.cancel()


def _stop_on_signals(within_s: float) -> asyncio.Event:
    """Set by SIGTERM or SIGINT; more of them change nothing: there is a deadline.

    Whatever still holds the process then (a thread that decodes, a broker that does not answer) is
    not waited for: the process ends as it was asked to, before somebody kills it.
    """
    stop = asyncio.Event()

    def asked() -> None:
        if not stop.is_set():
            deadline = threading.Timer(within_s, _end_at_once, (within_s,))
            deadline.daemon = True
            deadline.start()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked)
    return stop


def _end_at_once(after_s: float) -> None:
    # Not through logging: a lock in there may be held by whatever hangs.
    print(f"not done {after_s:g} s after it was told to stop: ending", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(0)


def _watch_disks(settings: ServiceSettings) -> None:
    """Where every program may write; folders of its own are its composition root's to tell."""
    metrics.watch_disk("temporary", Path(tempfile.gettempdir()))
    scheme, _, folder = settings.effective_blob_url.partition("://")
    if scheme == "file":
        metrics.watch_disk("blobs", Path(folder))


def _needs(runtime: Runtime) -> dict[str, Check]:
    """What must be there before anything runs."""

    async def kafka() -> None:
        await runtime.publisher.start()

    return {"kafka": kafka, "database": schema_check(runtime.engine)}


def _ready_with(runtime: Runtime, runnables: Sequence[Runnable]) -> None:
    """Not ready before the start, nor without the parts, nor when a runnable says so."""
    runtime.health.ready_if("start", _not_started)
    runtime.health.ready_if("kafka", runtime.publisher.check)
    runtime.health.ready_if("database", database_check(runtime.engine))
    for name, runnable in _named(runnables):
        if isinstance(runnable, Needy):
            runtime.health.ready_if(name, runnable.check)


async def _not_started() -> None:
    raise Retry("waits for Kafka and for the database with its tables")


def _started(runtime: Runtime, runnables: Sequence[Runnable]) -> None:
    """From now on it is alive as long as the runnables advance.

    Not before: none of them advances while the program waits for what it needs, and whoever would
    restart it for that would do so for as long as the outage lasts.
    """
    runtime.health.no_longer("start")
    for name, runnable in _named(runnables):
        if isinstance(runnable, Observed):
            runtime.health.alive_if(name, runnable.alive)
    log.info("running", action="start", worker=runtime.worker)


def _named(runnables: Sequence[Runnable]) -> list[tuple[str, Runnable]]:
    return [
        (getattr(runnable, "name", f"{type(runnable).__name__.lower()}-{number}"), runnable)
        for number, runnable in enumerate(runnables)
    ]


async def _wait_for(name: str, check: Check, stop: asyncio.Event) -> None:
    """Try until it works or the program is told to stop."""
    for attempt in range(sys.maxsize):
        if stop.is_set():
            return
        try:
            await check()
        except Exception as error:  # noqa: BLE001 - whatever is away may come back
            backoff_s = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
            why = (str(error) or repr(error)).splitlines()[0]
            log.warning("waiting", action="start", waits_for=name, error=why)
            await _wait(stop, backoff_s)
        else:
            return


async def _run(
    runtime: Runtime, runnables: Sequence[Runnable], stop: asyncio.Event, stop_within_s: float
) -> None:
    """Run all, most once what they need is there, until one fails or `stop` is set; stop all.

    Raises:
        Exception: whatever the first to fail has raised.
    """
    early = [runnable for runnable in runnables if isinstance(runnable, Early)]
    tasks = [asyncio.create_task(runnable.run()) for runnable in early]
    there = asyncio.create_task(_wait_for_all(_needs(runtime), stop))
    stopped = asyncio.create_task(_asked(stop))
    try:
        await asyncio.wait([there, *tasks], return_when=asyncio.FIRST_COMPLETED)
        _raise_failures([there, *tasks])
        if there.done() and not stop.is_set():
            tasks += [asyncio.create_task(each.run()) for each in runnables if each not in early]
            _started(runtime, runnables)
            await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        asked = stop.is_set()
        _raise_failures(tasks)
        if tasks:
            await asyncio.gather(*(runnable.stop() for runnable in runnables))
            await asyncio.wait(tasks, timeout=stop_within_s)
        _raise_failures(tasks)
        if not asked:
            raise RuntimeError("a runnable ended by itself")
    finally:
        await _cancel([there, stopped, *tasks])


async def _asked(stop: asyncio.Event) -> None:
    await stop.wait()


async def _wait_for_all(needs: Mapping[str, Check], stop: asyncio.Event) -> None:
    """Until everything is there, or the program is told to stop."""
    for name, check in needs.items():
        await _wait_for(name, check, stop)


def _raise_failures(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=_CANCEL_S)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
