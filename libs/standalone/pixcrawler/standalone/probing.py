"""How standalone mode is, found out from its data directory alone."""

import asyncio
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from .http import status_of
from .kafka import ask
from .paths import Paths
from .postgres import answers
from .state import ComponentState, Phase, State, is_locked, read_kept, read_state

_PROBE_TIMEOUT_S = 3.0


class ComponentStatus(BaseModel):
    """One component."""

    model_config = ConfigDict(frozen=True)

    name: str
    service: str
    pid: int | None
    """The process that does the work (the JVM, the postmaster); None while it is down."""
    address: str
    healthy: bool
    """It answers: a service its ``/healthz``, Kafka a metadata request, PostgreSQL a query."""
    restarts: int


class Status(BaseModel):
    """Everything that a user of a running standalone needs to know. Holds secrets."""

    model_config = ConfigDict(frozen=True)

    running: bool
    phase: Phase | None = None
    """None: not running."""
    api_url: str | None = None
    api_key: str | None = None
    kafka_bootstrap_servers: str | None = None
    database_url: str | None = None
    """As the superuser."""
    data_dir: Path
    components: tuple[ComponentStatus, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether it runs and every component answers."""
        return self.running and all(component.healthy for component in self.components)


def status(data_dir: Path) -> Status:
    """How the standalone mode of a data directory is; not for use inside an event loop.

    Raises:
        StandaloneError: The directory belongs to another user, or is damaged.
    """
    return asyncio.run(probe(data_dir))


async def probe(data_dir: Path) -> Status:
    """The same, for use inside an event loop."""
    paths = Paths.of(data_dir)
    running = await asyncio.to_thread(is_locked, paths)
    state = read_state(paths)
    if state is None:
        return Status(
            running=running,
            phase="starting" if running else None,
            api_key=read_kept(paths).api_key,
            data_dir=paths.data_dir,
        )
    return Status(
        running=running,
        phase=state.phase if running else None,
        api_url=state.api_url,
        api_key=read_kept(paths).api_key,
        kafka_bootstrap_servers=state.kafka_bootstrap_servers,
        database_url=state.database_url,
        data_dir=paths.data_dir,
        components=tuple(
            await asyncio.gather(*(_probe_component(state, item) for item in state.components))
        ),
    )


async def _probe_component(state: State, component: ComponentState) -> ComponentStatus:
    process = component.process if component.process and component.process.alive else None
    return ComponentStatus(
        name=component.name,
        service=component.service,
        pid=process.pid if process else None,
        address=component.address,
        healthy=process is not None and await _answers(state, component),
        restarts=component.restarts,
    )


async def _answers(state: State, component: ComponentState) -> bool:
    if component.service == "kafka":
        node = int(component.name.rpartition("-")[2])
        view = await ask(component.address, _PROBE_TIMEOUT_S)
        return view is not None and node in view.brokers
    if component.service == "postgres":
        return await answers(state.database_url, _PROBE_TIMEOUT_S)
    return await status_of(component.address, "/healthz", _PROBE_TIMEOUT_S) == 200  # noqa: PLR2004
