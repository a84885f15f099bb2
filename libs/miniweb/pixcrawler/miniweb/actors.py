"""Acts out the replies on an aiohttp server: one function for each way to behave."""

import asyncio
import gzip
import random
import socket
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from aiohttp import web

from pixcrawler.miniweb.replies import (
    FOR_EVER_S,
    Answer,
    Broken,
    Drip,
    Endless,
    Redirect,
    Reply,
    RetryLater,
    Silence,
)

PIECE = 64 * 1024
ENDLESS_PIECES = 4096
"""The endless body ends after 256 MB after all, so that a broken client is found out."""
RST = struct.pack("ii", 1, 0)
"""SO_LINGER with no time to linger: closing sends a reset."""


async def act(  # noqa: PLR0911 — one return for each way to behave
    request: web.BaseRequest, reply: Reply
) -> web.StreamResponse:
    """Answers the request as the reply says."""
    match reply:
        case Answer():
            return await _answer(request, reply)
        case RetryLater():
            return web.Response(status=reply.status, headers={"Retry-After": _when(reply)})
        case Redirect():
            return web.Response(status=reply.status, headers={"Location": reply.location})
        case Broken():
            return await _break(request, reply)
        case Silence():
            return await _fall_silent(request, reply)
        case Drip():
            return await _drip(request, reply)
        case Endless():
            return await _stream(request, reply)


async def _answer(request: web.BaseRequest, reply: Answer) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status)
    for name, value in reply.headers:
        response.headers.add(name, value)
    if reply.content_type is not None:
        response.headers["Content-Type"] = reply.content_type
    if reply.chunked:
        response.enable_chunked_encoding()
    else:
        response.content_length = len(reply.body)
    await response.prepare(request)
    if request.method != "HEAD":
        await response.write(reply.body)
    await response.write_eof()
    return response


def _when(reply: RetryLater) -> str:
    if not reply.as_date:
        return str(reply.delay_s)
    # Dates have whole seconds; one more, so that it is never in the past.
    moment = datetime.now(UTC) + timedelta(seconds=reply.delay_s + 1)
    return format_datetime(moment, usegmt=True)


async def _break(request: web.BaseRequest, reply: Broken) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
    response.content_length = reply.claimed
    if reply.headers:
        await response.prepare(request)
        await response.write(reply.sent)
    transport = request.transport
    if transport is not None:
        if reply.reset:
            endpoint: socket.socket = transport.get_extra_info("socket")
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
            transport.abort()
        else:
            transport.close()
    return response


async def _fall_silent(request: web.BaseRequest, reply: Silence) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
    response.content_length = 1_000_000
    if reply.sent is not None:
        await response.prepare(request)
        await response.write(reply.sent)
    await asyncio.sleep(FOR_EVER_S)
    return response


async def _drip(request: web.BaseRequest, reply: Drip) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
    response.content_length = len(reply.body)
    await response.prepare(request)
    for at in range(0, len(reply.body), reply.piece):
        await response.write(reply.body[at : at + reply.piece])
        await asyncio.sleep(reply.pause_s)
    await response.write_eof()
    return response


async def _stream(request: web.BaseRequest, reply: Endless) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "image/jpeg"})
    if reply.packed:
        response.headers["Content-Encoding"] = "gzip"
    response.enable_chunked_encoding()
    await response.prepare(request)
    async for piece in _zeros() if reply.packed else _noise():
        await response.write(piece)
    await response.write_eof()
    return response


async def _noise() -> AsyncIterator[bytes]:
    piece = random.Random(0).randbytes(PIECE)
    yield b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
    for _ in range(ENDLESS_PIECES):
        yield piece
        await asyncio.sleep(0)


async def _zeros() -> AsyncIterator[bytes]:
    # A gzip file may have many members, one after the other: each is 1 MB of zeros in 1 kB.
    member = gzip.compress(bytes(1024 * 1024), mtime=0)
    for _ in range(ENDLESS_PIECES):
        yield member
        await asyncio.sleep(0)
