"""Around every request: its id, its line in the log, a limit to its body, other origins."""

import re
import time
import uuid
from collections.abc import Mapping, Sequence

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixcrawler.api.problems import Problem, respond, unexpected
from pixcrawler.common import logs, metrics, telemetry

log = logs.get(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = ("/healthz", "/readyz", "/metrics")
"""Paths that are asked every few seconds: their lines are for debugging."""

_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})
_ASKED_WITH = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-None-Match",
    "Last-Event-ID",
    "Range",
    "Traceparent",
    "X-API-Key",
    "X-Request-ID",
)
_ANSWERED_WITH = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Location",
    "Retry-After",
    "X-Request-ID",
)
_PREFLIGHT_S = 3600


def allow_origins(app: Starlette, origins: Sequence[str]) -> None:
    """Let pages of these origins use the application; none of them: say nothing about origins.

    Without credentials, since keys travel in headers that a page has to set.
    """
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=("GET", "HEAD", "POST", "DELETE"),
            allow_headers=_ASKED_WITH,
            expose_headers=_ANSWERED_WITH,
            max_age=_PREFLIGHT_S,
        )


class RequestLog:
    """Gives each request an id (the caller's, if it has a sane one) and logs one line for it.

    A bug that got this far is answered as a problem.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        asked = headers.get("x-request-id", "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        trace = telemetry.parse(headers.get("traceparent", ""))
        status, started, began = 500, False, time.monotonic()

        async def answer(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        with logs.bound(request_id=request_id, **({"trace_id": trace.trace_id} if trace else {})):
            try:
                await self._app(scope, receive, answer)
            except Exception as error:
                if started:
                    raise  # the connection breaks off, so nobody takes the rest for the whole
                await respond(scope["path"], unexpected(error))(scope, receive, answer)
            finally:
                took_s = time.monotonic() - began
                quiet = scope["path"] in _QUIET
                if not quiet:
                    metrics.REQUESTS.labels(_method(scope), str(status)).observe(took_s)
                write = log.debug if quiet else log.info
                write(
                    "request",
                    action="request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round(took_s * 1000, 1),
                )


def _method(scope: Scope) -> str:
    """What counts as one: a client may call its method anything, and each would be a series."""
    method = str(scope["method"])
    return method if method in _METHODS else "other"


class BodyLimit:
    """Refuses bodies larger than a limit with 413, declared or not.

    Args:
        app: What is behind.
        limit: Bytes.
        others: Method and path → bytes, where another limit holds.
    """

    def __init__(
        self, app: ASGIApp, limit: int, others: Mapping[tuple[str, str], int] | None = None
    ) -> None:
        self._app = app
        self._limit = limit
        self._others = dict(others or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._others.get((scope["method"], scope["path"]), self._limit)
        detail = f"the body has more than {limit} bytes"
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            await respond(scope["path"], Problem(413, detail))(scope, receive, send)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > limit:
                    raise HTTPException(413, detail)  # FastAPI would make another a 400
            return message

        await self._app(scope, limited, send)
