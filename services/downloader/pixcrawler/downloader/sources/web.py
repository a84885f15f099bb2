"""Questions to a search service: JSON over HTTP, patiently, and never twice for the same answer."""

import asyncio
import json
import random
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

import aiohttp
import tenacity
from yarl import URL

from pixcrawler.common import metrics
from pixcrawler.common.errors import GiveUp, Retry
from pixcrawler.downloader.failures import CLIENT_ERRORS, PASSING, SERVER_ERRORS
from pixcrawler.downloader.fetch import retry_after

TRIES = 4
_JSON_AT_ONCE = 1 << 16
"""A longer answer is parsed in a thread."""
_PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}

Slot = Callable[[str], AbstractAsyncContextManager[object]]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Busy(Exception):
    """The service could not answer now.

    Args:
        message: Why, for people.
        wait_s: Seconds that it asks for; None if it does not say.
    """

    def __init__(self, message: str, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Recent(Generic[K, V]):
    """What was learnt lately, so that a chunk that is tried again asks only for what it lacks.

    Args:
        keep_s: Seconds for which it stands.
        size: How much is kept.
    """

    def __init__(self, keep_s: float = 600.0, size: int = 256) -> None:
        self._keep_s = keep_s
        self._size = size
        self._known: OrderedDict[K, tuple[float, V]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """What is known, None if nothing is."""
        known = self._known.get(key)
        return known[1] if known is not None and known[0] > _now() else None

    def put(self, key: K, value: V) -> None:
        """Keep it for a while."""
        self._known[key] = (_now() + self._keep_s, value)
        self._known.move_to_end(key)
        while len(self._known) > self._size:
            self._known.popitem(last=False)


class Asker:
    """Asks one service, one question after the other.

    Args:
        name: The source's, for metrics and messages.
        session: Plain: where searches are is set by whoever runs this, so no guard stands here.
        slot: The budget of the service's host.
        wait_s: Seconds to wait at most when the service asks for patience.
        deadline_s: Seconds for one request.
    """

    def __init__(
        self,
        name: str,
        session: aiohttp.ClientSession,
        slot: Slot,
        *,
        wait_s: float,
        deadline_s: float,
    ) -> None:
        self._name = name
        self._session = session
        self._slot = slot
        self._wait_s = wait_s
        self._timeout = aiohttp.ClientTimeout(total=deadline_s)
        self._turn = asyncio.Lock()
        self._resume_at = 0.0

    async def ask(
        self, url: str, params: Mapping[str, str], check: Callable[[Any], None] | None = None
    ) -> Any:
        """The JSON document at a URL. A source's circuit breaker belongs around the tries here.

        Args:
            url: The service's address.
            params: Of the query.
            check: Raises `Busy` or `GiveUp` if the document is an error all the same.

        Raises:
            Retry: the service does not answer, or asks for more patience than we have.
            GiveUp: it refuses the question.
        """
        target = URL(url).update_query(params)
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(TRIES),
            wait=_pause,
            retry=tenacity.retry_if_exception(self._may_ask_again),
            reraise=True,
        )
        try:
            return await retrying(self._once, target, check)
        except Busy as busy:
            raise Retry(f"{self._name}: {busy}", error="source_unavailable") from busy

    def _may_ask_again(self, error: BaseException) -> bool:
        return isinstance(error, Busy) and (error.wait_s or 0.0) <= self._wait_s

    async def _once(self, target: URL, check: Callable[[Any], None] | None) -> Any:
        async with self._turn:
            pause = self._resume_at - _now()
            if pause > self._wait_s:
                raise Busy("its quota is used up", pause)
            await asyncio.sleep(max(0.0, pause))
            status, data, headers = await self._get(target)
        metrics.SOURCE_REQUESTS.labels(self._name, str(status)).inc()
        self._resume_at = _now() + pace(headers)
        if status >= SERVER_ERRORS or status in PASSING:
            raise Busy(f"it answered {status}", retry_after(headers.get("Retry-After", "")))
        if status >= CLIENT_ERRORS:
            message = f"{self._name} refused with {status}: {data[:200].decode('utf-8', 'replace')}"
            raise GiveUp(message, error="source_refused", retriable=True)
        document = await _parse(data)
        if check is not None:
            check(document)
        return document

    async def _get(self, target: URL) -> tuple[int, bytes, Mapping[str, str]]:
        try:
            async with (
                self._slot(target.host or ""),
                self._session.get(target, timeout=self._timeout) as response,
            ):
                return response.status, await response.read(), response.headers
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            metrics.SOURCE_REQUESTS.labels(self._name, "error").inc()
            raise Busy(f"{type(error).__name__}: {error}") from error


async def _parse(data: bytes) -> Any:
    try:
        if len(data) > _JSON_AT_ONCE:
            return await asyncio.to_thread(json.loads, data)
        return json.loads(data)
    except ValueError as error:
        raise Busy(f"its answer is no JSON: {error}") from error


def pace(headers: Mapping[str, str]) -> float:
    """Seconds until the next question, where `X-RateLimit-Available-…` says that none is left.

    `X-RateLimit-Limit-<scope>` is a rate such as `20/min` (Django REST framework's throttles).
    """
    pause = 0.0
    for name, value in headers.items():
        scope = name.lower().removeprefix("x-ratelimit-available")
        if scope == name.lower() or not value.strip().lstrip("-").isdecimal() or int(value) > 0:
            continue
        number, _, period = headers.get(f"X-RateLimit-Limit{scope}", "").partition("/")
        if number.isdecimal() and int(number) and period[:1] in _PERIODS:
            pause = max(pause, _PERIODS[period[:1]] / int(number))
    return pause


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, Busy) and error.wait_s is not None:
        return error.wait_s
    return float(2.0 ** (state.attempt_number - 1) + random.random())


def _now() -> float:
    return asyncio.get_running_loop().time()
