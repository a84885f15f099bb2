"""Serves a miniature web on 127.0.0.1, several ports, and records what its visitors do."""

import asyncio
import contextlib
import logging
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, fields

from aiohttp import web

from pixcrawler.miniweb import searches
from pixcrawler.miniweb.actors import act
from pixcrawler.miniweb.pages import Ports
from pixcrawler.miniweb.plans import Plan
from pixcrawler.miniweb.replies import Answer, Flaky, Reply
from pixcrawler.miniweb.searches import SearchAnswer
from pixcrawler.miniweb.web import MiniWeb

Answering = Callable[[int, web.BaseRequest], Awaitable[web.StreamResponse]]

HOME = "127.0.0.1"
FORBIDDEN = "127.0.0.2"
CONTROL = "/_miniweb/"
"""On the port of the Openverse search: `state` answers what was recorded, `reset` forgets it,
`mood?source=openverse&mood=away` lets a search be as in `Mood`, for `wait_s` by its own word."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mood:
    """How a search is: `well`, `away` (connections end without an answer), or `spent`.

    Spent: 429 and that nothing is left of its quota, for `wait_s` seconds.
    """

    name: str = "well"
    wait_s: int = 3600


@dataclass(slots=True)
class Records:
    """What visitors did. Keys of `hits` are URLs; `busiest` has, per port, requests at one time."""

    hits: Counter[str] = field(default_factory=Counter)
    busiest: Counter[int] = field(default_factory=Counter)
    user_agents: Counter[str] = field(default_factory=Counter)
    searches: Counter[str] = field(default_factory=Counter)
    trespasses: list[str] = field(default_factory=list)
    _active: Counter[int] = field(default_factory=Counter)

    @contextmanager
    def visit(self, port: int, request: web.BaseRequest) -> Iterator[None]:
        """Counts one request from its beginning to its end."""
        self.hits[f"http://{HOME}:{port}{request.raw_path}"] += 1
        self.user_agents[request.headers.get("User-Agent", "")] += 1
        self._active[port] += 1
        self.busiest[port] = max(self.busiest[port], self._active[port])
        try:
            yield
        finally:
            self._active[port] -= 1

    def as_json(self) -> dict[str, object]:
        """All of it, as JSON can have it."""
        values = {it.name: getattr(self, it.name) for it in fields(self) if it.name[0] != "_"}
        return {
            name: dict(value) if isinstance(value, Counter) else value
            for name, value in values.items()
        }

    def forget(self) -> None:
        """Starts counting anew; failures that were used up stay used up."""
        for counter in (self.hits, self.busiest, self.user_agents, self.searches):
            counter.clear()
        self.trespasses.clear()


class Server:
    """A web being served. `records` has what its visitors did."""

    def __init__(self, miniweb: MiniWeb) -> None:
        self.web = miniweb
        self.records = Records()
        self._asked: Counter[tuple[int, str]] = Counter()
        self._failed: Counter[str] = Counter()
        self.moods: dict[str, Mood] = {}

    async def media(self, port: int, request: web.BaseRequest) -> web.StreamResponse:
        """Answers on a media host."""
        with self.records.visit(port, request):
            try:
                return await act(request, self._reply(port, request.raw_path))
            except ConnectionError:  # the client has had enough, as it should of some bodies
                return web.Response()

    async def openverse(self, port: int, request: web.BaseRequest) -> web.StreamResponse:
        """Answers as Openverse does."""
        if request.path.startswith(CONTROL):
            return self._control(request)
        with self.records.visit(port, request):
            if request.path.rstrip("/") != "/v1/images":
                return web.json_response({"detail": "Not found."}, status=404)
            self.records.searches["openverse"] += 1
            if (poor := self._poorly("openverse", request)) is not None:
                return poor
            answer = self._openverse(request, f"http://{HOME}:{port}")
            headers = searches.openverse_headers(self.records.searches["openverse"])
            if answer.status == 429:
                headers["Retry-After"] = "1"
            return web.json_response(answer.body, status=answer.status, headers=headers)

    async def commons(self, port: int, request: web.BaseRequest) -> web.StreamResponse:
        """Answers as Wikimedia Commons does."""
        with self.records.visit(port, request):
            if request.path != "/w/api.php":
                return web.Response(status=404, text="File not found")
            if not searches.names_a_contact(request.headers.get("User-Agent", "")):
                return web.Response(status=403, text=searches.USER_AGENT_REFUSAL)
            self.records.searches["commons"] += 1
            if (poor := self._poorly("commons", request)) is not None:
                return poor
            if self._hiccup("commons"):
                return web.Response(status=503, text="upstream connect error")
            params = dict(request.query)
            if request.method == "POST":
                params |= {name: str(value) for name, value in (await request.post()).items()}
            return web.json_response(searches.commons(self.web.hits, params).body)

    def _openverse(self, request: web.BaseRequest, origin: str) -> SearchAnswer:
        if self._hiccup("openverse"):
            return searches.openverse_throttled(1)
        return searches.openverse(self.web.hits, request.query, origin)

    def _poorly(self, source: str, request: web.BaseRequest) -> web.Response | None:
        """What a search says, or does not say, that is not well."""
        mood = self.moods.get(source, Mood())
        if mood.name == "away":
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        if mood.name == "spent":
            words = searches.openverse_throttled(mood.wait_s)
            headers = searches.spent_headers(mood.wait_s)
            return web.json_response(words.body, status=words.status, headers=headers)
        return None

    def _hiccup(self, source: str) -> bool:
        self._failed[source] += 1
        return self._failed[source] <= self.web.plan.hiccups

    def _reply(self, port: int, path: str) -> Reply:
        reply = self.web.reply(port, path)
        if reply is None:
            return Answer(b"Not Found\n", "text/plain", status=404)
        if not isinstance(reply, Flaky):
            return reply
        before = self._asked[port, path]
        self._asked[port, path] += 1
        return reply.first[before] if before < len(reply.first) else reply.then

    def _control(self, request: web.BaseRequest) -> web.Response:
        if request.path == f"{CONTROL}reset":
            self.records.forget()
        if request.path == f"{CONTROL}mood":
            asked = request.query
            mood = Mood(asked["mood"], int(asked.get("wait_s", Mood().wait_s)))
            self.moods[asked["source"]] = mood
        return web.json_response(self.records.as_json())

    async def trespass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Records whoever comes where nobody may."""
        here = writer.get_extra_info("sockname")[0]
        self.records.trespasses.append(here)
        entry = len(self.records.trespasses) - 1
        with contextlib.suppress(OSError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            line = await asyncio.wait_for(reader.readline(), timeout=2)
            self.records.trespasses[entry] = f"{here} {line.decode(errors='replace').strip()}"
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        writer.close()


@dataclass(frozen=True, slots=True)
class Sockets:
    """Bound sockets for everything; those of `trespass` are on several addresses."""

    openverse: socket.socket
    commons: socket.socket
    media: tuple[socket.socket, ...]
    faulty: socket.socket
    refused: socket.socket
    trespass: tuple[socket.socket, ...]

    @property
    def ports(self) -> Ports:
        """Their port numbers."""
        return Ports(
            openverse=_port(self.openverse),
            commons=_port(self.commons),
            media=tuple(map(_port, self.media)),
            faulty=_port(self.faulty),
            refused=_port(self.refused),
            trespass=_port(self.trespass[0]),
        )


def bind(stack: ExitStack, plan: Plan, first_port: int = 0) -> Sockets:
    """Binds everything: ports of the system's choice, or `first_port` and those that follow.

    Raises:
        OSError: a port is taken.
    """
    ports = iter(range(first_port, first_port + 5 + plan.media_hosts) if first_port else ())

    def bound() -> socket.socket:
        return stack.enter_context(_bound(HOME, next(ports, 0)))

    return Sockets(
        openverse=bound(),
        commons=bound(),
        media=tuple(bound() for _ in range(plan.media_hosts)),
        faulty=bound(),
        refused=bound(),
        trespass=tuple(_forbidden(stack, bound())),
    )


def _forbidden(stack: ExitStack, home: socket.socket) -> Iterator[socket.socket]:
    """The same port on 127.0.0.1 (where 0.0.0.0 leads), 127.0.0.2 and ::1, as far as they exist."""
    yield home
    for address in (FORBIDDEN, "::1"):
        try:
            yield stack.enter_context(_bound(address, _port(home)))
        except OSError as error:
            log.debug("no listener on %s: %s", address, error)


def _bound(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound


def _port(bound: socket.socket) -> int:
    port: int = bound.getsockname()[1]
    return port


@asynccontextmanager
async def serving(miniweb: MiniWeb, sockets: Sockets) -> AsyncIterator[Server]:
    """Serves the web on these sockets for as long as the context lasts."""
    server = Server(miniweb)
    hosts = (*sockets.media, sockets.faulty)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(_listening(server.openverse, sockets.openverse))
        await stack.enter_async_context(_listening(server.commons, sockets.commons))
        for bound in hosts:
            await stack.enter_async_context(_listening(server.media, bound))
        for bound in sockets.trespass:
            listener = await asyncio.start_server(server.trespass, sock=bound)
            stack.callback(listener.close)
        yield server


@asynccontextmanager
async def _listening(answer: Answering, bound: socket.socket) -> AsyncIterator[None]:
    port = _port(bound)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await answer(port, request)

    runner = web.ServerRunner(
        web.Server(handle, access_log=None), handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        await web.SockSite(runner, bound, backlog=1024).start()
        yield
    finally:
        await runner.cleanup()
