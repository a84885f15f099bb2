"""The HTTP API over a port: documents, lists, streams, patience with an API that is away.

Everything that talks to the API stands on this, the command as well as both faces of the SDK.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import tenacity

from pixcrawler.client.errors import ApiError, UnexpectedAnswer, Unreachable, refusal
from pixcrawler.client.patience import PATIENCE_S
from pixcrawler.client.ports import Port

SILENCE_S = 2.0
"""How long an API may be away before people are told of it."""

SHORT_WAIT_S = 30.0
"""A limit that lifts within this many seconds (`Retry-After`) is waited for, another is told."""

UPLOAD_S = 1800.0
"""How long the API may take to read what was sent, once it has all of it."""

AWAY = frozenset({502, 503, 504})
"""Statuses of a proxy or a server whose back is not there right now."""

Json = dict[str, Any]


class Away(Exception):
    """The API did not answer, or something in front of it answered for it.

    Args:
        message: What happened.
        after_s: Seconds before it makes sense to ask again.
    """

    def __init__(self, message: str, after_s: float = 0.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class Core:
    """A client of one API.

    Args:
        port: How it is reached.
        url: The API's base address, for messages.
        patience_s: Seconds for which an API that is away is asked again.
        on_away: Told once for each outage, in one line.
    """

    def __init__(
        self,
        port: Port,
        url: str,
        *,
        patience_s: float = PATIENCE_S,
        on_away: Callable[[str], None] | None = None,
    ) -> None:
        self.port = port
        self.url = url
        self.patience_s = patience_s
        self._on_away = on_away
        self._told_at = -patience_s

    async def get(self, path: str, *, limit_s: float | None = None, **params: Any) -> Json:
        """The document at a path; parameters that are None are left out.

        Args:
            path: Below the base address.
            limit_s: Less patience than usual, in seconds.
            params: Of the query.
        """
        return await self._document("GET", path, limit_s=limit_s, params=_given(params))

    async def pages(self, path: str, **params: Any) -> AsyncIterator[Json]:
        """All items of a paginated list."""
        cursor: str | None = None
        while True:
            page = await self.get(path, **params, cursor=cursor)
            for item in page["items"]:
                yield item
            cursor = page.get("next_cursor")
            if not cursor:
                return

    async def post(
        self,
        path: str,
        body: Json | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Json:
        """Ask for something to be done."""
        return await self._document(
            "POST", path, json=body, headers=dict(headers or {}), params=_given(params or {})
        )

    async def patch(self, path: str, body: Json, **params: Any) -> Json:
        """Change something; asking again is harmless."""
        return await self._document("PATCH", path, json=body, params=_given(params))

    async def upload(
        self,
        path: str,
        content: Iterable[bytes],
        *,
        headers: Mapping[str, str],
        params: Mapping[str, Any],
    ) -> Json:
        """Send a file; the content is asked for its bytes again if they have to be sent again."""
        return await self._document(
            "POST",
            path,
            content=content,
            headers={"Content-Type": "application/octet-stream", **headers},
            params=_given(params),
            timeout=httpx.Timeout(UPLOAD_S, connect=30.0),
        )

    async def delete(self, path: str, **params: Any) -> None:
        """Remove what is at a path."""
        await self._document("DELETE", path, params=_given(params))

    @asynccontextmanager
    async def stream(self, url: str, *, offset: int) -> AsyncIterator[httpx.Response]:
        """A file's bytes from an offset on; the link carries its own permission.

        So the key stays here: the link may lead to a blob store, which would refuse it besides.
        """
        headers = {"Accept-Encoding": "identity"}  # offsets count the bytes as they are stored
        if offset:
            headers["Range"] = f"bytes={offset}-"
        request = self.port.build("GET", url, headers=headers, timeout=60.0)
        request.headers.pop("Authorization", None)
        async with self.port.opened(request) as response:
            if _present(response).is_error:
                await self.port.read(response)
                raise _refusal(response)
            yield response

    def patiently(self, limit_s: float | None = None) -> tenacity.AsyncRetrying:
        """Tries again while the API is away, for as long as patience lasts."""
        patience_s = self.patience_s if limit_s is None else min(self.patience_s, limit_s)
        return tenacity.AsyncRetrying(
            before_sleep=self._tell,
            sleep=self.port.sleep,
            retry=tenacity.retry_if_exception_type((Away, httpx.TransportError)),
            wait=_wait,
            stop=self._out_of(patience_s),
            reraise=True,
        )

    def _out_of(self, patience_s: float) -> Callable[[tenacity.RetryCallState], bool]:
        lasted = tenacity.stop_after_delay(patience_s)
        return lambda state: self.port.stopped or lasted(state)

    def _tell(self, state: tenacity.RetryCallState) -> None:
        """Say that the API is away, once in a while."""
        began, now = state.start_time, time.monotonic()
        quiet = now - began < SILENCE_S or now - self._told_at < self.patience_s
        if self._on_away is None or quiet:
            return
        self._told_at = now
        self._on_away(
            f"the API at {self.url} does not answer: trying again for {self.patience_s:.0f} s"
        )

    async def _document(
        self, method: str, path: str, *, limit_s: float | None = None, **request: Any
    ) -> Json:
        try:
            async for attempt in self.patiently(limit_s):
                with attempt:
                    built = self.port.build(method, path, **request)
                    response = _present(await self.port.send(built))
        except (Away, httpx.TransportError) as error:
            raise Unreachable(
                f"the API at {self.url} does not answer ({error or type(error).__name__}): "
                "is it running? (pixcrawler status)"
            ) from error
        if response.is_error:
            raise _refusal(response)
        return self._read(response) if response.content else {}

    def _read(self, response: httpx.Response) -> Json:
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise UnexpectedAnswer(
                f"what answers at {self.url} is no JSON object: is it PixCrawler?"
            )
        return document


_backoff = tenacity.wait_random_exponential(multiplier=0.2, max=5)


def _wait(state: tenacity.RetryCallState) -> float:
    """Longer each time, at random, and at least what the API asked for."""
    error = state.outcome.exception() if state.outcome else None
    return max(_backoff(state), error.after_s if isinstance(error, Away) else 0.0)


def _present(response: httpx.Response) -> httpx.Response:
    after_s = _retry_after(response) or 0.0
    limited = response.status_code == httpx.codes.TOO_MANY_REQUESTS and 0 < after_s <= SHORT_WAIT_S
    if limited or response.status_code in AWAY:
        said = f"{response.status_code} {response.reason_phrase}"
        raise Away(said, min(after_s, SHORT_WAIT_S))
    return response


def _retry_after(response: httpx.Response) -> float | None:
    """In seconds; None where it is not said, or is a date."""
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _refusal(response: httpx.Response) -> ApiError:
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    return refusal(response.status_code, problem, retry_after_s=_retry_after(response))
