"""Health over HTTP, on a real port."""

import asyncio
import os
import sys

import aiohttp

from pixcrawler.common.health import Health, HealthServer


async def get(server: HealthServer, path: str) -> tuple[int, str]:
    """Status and body."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{server.port}{path}") as answer,
    ):
        return answer.status, await answer.text()


async def test_what_health_says() -> None:
    """Alive as long as every loop advances, ready as long as nothing is missing."""
    there, advancing, note = True, True, ""

    async def check() -> None:
        if not there:
            raise ConnectionError("no broker at 127.0.0.1:9\nand a second line")

    health = Health()
    health.alive_if("stage", lambda: advancing)
    health.ready_if("kafka", check)
    health.note_if("stage", lambda: note)
    server = HealthServer(health, "127.0.0.1", 0)
    await server.start()
    assert await get(server, "/healthz") == (200, '{"status": "ok", "problems": {}}')
    assert (await get(server, "/readyz"))[0] == 200
    note = "paused"
    assert await get(server, "/readyz") == (
        200,
        '{"status": "ok", "problems": {}, "notes": {"stage": "paused"}}',
    )
    there = advancing = False
    status, body = await get(server, "/healthz")
    assert (status, "did not advance" in body) == (503, True)
    status, body = await get(server, "/readyz")
    assert (status, '{"kafka": "no broker at 127.0.0.1:9"}' in body) == (503, True)
    await server.stop()
    await server.stop()


async def test_metrics_are_prometheus_text() -> None:
    """With the content type that Prometheus asks for."""
    server = HealthServer(Health(), "127.0.0.1", 0)
    await server.start()
    status, body = await get(server, "/metrics")
    assert (status, "# TYPE" in body) == (200, True)
    await server.stop()


async def test_a_container_asks_by_a_program() -> None:
    """It exits 0 while every loop advances; else 1, and says why, also when nothing answers."""

    async def asked() -> tuple[int | None, str]:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pixcrawler.common.probe",
            env={**os.environ, "PIXCRAWLER_HTTP_PORT": str(server.port)},
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        _, said = await program.communicate()
        return program.returncode, said.decode()

    advancing = True
    health = Health()
    health.alive_if("stage", lambda: advancing)
    server = HealthServer(health, "127.0.0.1", 0)
    await server.start()
    assert await asked() == (0, "")
    advancing = False
    code, said = await asked()
    assert (code, "did not advance" in said) == (1, True)
    await server.stop()
    code, said = await asked()
    assert (code, "refused" in said) == (1, True)
