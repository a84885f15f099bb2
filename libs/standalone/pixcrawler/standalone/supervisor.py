"""Standalone mode: Kafka, PostgreSQL and the services under one supervisor.

`Supervisor.run` is the whole life of it, in the order in which things happen.
"""

import asyncio
import shutil
import signal
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from importlib import import_module

from pixcrawler.common.limits import STOP_MARGIN_S
from pixcrawler.common.topics import PARTITIONS

from . import forks
from .errors import StandaloneError
from .events import Event, Kind, OnEvent, ignore
from .kafka import BrokerPorts, Kafka, KafkaSettings, brokers_in
from .keeper import Component, Keeper
from .options import API, DEFAULT_API_PORT, UpOptions
from .paths import Paths, cache_dir
from .ports import LOOPBACK, is_free, keep_or_replace
from .postgres import Postgres, PostgresSettings
from .probing import Status, probe
from .replica import Replica
from .state import (
    ComponentState,
    Kept,
    Phase,
    ProcessState,
    State,
    read_kept,
    read_state,
    supervisor_lock,
    write_kept,
    write_state,
)
from .told import Told

_DATABASE = "pixcrawler"
# One broker gains nothing from patience; several should not change leaders for a hiccup.
_SESSION_TIMEOUT_MS = {1: 3000}
_SEVERAL_SESSION_TIMEOUT_MS = 6000


class Supervisor:
    """One run of standalone mode."""

    def __init__(
        self, options: UpOptions, environment: Mapping[str, str], on_event: OnEvent = ignore
    ) -> None:
        """``environment`` is what the services inherit; ``on_event`` is called as things happen."""
        self.options = options
        self.paths = Paths(options.data_dir)
        self._environment = environment
        self._on_event = on_event
        self._keepers: list[Keeper] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._state: State | None = None

    def hurry(self) -> None:
        """Kill whatever still runs; for when an orderly end takes too long."""
        for keeper in self._keepers:
            keeper.component.child.send_signal(signal.SIGKILL)

    async def run(self, stop: asyncio.Event) -> None:
        """Start everything, keep it running until ``stop`` is set, end everything.

        Raises:
            StandaloneError: It could not start; then nothing of it runs.
        """
        self._prepare_directory()
        if self.options.forks:
            forks.prepare(self.options.forks)
        with ExitStack() as stack:
            stack.enter_context(supervisor_lock(self.paths))
            await self._end_leftovers()
            kept = self._choose_ports(self._choose_partitions(read_kept(self.paths)))
            kafka, postgres = self._kafka(kept), self._postgres(kept)
            try:
                starting = asyncio.create_task(self._start(kept, kafka, postgres))
                if await _either(starting, stop):
                    self._phase("running")
                    self._tell("running", status=await probe(self.paths.data_dir))
                    await _either(asyncio.ensure_future(self._watch()), stop)
            finally:
                await self._end(kafka, postgres)

    async def _start(self, kept: Kept, kafka: Kafka, postgres: Postgres) -> None:
        """Bring up everything in the order of its needs."""
        await asyncio.gather(asyncio.to_thread(kafka.prepare), asyncio.to_thread(postgres.prepare))
        database_url = postgres.url_of(_DATABASE)
        self._state = State(
            phase="starting",
            api_url=self._api_url(kept),
            kafka_bootstrap_servers=kafka.bootstrap_servers,
            database_url=database_url,
        )
        keepers = self._keep(*kafka.brokers, postgres)
        # The second that it takes to import SQLAlchemy, Alembic and the Kafka client passes while
        # the broker starts, and beside the event loop, which hears Ctrl-C meanwhile.
        await asyncio.to_thread(import_module, f"{__package__}.schema")
        from . import schema

        await self._wait_ready(keepers)

        self._tell("starting", "schema")
        await schema.create_database(postgres.url, _DATABASE)
        kept = await schema.apply(database_url, kafka, kept)
        write_kept(self.paths, kept)
        self._tell("ready", "schema")

        await self._wait_ready(self._keep(*self._replicas(kept, kafka, database_url)))

    def _keep(self, *components: Component) -> list[Keeper]:
        """Have components kept running from now on."""
        longest_pause_s = self.options.longest_pause_s
        keepers = [Keeper(each, self._changed, longest_pause_s) for each in components]
        self._keepers += keepers
        for keeper in keepers:
            self._tell("starting", keeper.component.name)
            self._tasks.append(asyncio.create_task(keeper.run()))
        return keepers

    async def _wait_ready(self, keepers: list[Keeper]) -> None:
        """Wait until each does its work; the first that cannot is an error."""

        async def ready(keeper: Keeper) -> None:
            await keeper.wait_ready(self.options.start_timeout_s)
            self._tell("ready", keeper.component.name, keeper.component.address)

        async with asyncio.TaskGroup() as group:
            for keeper in keepers:
                group.create_task(ready(keeper))

    async def _watch(self) -> None:
        """Wait for ever; a keeper that ends is an error of ours, and must not go unseen."""
        await asyncio.gather(*self._tasks)

    async def _end(self, kafka: Kafka, postgres: Postgres) -> None:
        """End everything in the opposite order; nothing is started again from here on."""
        self._phase("stopping")
        self._tell("stopping")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        components = (keeper.component for keeper in self._keepers)
        replicas = [component for component in components if isinstance(component, Replica)]
        await asyncio.gather(*(replica.stop(self._grace_s()) for replica in replicas))
        await kafka.stop()
        await postgres.stop()
        self.paths.state.unlink(missing_ok=True)
        self._tell("stopped")

    def _grace_s(self) -> float:
        """How long a service may take to end: as it was told to drain, and a margin."""
        try:
            drain_s = float(self._environment["PIXCRAWLER_DRAIN_S"])
        except (KeyError, ValueError):
            return self.options.grace_s
        return max(self.options.grace_s, drain_s + STOP_MARGIN_S)

    def _prepare_directory(self) -> None:
        """The data directory, writable and with room, or one line about it."""
        directory = self.paths.data_dir
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self.paths.logs.mkdir(exist_ok=True)
            self.paths.blobs.mkdir(exist_ok=True)
            free_mb = shutil.disk_usage(directory).free // 1_000_000
        except OSError as error:
            raise StandaloneError(
                f"cannot write to {directory} ({error.strerror}): choose another data directory "
                "(PIXCRAWLER_DATA_DIR or --data-dir)"
            ) from error
        if free_mb < self.options.min_free_mb:
            raise StandaloneError(
                f"only {free_mb} MB are free in {directory}, {self.options.min_free_mb} MB are "
                "needed: make room, or choose another data directory"
            )

    async def _end_leftovers(self) -> None:
        """End what a supervisor left behind that was killed where the kernel does not do so."""
        state = read_state(self.paths)
        for process in state.processes if state else ():
            process.send(signal.SIGTERM)
        deadline = asyncio.get_running_loop().time() + self._grace_s()
        while state and any(process.alive for process in state.processes):
            if asyncio.get_running_loop().time() >= deadline:
                for process in state.processes:
                    process.send(signal.SIGKILL)
            await asyncio.sleep(0.05)
        self.paths.state.unlink(missing_ok=True)

    def _choose_ports(self, kept: Kept) -> Kept:
        """The ports of last time where they are still free; the rest anew, all different."""
        names = [name for name, _ in self.options.replicas()]
        pairs = [port for pair in kept.kafka_ports for port in pair]
        wanted = {f"kafka-{index}": port for index, port in enumerate(pairs)}
        wanted |= {"postgres": kept.postgres_port or 0} | kept.service_ports
        api = f"{API}-1"
        # The api first: its port was asked for, so the others make way.
        order = [api, *(name for name in names if name != api), "postgres"]
        brokers = self._brokers()
        order += [f"kafka-{index}" for index in range(2 * brokers)]
        asked = {api: _api_port(self.options.port)}
        found = dict(
            zip(order, keep_or_replace([(wanted | asked).get(n) for n in order]), strict=True)
        )
        clients = range(0, 2 * brokers, 2)
        kept = kept.model_copy(
            update={
                "kafka_ports": tuple(
                    (found[f"kafka-{index}"], found[f"kafka-{index + 1}"]) for index in clients
                ),
                "postgres_port": found["postgres"],
                "service_ports": kept.service_ports | {name: found[name] for name in names},
            }
        )
        write_kept(self.paths, kept)
        return kept

    def _choose_partitions(self, kept: Kept) -> Kept:
        """As topics were made; as asked for where there is none yet."""
        if kept.partitions:
            return kept
        # Before it was kept, it was as it comes.
        made = brokers_in(self.paths.kafka) > 0
        partitions = PARTITIONS if made else self.options.partitions
        return kept.model_copy(update={"partitions": partitions})

    def _brokers(self) -> int:
        """As many as asked for, else as there are, else one."""
        return self.options.brokers or brokers_in(self.paths.kafka) or 1

    def _kafka(self, kept: Kept) -> Kafka:
        brokers = self._brokers()
        return Kafka(
            KafkaSettings(
                data_dir=self.paths.kafka,
                cache_dir=self.options.cache_dir or cache_dir(self._environment),
                log_dir=self.paths.logs,
                brokers=brokers,
                ports=tuple(BrokerPorts(*pair) for pair in kept.kafka_ports),
                session_timeout_ms=_SESSION_TIMEOUT_MS.get(brokers, _SEVERAL_SESSION_TIMEOUT_MS),
            )
        )

    def _api_url(self, kept: Kept) -> str | None:
        """The api's, if it is one of the programs."""
        names = {name for name, _ in self.options.replicas()}
        api = f"{API}-1"
        return f"http://{LOOPBACK}:{kept.service_ports[api]}" if api in names else None

    def _postgres(self, kept: Kept) -> Postgres:
        return Postgres(
            PostgresSettings(self.paths.postgres, self.paths.logs, port=kept.postgres_port)
        )

    def _replicas(self, kept: Kept, kafka: Kafka, database_url: str) -> list[Replica]:
        told = Told(
            inherited=self._environment,
            paths=self.paths,
            kafka_bootstrap_servers=kafka.bootstrap_servers,
            database_url=database_url,
            passwords=kept.passwords,
            partitions=kept.partitions,
        )
        return [
            Replica(
                name,
                program,
                port := kept.service_ports[name],
                told.environment(name, program, port),
                self.paths.logs,
                fork=bool(self.options.forks),
            )
            for name, program in self.options.replicas()
        ]

    def _changed(self, keeper: Keeper) -> None:
        """A process was started, or has died: write it down and tell."""
        if not keeper.component.child.running:
            self._tell("died", keeper.component.name, str(keeper.last_failure))
        self._write_state()

    def _phase(self, phase: Phase) -> None:
        if self._state is not None:
            self._state = self._state.model_copy(update={"phase": phase})
            self._write_state()

    def _write_state(self) -> None:
        if self._state is None:
            return
        components = tuple(
            ComponentState(
                name=keeper.component.name,
                service=keeper.component.service,
                address=keeper.component.address,
                process=ProcessState.of(keeper.component.child.pid),
                restarts=keeper.restarts,
            )
            for keeper in self._keepers
        )
        self._state = self._state.model_copy(update={"components": components})
        with suppress(OSError):  # a full disk; the next change writes it
            write_state(self.paths, self._state)

    def _tell(
        self, kind: Kind, component: str = "", message: str = "", status: Status | None = None
    ) -> None:
        with suppress(OSError):  # whoever listened is gone
            self._on_event(Event(kind=kind, component=component, message=message, status=status))


def _api_port(asked: int | None) -> int | None:
    """The api's port; None: any free one."""
    if asked is None:
        return DEFAULT_API_PORT if is_free(DEFAULT_API_PORT) else None
    if asked and not is_free(asked):
        raise StandaloneError(
            f"port {asked} is taken: stop what listens there, choose another --port, "
            "or leave it out to have a free one found"
        )
    return asked or None


async def _either(task: asyncio.Task[None], stop: asyncio.Event) -> bool:
    """Wait for the task, whose errors are raised, or for ``stop``, which cancels it.

    Returns:
        Whether the task came to its end.
    """
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        task.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)
    if task.cancelled():
        return False
    if (error := task.exception()) is not None:
        while isinstance(error, BaseExceptionGroup):  # of several, the first is the cause
            error = error.exceptions[0]
        raise error
    return True
