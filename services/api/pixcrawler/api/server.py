"""The web server as something that runs until it is stopped."""

import contextlib
import socket
from collections.abc import Iterator
from typing import Literal

import uvicorn
from starlette.types import ASGIApp

from pixcrawler.common import logs
from pixcrawler.common.errors import SettingsError

log = logs.get(__name__)

BACKLOG = 1024
KEEP_ALIVE_S = 75
"""An idle connection is closed after this time; longer than clients and proxies keep theirs (60 s
is common), or a request would now and then meet a connection that is just being closed."""


class WebServer:
    """Serves an application.

    Args:
        app: What is served.
        host: Address to listen on.
        port: 0 takes a free one; see `port` after `listen`.
        drain_s: Seconds that requests in hand have once it is stopped.
    """

    name = "web"
    early: Literal[True] = True

    def __init__(self, app: ASGIApp, host: str, port: int, *, drain_s: float) -> None:
        self.port = port
        self._host = host
        self._socket: socket.socket | None = None
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=max(round(drain_s), 1),
            )
        )

    def listen(self) -> None:
        """Take the port; requests wait until `run`.

        Raises:
            SettingsError: it is taken, or the address is not this machine's.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            self._socket = socket.create_server(
                (self._host, self.port), family=family, backlog=BACKLOG
            )
        except OSError as error:
            raise SettingsError(
                f"PIXCRAWLER_HTTP_PORT: cannot listen on {self._host}:{self.port} "
                f"({error.strerror}); choose another port"
            ) from error
        # Connections inherit it. asyncio sets it where a socket's protocol is said to be TCP, which
        # one of `create_server` is not; without it an answer's body, which is written after its
        # head, waits 40 ms until the client has acknowledged that.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = self._socket.getsockname()[1]

    async def run(self) -> None:
        """Serve until stopped."""
        if self._socket is None:
            self.listen()
        assert self._socket is not None
        log.info("serving", action="listen", host=self._host, port=self.port)
        await self._server.serve(sockets=[self._socket])

    async def stop(self) -> None:
        """Take no more requests and finish those in hand; also before it runs, and twice."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the program."""
        yield
