"""Health and metrics of a program over HTTP: `/healthz`, `/readyz`, `/metrics`.

Alive is a program whose loops advanced lately, not a port that answers; ready is one that reaches
what it needs. `Health` is the state, shared by every program; `HealthServer` shows it where the
program has no web server of its own.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common import logs

log = logs.get(__name__)

Check = Callable[[], Awaitable[None]]
"""Raises if something is wrong; the message says what."""

_CHECK_S = 5.0


class Health:
    """What a program knows of its own health."""

    def __init__(self) -> None:
        self._alive: dict[str, Callable[[], bool]] = {}
        self._ready: dict[str, Check] = {}
        self._notes: dict[str, Callable[[], str]] = {}

    def alive_if(self, name: str, advanced: Callable[[], bool]) -> None:
        """Add a loop that must have advanced lately."""
        self._alive[name] = advanced

    def ready_if(self, name: str, check: Check) -> None:
        """Add something that the program needs; `check` raises while it is not there."""
        self._ready[name] = check

    def note_if(self, name: str, note: Callable[[], str]) -> None:
        """Add something that is to be known though all is well: that a stage is paused, say.

        `note` gives no text while there is nothing.
        """
        self._notes[name] = note

    def notes(self) -> Mapping[str, str]:
        """What there is to be known now."""
        found = {name: note() for name, note in self._notes.items()}
        return MappingProxyType({name: text for name, text in found.items() if text})

    def no_longer(self, name: str) -> None:
        """Take back what `ready_if` added."""
        del self._ready[name]

    def stuck(self) -> tuple[str, ...]:
        """The loops that did not advance lately; none: the program is alive."""
        return tuple(name for name, advanced in self._alive.items() if not advanced())

    async def missing(self) -> Mapping[str, str]:
        """What is not there, and why; nothing: the program is ready."""
        checks = dict(self._ready)  # as they are now: a start may end meanwhile
        results = await asyncio.gather(*(_failure(check) for check in checks.values()))
        found = {name: why for name, why in zip(checks, results, strict=True) if why}
        return MappingProxyType(found)


async def _failure(check: Check) -> str:
    try:
        async with asyncio.timeout(_CHECK_S):
            await check()
    except TimeoutError:
        return f"no answer within {_CHECK_S:g} s"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why we are not ready
        return (str(error) or repr(error)).splitlines()[0]
    return ""


def database_check(engine: AsyncEngine) -> Check:
    """A check that the database answers."""

    async def check() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    return check


def schema_check(engine: AsyncEngine) -> Check:
    """A check that the database has its tables: until it has been upgraded, nothing can start."""

    async def check() -> None:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT FROM crawl_jobs LIMIT 0"))

    return check


class HealthServer:
    """The three routes on a port of their own.

    Args:
        health: What to show.
        host: Address to listen on.
        port: 0 takes a free one; see `port` after `start`.
    """

    def __init__(self, health: Health, host: str, port: int) -> None:
        self.port = port
        self._health = health
        self._host = host
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the port is taken.
        """
        app = web.Application()
        app.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self.port).start()
        self.port = self._runner.addresses[0][1]
        log.info("health and metrics", action="listen", host=self._host, port=self.port)

    async def stop(self) -> None:
        """Close the port; may be called at any time, also twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        stuck = self._health.stuck()
        return _answer(503 if stuck else 200, dict.fromkeys(stuck, "did not advance lately"))

    async def _readyz(self, _request: web.Request) -> web.Response:
        missing = await self._health.missing()
        return _answer(503 if missing else 200, missing, self._health.notes())

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(
    status: int, problems: Mapping[str, str], notes: Mapping[str, str] = MappingProxyType({})
) -> web.Response:
    well = status == 200  # noqa: PLR2004 - HTTP
    body: dict[str, object] = {"status": "ok" if well else "unavailable", "problems": {**problems}}
    if notes:
        body["notes"] = {**notes}
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")
