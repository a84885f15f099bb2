"""The api as the program that it is: uvicorn, the relay, a real broker."""

import asyncio
import os
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from aiokafka import AIOKafkaConsumer

from pixcrawler.common import keys
from pixcrawler.common.admin import apply_topics
from pixcrawler.common.db.engine import connect
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
