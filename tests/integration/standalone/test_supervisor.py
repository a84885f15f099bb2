"""Standalone mode as a whole: real Kafka and PostgreSQL, and tiny programs for services."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from pixcrawler.common import keys
from pixcrawler.common.admin import describe_topics, drift
from pixcrawler.common.db.engine import connect
from pixcrawler.standalone import (
    Event,
    Program,
    StandaloneError,
    Status,
    UpOptions,
    down,
    status,
    temporary,
    up_detached,
)
from pixcrawler.standalone.paths import Paths
from pixcrawler.standalone.ports import free_ports, is_free
from pixcrawler.standalone.state import identity, read_supervisor
from pixcrawler.standalone.supervisor import Supervisor
from tests.scratch import reachable_folder

DEADLINE_S = 60.0
PARTITIONS = 2
"""Few: they are made and opened at each start."""


def program(service: str, *arguments: str) -> Program:
    here = Path(__file__).with_name("program.py")
    return Program(service=service, argv=(sys.executable, "-I", str(here), *arguments))


def options(data_dir: Path, **changes: object) -> UpOptions:
    defaults: dict[str, object] = {
        "data_dir": data_dir,
        "port": 0,
        "programs": (program("api"), program("downloader")),
        "partitions": PARTITIONS,
    }
    return UpOptions.model_validate(defaults | changes)


def until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> float:
    """Wait for a condition; seconds that it took."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < deadline_s, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - begin


async def up_here(asked: UpOptions) -> None:
    """Standalone mode in this process, stopped as soon as it runs."""
    stop = asyncio.Event()
    await Supervisor(
        asked, os.environ, lambda event: stop.set() if event.kind == "running" else None
    ).run(stop)


def pids(found: Status) -> dict[str, int | None]:
    return {component.name: component.pid for component in found.components}


def pid_of(data_dir: Path, name: str) -> int | None:
    return pids(status(data_dir)).get(name)


def supervisor_pid(data_dir: Path) -> int:
    return int(json.loads((data_dir / "supervisor.lock").read_text())["pid"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def data_dir() -> AsyncIterator[Path]:
    """A data directory that tests take up and down again, as a user does."""
    with reachable_folder() as directory:
        yield directory
        await asyncio.to_thread(down, directory)


@pytest.fixture
def running(data_dir: Path) -> Status:
    """Standalone mode in the background: as it was left by the last test, or started."""
    found = status(data_dir)
    return found if found.running else up_detached(options(data_dir, scale={"downloader": 2}))


def test_everything_is_there_when_detached_up_returns(running: Status, data_dir: Path) -> None:
    """Every component answers, and status finds the same from the directory alone."""
    found = status(data_dir)
    assert found.healthy
    assert [(item.name, item.service) for item in found.components] == [
        ("kafka-1", "kafka"),
        ("postgres", "postgres"),
        ("api-1", "api"),
        ("downloader-1", "downloader"),
        ("downloader-2", "downloader"),
    ]
    assert found == running
    for_machines = found.model_dump(mode="json")
    assert set(for_machines) >= {
        *("api_url", "api_key", "kafka_bootstrap_servers", "database_url", "data_dir"),
        "components",
    }
    assert {frozenset(item) for item in for_machines["components"]} == {
        frozenset({"name", "service", "pid", "address", "healthy", "restarts"})
    }
    assert found.api_key is not None
    assert found.api_key.startswith("pxc_")
    assert found.api_url == f"http://{found.components[2].address}"
    names = {item.name: psutil.Process(item.pid).name() for item in found.components}
    assert (names["kafka-1"], names["postgres"]) == ("java", "postgres")
    for item in found.components:
        assert (data_dir / "logs" / f"{item.name}.log").exists()


def test_services_get_their_addresses(running: Status, data_dir: Path) -> None:
    """A service is told broker, data directory, blobs, and the database as its own role."""
    address = next(item.address for item in running.components if item.name == "downloader-2")
    with urllib.request.urlopen(f"http://{address}/env") as answer:
        environment = json.load(answer)
    assert environment["PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS"] == running.kafka_bootstrap_servers
    assert environment["PIXCRAWLER_DATA_DIR"] == str(data_dir)
    assert environment["PIXCRAWLER_BLOB_URL"] == f"file://{data_dir}/blobs"
    assert "//pixcrawler_downloader:" in environment["PIXCRAWLER_DATABASE_URL"]
    assert environment["PIXCRAWLER_TRACKER_PARTITIONS"] == str(PARTITIONS)


async def test_topics_and_schema_are_there(running: Status) -> None:
    """The registry's topics exist, and the key is one that the api accepts."""
    assert running.kafka_bootstrap_servers is not None
    assert running.database_url is not None
    assert await drift(running.kafka_bootstrap_servers, PARTITIONS) == ()
    topics = await describe_topics(running.kafka_bootstrap_servers)
    assert {topic.partitions for topic in topics} == {1, PARTITIONS}
    engine = connect(running.database_url)
    async with engine.begin() as connection:
        key = await keys.verify(connection, running.api_key or "")
    await engine.dispose()
    assert key is not None
    assert key.scope is keys.Scope.ADMIN


def test_a_second_up_says_so(running: Status, data_dir: Path) -> None:
    """One line, and the first goes on."""
    with pytest.raises(StandaloneError, match=r"running already.*pixcrawler down"):
        up_detached(options(data_dir))
    assert pids(status(data_dir)) == pids(running)


@pytest.mark.parametrize("name", ["downloader-1", "postgres", "kafka-1"])
def test_what_is_killed_comes_back(running: Status, data_dir: Path, name: str) -> None:
    """A killed component runs again within 5 s, at the same address, and is counted."""
    before = next(item for item in running.components if item.name == name)
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    took = until(lambda: pid_of(data_dir, name) not in {None, before.pid})
    assert took < 5
    until(lambda: status(data_dir).healthy)
    after = next(item for item in status(data_dir).components if item.name == name)
    assert (after.address, after.restarts) == (before.address, before.restarts + 1)


def test_children_die_with_the_supervisor_and_data_survives(
    running: Status, data_dir: Path
) -> None:
    """After SIGKILL of the supervisor nothing runs; the next up finds key, ports and data again.

    And its topics: that they are to have more partitions is too late.
    """
    children = [pid for pid in pids(running).values() if pid is not None]
    processes = [psutil.Process(pid) for pid in children]
    everything = {child for process in processes for child in process.children(recursive=True)}
    supervisor = psutil.Process(supervisor_pid(data_dir))
    everything |= {supervisor, *processes}
    supervisor.kill()
    until(lambda: all(identity(process.pid) is None for process in everything), 10)
    found = status(data_dir)
    assert not found.running
    assert set(pids(found).values()) == {None}

    again = up_detached(options(data_dir, scale={"downloader": 2}, partitions=PARTITIONS + 1))
    assert again.kafka_bootstrap_servers == running.kafka_bootstrap_servers
    assert (again.database_url, again.api_key) == (running.database_url, running.api_key)
    topics = asyncio.run(describe_topics(again.kafka_bootstrap_servers or ""))
    assert {topic.partitions for topic in topics} == {1, PARTITIONS}


def test_down_ends_every_process(running: Status, data_dir: Path) -> None:
    """When down returns nothing is left; a second down has nothing to do."""
    processes = [*(pid for pid in pids(running).values() if pid), supervisor_pid(data_dir)]
    assert down(data_dir)
    assert [identity(pid) for pid in processes] == [None] * len(processes)
    assert not status(data_dir).running
    assert status(data_dir).components == ()
    assert not down(data_dir)


async def test_a_taken_port_is_one_line(data_dir: Path) -> None:
    """The port asked for is taken: nothing is started."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(StandaloneError, match=f"port {port} is taken"):
            await up_here(options(data_dir, port=port))
    assert not (await asyncio.to_thread(status, data_dir)).running


async def test_down_spares_whoever_ran_it_before(data_dir: Path) -> None:
    """A program that had standalone mode within itself, and goes on, is no supervisor any more."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        pytest.raises(StandaloneError, match="is taken"),
    ):
        await up_here(options(data_dir, port=server.getsockname()[1]))
    assert read_supervisor(Paths(data_dir)) is None
    assert not await asyncio.to_thread(down, data_dir)


@pytest.mark.parametrize(
    ("mode", "words"),
    [("broken", r"\(exit code 2\).*PIXCRAWLER_SOMETHING is wrong"), ("dying", "something failed")],
)
async def test_a_service_that_cannot_start_stops_everything(
    data_dir: Path, mode: str, words: str
) -> None:
    """The error is the service's own last line, and nothing runs afterwards."""
    programs = (program("api"), program("planner", mode))
    with pytest.raises(StandaloneError, match=f"planner-1 ended.*{words}"):
        await up_here(options(data_dir, programs=programs))
    found = await asyncio.to_thread(status, data_dir)
    assert (found.running, found.components) == (False, ())


async def test_another_number_of_brokers_is_refused(data_dir: Path) -> None:
    """A data directory keeps the number of brokers that it was made with."""
    with pytest.raises(StandaloneError, match="made with 1 broker"):
        await up_here(options(data_dir, brokers=3))


async def test_three_brokers_keep_three_copies() -> None:
    """With --brokers 3 there are three, and every topic has three replicas; the next start, which
    says nothing of brokers, has as many."""
    with reachable_folder() as directory:
        stop = asyncio.Event()
        heard: asyncio.Queue[Event] = asyncio.Queue()
        asked = options(directory, brokers=3, programs=(program("api"),))
        supervisor = Supervisor(asked, os.environ, heard.put_nowait)
        running = asyncio.create_task(supervisor.run(stop))
        event = await heard.get()
        while event.kind != "running" and not running.done():
            event = await heard.get()
        assert event.status is not None
        names = [item.name for item in event.status.components]
        assert names == ["kafka-1", "kafka-2", "kafka-3", "postgres", "api-1"]
        topics = await describe_topics(event.status.kafka_bootstrap_servers or "")
        assert {topic.replication for topic in topics} == {3}
        stop.set()
        await running

        begun: list[str] = []
        again = asyncio.Event()

        def heard_again(event: Event) -> None:
            if event.kind == "starting":
                begun.append(event.component)
                again.set()

        await Supervisor(options(directory), os.environ, heard_again).run(again)
        assert [name for name in begun if name.startswith("kafka")] == names[:3]


async def test_an_unwritable_directory_is_one_line(tmp_path: Path) -> None:
    """A data directory that cannot be made is told in one line."""
    (tmp_path / "file").touch()
    with pytest.raises(StandaloneError, match="cannot write to"):
        await up_here(options(tmp_path / "file" / "data"))
    with pytest.raises(StandaloneError, match="cannot write to"):
        await asyncio.to_thread(up_detached, options(tmp_path / "file" / "data"))


async def test_no_room_is_one_line(data_dir: Path) -> None:
    """With too little free space nothing starts."""
    too_much = shutil.disk_usage(data_dir).total // 1_000_000 + 1
    with pytest.raises(StandaloneError, match="make room"):
        await up_here(options(data_dir, min_free_mb=too_much))


@dataclass(frozen=True)
class Visit:
    """What a temporary standalone was like."""

    port: int
    found: Status
    heard: tuple[Event, ...]


@pytest.fixture(scope="module")
def visit(data_dir: Path) -> Visit:
    """A temporary standalone on a port of our choice, with a service that ignores SIGTERM."""
    (port,) = free_ports(1)
    programs = (program("api"), program("validator", "ignore"))
    heard: list[Event] = []
    asked = options(data_dir, port=port, programs=programs, grace_s=0.5)
    with temporary(asked, heard.append) as found:
        pass
    return Visit(port, found, tuple(heard))


def test_the_port_asked_for_is_the_api_s(visit: Visit) -> None:
    """--port is honoured, and free again afterwards."""
    assert visit.found.api_url == f"http://127.0.0.1:{visit.port}"
    assert is_free(visit.port)


def test_what_ignores_sigterm_is_killed(visit: Visit) -> None:
    """A service has its grace to end, then it is made to."""
    pid = pids(visit.found)["validator-1"]
    assert pid is not None
    assert identity(pid) is None


def test_progress_is_told(visit: Visit) -> None:
    """The caller hears what happens, in order, and last where everything is."""
    told = [(event.kind, event.component) for event in visit.heard]
    assert told.index(("ready", "kafka-1")) < told.index(("starting", "schema"))
    assert told.index(("ready", "schema")) < told.index(("starting", "api-1"))
    assert told[-1] == ("running", "")
    assert visit.heard[-1].status == visit.found


async def test_the_temporary_one_ends_with_its_owner(data_dir: Path) -> None:
    """Killing the process that wanted it for a while stops it, in an orderly way."""
    code = (
        "import sys, time\n"
        "from pixcrawler.standalone import UpOptions, temporary\n"
        "with temporary(UpOptions.model_validate_json(sys.argv[1])):\n"
        "    print('up', flush=True)\n"
        "    time.sleep(600)\n"
    )
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, options(data_dir).model_dump_json(),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert owner.stdout is not None
    assert await owner.stdout.readline() == b"up\n"
    owner.kill()
    await owner.wait()
    await asyncio.to_thread(until, lambda: not status(data_dir).running)
    assert not (data_dir / "state.json").exists()


async def test_the_background_holds_nothing_of_its_caller(data_dir: Path) -> None:
    """Whoever reads the caller's output sees its end as soon as the caller has ended."""
    code = (
        "import sys\n"
        "from pixcrawler.standalone import UpOptions, up_detached\n"
        "up_detached(UpOptions.model_validate_json(sys.argv[1]))\n"
    )
    read, write = os.pipe()
    os.set_inheritable(write, True)  # as a shell leaves descriptors open
    caller = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, options(data_dir).model_dump_json(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, pass_fds=(write,),
    )  # fmt: skip
    os.close(write)
    output, _ = await asyncio.wait_for(caller.communicate(), DEADLINE_S)
    assert (caller.returncode, output) == (0, b"")
    assert os.read(read, 1) == b""
    os.close(read)
    found = await asyncio.to_thread(status, data_dir)
    assert found.healthy
    await asyncio.to_thread(down, data_dir)


async def test_ctrl_c_stops_the_foreground(data_dir: Path) -> None:
    """SIGINT during the start, and when everything runs: it ends with nothing left."""
    code = (
        "import sys\n"
        "from pixcrawler.standalone import UpOptions, up\n"
        "up(UpOptions.model_validate_json(sys.argv[1]), lambda e: print(e.kind, flush=True))\n"
    )
    for moment in (b"starting\n", b"running\n"):
        foreground = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, options(data_dir).model_dump_json(),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert foreground.stdout is not None
        while (line := await foreground.stdout.readline()) != moment:
            assert line
        foreground.send_signal(signal.SIGINT)
        rest = await foreground.stdout.read()
        assert await foreground.wait() == 0
        assert rest.splitlines()[-1] == b"stopped"
        assert not (await asyncio.to_thread(status, data_dir)).running
