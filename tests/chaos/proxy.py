"""A bad line to the blob store: TCP between the services and the real one."""

import asyncio
import random
from contextlib import suppress
from http import HTTPStatus

from pixcrawler.standalone.ports import LOOPBACK

PIECE = 1 << 16
SLOW_S = 0.5
"""Each piece of an answer, or of a request, waits for so long at most."""
SHORT_S = 0.5
"""While there are errors no connection lives longer, so that answers get lost as well."""
ERRORS = (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
MODES = ("", "errors", "slow", "away")


class Proxy:
    """Passes bytes on, unless it is told otherwise.

    Args:
        port: Of the real store.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._mode = ""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.refused = 0

    async def start(self) -> int:
        """Listen; the port."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """End, with everything that is under way."""
        assert self._server is not None
        self._server.close()
        self._cut()

    async def behave(self, mode: str) -> None:
        """From now on: `errors`, `slow`, `away`, or nothing bad. Cuts whatever is under way."""
        assert mode in MODES
        self._mode = mode
        self._cut()

    def _cut(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                await self._answer(reader, writer)
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mode = self._mode
        if mode == "away":
            self.refused += 1
            return
        if mode == "errors" and random.random() < 0.5:
            await reader.readuntil(b"\r\n\r\n")
            status = random.choice(ERRORS)
            lines = (f"HTTP/1.1 {status} {status.phrase}", "Content-Length: 0", "Connection: close")
            writer.write("\r\n".join((*lines, "", "")).encode())
            self.refused += 1
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            return
        async with asyncio.timeout(SHORT_S if mode == "errors" else None):
            await self._pass_on(reader, writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(LOOPBACK, self._target)
        self._open.add(back)
        try:
            both = [
                asyncio.ensure_future(self._pipe(reader, back)),
                asyncio.ensure_future(self._pipe(there, writer)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pipe in both:
                    pipe.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        finally:
            self._open.discard(back)
            back.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            if self._mode == "slow":
                await asyncio.sleep(random.uniform(0, SLOW_S))
            writer.write(data)
            await writer.drain()
