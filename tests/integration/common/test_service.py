"""A program from its start to its exit code, as a real process."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from pixcrawler.common import admin, ids, topics
from pixcrawler.common.db.migrate import upgrade
from pixcrawler.common.events import ChunkPlanned
from pixcrawler.common.limits import DRAIN_S, GRACE_S, STOP_MARGIN_S
from pixcrawler.common.publisher import Publisher
from pixcrawler.common.watchdog import EXIT_PAUSED
from pixcrawler.standalone import UpOptions
from pixcrawler.standalone.ports import free_ports
from tests.integration.common.bench import DEADLINE_S, soon_there

ROOT = Path(__file__).parents[3]
NOWHERE = {
    "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9",
    "PIXCRAWLER_DATABASE_URL": "postgresql+asyncpg://nobody:nothing@127.0.0.1:9/none",
}


class Program:
    """The process, and what its health says."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.stderr = ""

    async def get(self, path: str) -> tuple[int, str]:
        """Status and body; 0 while nothing answers."""
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientError:
            return 0, ""

    async def ready(self) -> bool:
        return (await self.get("/readyz"))[0] == 200

    async def alive(self) -> bool:
        return (await self.get("/healthz"))[0] == 200

    async def exit_code(self) -> int:
        """Wait for the end."""
        async with asyncio.timeout(DEADLINE_S):
            _, stderr = await self.process.communicate()
        self.stderr = stderr.decode()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def program(**settings: str) -> AsyncIterator[Program]:
    """The program of `program.py`, killed in the end."""
    [port] = free_ports(1)
    environment = {
        **{name: value for name, value in os.environ.items() if "PIXCRAWLER" not in name},
        **NOWHERE,
        "PIXCRAWLER_HTTP_PORT": str(port),
        "PIXCRAWLER_LOG_FORMAT": "json",
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.common.program",
        cwd=ROOT,
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Program(process, port)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.fixture
def real(fresh_kafka: str, module_database: str) -> dict[str, str]:
    """Settings with a broker and a database that are there; sessions as short as Kafka allows."""
    return {
        "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": fresh_kafka,
        "PIXCRAWLER_DATABASE_URL": module_database,
        "PIXCRAWLER_SESSION_TIMEOUT_S": "6",
    }


async def test_work_metrics_and_a_clean_stop(real: dict[str, str], fresh_kafka: str) -> None:
    """It turns ready, works, shows its metrics, and SIGTERM ends it with everything committed."""
    await admin.apply_topics(fresh_kafka, partitions=2)
    async with program(**real) as running:
        await soon_there(running.ready)
        chunk = await ask(fresh_kafka)
        await answered(fresh_kafka, chunk)
        _, metrics = await running.get("/metrics")
        assert 'pixcrawler_chunks_total{stage="downloader",status="completed"} 1.0' in metrics
        assert 'pixcrawler_rebalances_total{stage="downloader"} 1.0' in metrics
        running.process.send_signal(signal.SIGTERM)
        assert await running.exit_code() == 0
        lines = [json.loads(line) for line in running.stderr.splitlines()]
        assert {line["service"] for line in lines} == {"downloader"}
    assert sum(each.lag for each in await admin.lag(fresh_kafka, ["downloader"])) == 0


async def test_what_does_not_end_does_not_hold_the_process(
    real: dict[str, str], fresh_kafka: str
) -> None:
    """A thread that goes on for minutes: SIGTERM ends the process within drain and margin, with 0,
    and nothing of it is committed."""
    await admin.apply_topics(fresh_kafka, partitions=2)
    chunk = await ask(fresh_kafka)
    told = {"PIXCRAWLER_DRAIN_S": "1", "PIXCRAWLER_STUBBORN_S": "300"}
    async with program(**real, **told) as running:
        await soon_there(running.ready)
        await soon_there(lambda: _in_hand(running))
        begun = asyncio.get_running_loop().time()
        running.process.send_signal(signal.SIGTERM)
        assert await running.exit_code() == 0
        assert asyncio.get_running_loop().time() - begun < 1 + STOP_MARGIN_S + 5
    async with program(**real):
        await answered(fresh_kafka, chunk)


def test_the_grace_period_has_room_for_everything() -> None:
    """Who kills after Kubernetes' default kills nobody who drains as long as we do by default."""
    assert DRAIN_S + STOP_MARGIN_S < GRACE_S == UpOptions().grace_s


async def _in_hand(running: Program) -> bool:
    return 'pixcrawler_in_flight{stage="downloader"} 1.0' in (await running.get("/metrics"))[1]


async def test_a_paused_process_stops_itself(real: dict[str, str], fresh_kafka: str) -> None:
    """SIGSTOP past the session timeout: on SIGCONT it exits before it writes anything."""
    await admin.apply_topics(fresh_kafka, partitions=2)
    async with program(**real) as running:
        await soon_there(running.ready)
        running.process.send_signal(signal.SIGSTOP)
        paused = asyncio.get_running_loop().time()
        chunk = await ask(fresh_kafka)
        await soon_there(lambda: _passed(paused + 6.5))  # the pause itself is what is tested
        running.process.send_signal(signal.SIGCONT)
        assert await running.exit_code() == EXIT_PAUSED
        assert "paused for" in running.stderr
        said = [each async for each in admin.tail(fresh_kafka, topics.CHUNK_DOWNLOADED)]
        assert chunk not in {each.key.decode() for each in said if each.key}
    async with program(**real) as running:
        await answered(fresh_kafka, chunk)


async def test_a_fatal_error_is_one_line_and_exit_1(real: dict[str, str], fresh_kafka: str) -> None:
    """The supervisor starts another; the record is still there for it."""
    await admin.apply_topics(fresh_kafka, partitions=2)
    async with program(**real, PIXCRAWLER_UNLUCKY="true") as running:
        chunk = await ask(fresh_kafka)
        assert await running.exit_code() == 1
        lines = [json.loads(line) for line in running.stderr.splitlines()]
        # The Kafka client has errors of its own while a group's coordinator is elected.
        [line] = [each for each in lines if each["level"] == "error" and "action" in each]
        assert (line["action"], line["error"]) == ("exit", "bad luck")
    async with program(**real):
        await answered(fresh_kafka, chunk)


async def test_it_waits_for_what_is_not_there() -> None:
    """Without broker and database it is alive and not ready, and stops when it is told to."""
    async with program() as running:
        await soon_there(running.alive)
        status, body = await running.get("/readyz")
        assert status == 503
        assert {"kafka", "database", "downloader"} <= set(json.loads(body)["problems"])
        running.process.send_signal(signal.SIGINT)
        assert await running.exit_code() == 0


async def test_waiting_is_no_sign_of_death(real: dict[str, str], fresh_kafka: str) -> None:
    """Loops that have not begun do not count as stuck, so an outage at the start restarts nobody,
    however long it lasts; once they run they do."""
    async with program(PIXCRAWLER_STUCK="true") as waiting:
        await soon_there(waiting.alive)
        assert "start" in json.loads((await waiting.get("/readyz"))[1])["problems"]
    await admin.apply_topics(fresh_kafka, partitions=2)
    async with program(**real, PIXCRAWLER_STUCK="true") as running:
        await soon_there(running.ready)
        status, body = await running.get("/healthz")
        assert (status, set(json.loads(body)["problems"])) == (503, {"stuck"})


async def test_a_collector_that_is_away_holds_up_nobody(
    real: dict[str, str], fresh_kafka: str
) -> None:
    """Spans that nobody takes are dropped: work goes on, the end is as quick as ever, and the log
    tells of it in lines like all others."""
    await admin.apply_topics(fresh_kafka, partitions=2)
    nowhere = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "PIXCRAWLER_DRAIN_S": "1"}
    async with program(**real, **nowhere) as running:
        await soon_there(running.ready)
        await answered(fresh_kafka, await ask(fresh_kafka))
        begun = asyncio.get_running_loop().time()
        running.process.send_signal(signal.SIGTERM)
        assert await running.exit_code() == 0
        assert asyncio.get_running_loop().time() - begun < 1 + STOP_MARGIN_S + 5
        lines = [json.loads(line) for line in running.stderr.splitlines()]
        assert any("opentelemetry" in line["logger"] for line in lines)


async def test_it_waits_for_the_schema(fresh_kafka: str, empty_database: str) -> None:
    """A database without tables is not there yet: a record is not blamed for what is missing."""
    await admin.apply_topics(fresh_kafka, partitions=2)
    settings = {
        "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": fresh_kafka,
        "PIXCRAWLER_DATABASE_URL": empty_database,
    }
    chunk = await ask(fresh_kafka)
    async with program(**settings) as running:
        await soon_there(running.alive)
        assert not await running.ready()
        await upgrade(empty_database)
        await answered(fresh_kafka, chunk)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"PIXCRAWLER_HTTP_PORT": "many"}, "downloader: PIXCRAWLER_HTTP_PORT: "),
        ({"PIXCRAWLER_DATABASE_URL": ""}, "downloader: PIXCRAWLER_DATABASE_URL: "),
        ({"PIXCRAWLER_CAPACITY": "0"}, "downloader: PIXCRAWLER_CAPACITY: below one chunk"),
    ],
)
async def test_a_wrong_setting_is_one_line_and_exit_2(settings: dict[str, str], line: str) -> None:
    """Whether the value's form or the composition root says so."""
    async with program(**settings) as running:
        assert await running.exit_code() == 2
        [said] = running.stderr.splitlines()
        assert said.startswith(line)


async def test_a_taken_port_is_exit_1() -> None:
    """With one line that names it."""
    async with program() as first:
        await soon_there(first.alive)
        port = first.url.rpartition(":")[2]
        async with program(PIXCRAWLER_HTTP_PORT=port) as second:
            assert await second.exit_code() == 1
            assert port in second.stderr


async def ask(kafka: str) -> str:
    """Publish `chunk.planned` for a new chunk, and tell which."""
    publisher = Publisher(kafka, source="/test")
    await publisher.start()
    chunk = ids.chunk_id(ids.new_job_id(), 0)
    await publisher.publish([ChunkPlanned(chunk_id=chunk, attempt=1, slices=())])
    await publisher.stop()
    return chunk


async def answered(kafka: str, chunk: str) -> None:
    """Wait until the program has answered."""
    async with asyncio.timeout(DEADLINE_S):
        async for _ in admin.tail(kafka, topics.CHUNK_DOWNLOADED, chunk_id=chunk, follow=True):
            return


async def _passed(time: float) -> bool:
    return asyncio.get_running_loop().time() >= time
