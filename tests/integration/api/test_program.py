"""The api as the program that it is: uvicorn, the relay, a real broker."""

import asyncio
import os
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from aiokafka import AIOKafkaConsumer

from pixcrawler.common import keys
from pixcrawler.common.admin import apply_topics
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.migrate import upgrade
from pixcrawler.common.events import JobCreated, decode
from tests.integration.api.conftest import BODY

DEADLINE_S = 60.0
USUAL_FILES = 1024
USUAL = ("/bin/sh", "-c", f'ulimit -Sn {USUAL_FILES} && exec "$0" "$@"')
"""Starts a program with the limit of open files that most machines have."""


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def environment(kafka: str, database: str, port: int, blobs: Path) -> dict[str, str]:
    """What the program is told."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PIXCRAWLER_")}
    return {
        **inherited,
        "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "PIXCRAWLER_DATABASE_URL": database,
        "PIXCRAWLER_HTTP_PORT": str(port),
        "PIXCRAWLER_BLOB_URL": f"file://{blobs}",
    }


@asynccontextmanager
async def program(
    told: dict[str, str], module: str = "pixcrawler.api"
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The running program, killed at the end if it is still there."""
    process = await asyncio.create_subprocess_exec(
        *USUAL, sys.executable, "-m", module, env=told, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def wait_ready(client: httpx.AsyncClient, process: asyncio.subprocess.Process) -> None:
    """Until `/readyz` says so, or the program has ended."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            assert process.returncode is None
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


async def test_from_a_request_to_an_event(
    fresh_kafka: str, module_database: str, api_url: str, tmp_path: Path
) -> None:
    """A job that is created over HTTP arrives on `job.created`; SIGTERM ends the program with 0. It
    may have as many files and connections open as the machine allows."""
    await apply_topics(fresh_kafka, partitions=2)
    engine = connect(module_database)
    async with engine.begin() as connection:
        key = (await keys.create(connection, "ann", "write")).text
    await engine.dispose()
    port = free_port()
    told = environment(fresh_kafka, api_url, port, tmp_path)
    consumer = AIOKafkaConsumer(
        JobCreated.topic, bootstrap_servers=fresh_kafka, auto_offset_reset="earliest"
    )
    base = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)
    async with base as client, program(told) as process:
        await wait_ready(client, process)
        assert (await client.get("/healthz")).status_code == 200
        assert b"pixcrawler_outbox_pending" in (await client.get("/metrics")).content
        assert resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0] > USUAL_FILES
        await consumer.start()
        try:
            headers = {"X-API-Key": key}
            job = (await client.post("/v1/jobs", json=dict(BODY), headers=headers)).json()
            record = await asyncio.wait_for(consumer.getone(), DEADLINE_S)
        finally:
            await consumer.stop()
        event = decode(record.topic, record.key, record.value, record.headers)
        assert event == JobCreated(job_id=job["job_id"], round=1, reason="start")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0


async def test_starting_in_an_outage(fresh_kafka: str, empty_database: str, tmp_path: Path) -> None:
    """Without broker and database the api is alive and says what it waits for, so that nobody who
    asks about its health restarts it; every other request is 503. It is ready as soon as both are
    there: the broker, the database, and the tables in it."""
    await apply_topics(fresh_kafka, partitions=2)
    kafka, postgres = Door(fresh_kafka), Door(urlsplit(empty_database).netloc.partition("@")[2])
    database = empty_database.replace(postgres.beyond, postgres.address)
    port = free_port()
    told = environment(kafka.address, database, port, tmp_path)
    base = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)
    async with base as client, program(told) as process:
        async with asyncio.timeout(DEADLINE_S):
            while not await alive(client):
                assert process.returncode is None
                await asyncio.sleep(0.05)
        sick = await client.get("/readyz")
        assert sick.status_code == 503
        assert {"start", "kafka", "database"} <= sick.json()["problems"].keys()
        refused = await client.get(
            "/v1/capacity", headers={"X-API-Key": f"pxc_{'0' * 12}_{'0' * 48}"}
        )
        assert refused.status_code == 503, refused.text
        assert "Retry-After" in refused.headers
        async with kafka.open(), postgres.open():
            async with asyncio.timeout(DEADLINE_S):
                while "database" in (await client.get("/readyz")).json()["problems"]:
                    await asyncio.sleep(0.05)
            # Without tables: neither ready nor broken.
            waits = (await client.get("/readyz")).json()["problems"]
            assert "start" in waits
            refused = await client.get("/v1/capacity", headers=refused.request.headers)
            assert refused.status_code == 503, refused.text
            assert await alive(client)
            await upgrade(empty_database)
            await wait_ready(client, process)
        assert await alive(client)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), DEADLINE_S) == 0


async def alive(client: httpx.AsyncClient) -> bool:
    """Whether `/healthz` says so."""
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False


class Door:
    """An address at which nobody listens, and then somebody: leads to another.

    Args:
        beyond: `host:port` that it leads to.
    """

    def __init__(self, beyond: str) -> None:
        self.beyond = beyond
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Let through whoever comes."""
        server = await asyncio.start_server(self._through, "127.0.0.1", self._port)
        async with server:
            yield

    async def _through(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        host, _, port = self.beyond.rpartition(":")
        far, there = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_pass_on(near, there), _pass_on(far, back))


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    target.close()


async def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    """A port that is taken stops the program at the start, with one line that names the setting."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        told = environment("127.0.0.1:9", "postgresql+asyncpg://x@127.0.0.1:9/x", port, tmp_path)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pixcrawler.api", env=told, stderr=subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), DEADLINE_S)
    assert process.returncode == 2
    assert errors.decode().count("\n") == 1
    assert f"PIXCRAWLER_HTTP_PORT: cannot listen on 127.0.0.1:{port}" in errors.decode()
