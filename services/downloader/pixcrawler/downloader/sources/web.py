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
from pixcrawler.common.errors import GiveUp
from pixcrawler.common.limits import Limits
from pixcrawler.downloader.breakers import Breaker, Terms
from pixcrawler.downloader.failures import (
    CLIENT_ERRORS,
    PASSING,
    SERVER_ERRORS,
    TOO_MANY,
    words,
)
from pixcrawler.downloader.fetch import retry_after
from pixcrawler.downloader.sources import Away

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
        message: What it does instead, for people, after its name.
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
        patience: Questions in a row that it may leave unanswered before others go on without it.
        rests: When it is left alone, and for how long.
    """

    def __init__(
        self,
        name: str,
        session: aiohttp.ClientSession,
        slot: Slot,
        *,
        wait_s: float,
        deadline_s: float,
        patience: int = Limits.retry_tries,
        rests: Terms | None = None,
    ) -> None:
        self._name = name
        self._session = session
        self._slot = slot
        self._wait_s = wait_s
        self._patience = patience
        self._timeout = aiohttp.ClientTimeout(total=deadline_s)
        self._turn = asyncio.Lock()
        self._resume_at = 0.0
        self._breaker = Breaker(name, rests or Terms(), lasting=True)
        self._in_vain = 0
        self._trouble = "does not answer"

    async def ask(
        self, url: str, params: Mapping[str, str], check: Callable[[Any], None] | None = None
    ) -> Any:
        """The JSON document at a URL.

        Args:
            url: The service's address.
            params: Of the query.
            check: Raises `Busy` or `GiveUp` if the document is an error all the same.

        Raises:
            Away: the service does not answer, rests, or asks for more patience than we have.
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
            return await retrying(self._in_turn, target, check)
        except Busy as busy:
            self._in_vain += 1
            raise self._away(busy) from busy

    def _away(self, busy: Busy) -> Away:
        rest_s = self._breaker.rest_s
        patient = (busy.wait_s or 0.0) <= self._wait_s
        final = rest_s > 0 or not patient or self._in_vain >= self._patience
        worth_it = patient and 0 < rest_s <= self._wait_s
        return Away(f"{self._name} {busy}", final=final, rest_s=rest_s if worth_it else None)

    def _may_ask_again(self, error: BaseException) -> bool:
        impatient = isinstance(error, Busy) and (error.wait_s or 0.0) <= self._wait_s
        return impatient and not self._breaker.rest_s

    async def _in_turn(self, target: URL, check: Callable[[Any], None] | None) -> Any:
        """One question, after those before it; what it says about the service is remembered."""
        async with self._turn:
            await self._ready()
            try:
                document = await self._once(target, check)
            except Busy as busy:
                self._trouble = str(busy)
                if busy.wait_s is None:  # who names a time is well
                    self._breaker.failed()
                raise
            except GiveUp:
                self._breaker.answered()
                raise
            self._breaker.answered()
            self._in_vain = 0
            return document

    async def _ready(self) -> None:
        """Wait until the service may be asked, if that is not too long."""
        if self._breaker.rest_s:
            raise Busy(self._trouble)
        pause = self._resume_at - _now()
        if pause > self._wait_s:
            raise Busy(f"has no quota left for us for {_duration(pause)}", pause)
        await asyncio.sleep(max(0.0, pause))

    async def _once(self, target: URL, check: Callable[[Any], None] | None) -> Any:
        status, data, headers = await self._get(target)
        metrics.SOURCE_REQUESTS.labels(self._name, str(status)).inc()
        failed = status >= SERVER_ERRORS or status in PASSING
        wait_s = retry_after(headers.get("Retry-After", "")) if failed else None
        self._resume_at = _now() + max(pace(headers), wait_s or 0.0)
        if status == TOO_MANY:
            raise Busy(_impatience(wait_s or pace(headers)), wait_s or pace(headers) or None)
        if failed:
            raise Busy(f"cannot answer now ({status})", wait_s)
        if status >= CLIENT_ERRORS:
            said = data[:200].decode("utf-8", "replace")
            message = f"{self._name} refuses the question ({status}: {said})"
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
            raise Busy(f"cannot be reached ({words(error)})") from error


def _impatience(wait_s: float) -> str:
    asked = f", for {_duration(wait_s)}" if wait_s else ""
    return f"asks for patience (429{asked})"


def _duration(seconds: float) -> str:
    """Such as `40 s`, `7 min` or `3 h`."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


async def _parse(data: bytes) -> Any:
    try:
        if len(data) > _JSON_AT_ONCE:
            return await asyncio.to_thread(json.loads, data)
        return json.loads(data)
    except ValueError as error:
        raise Busy(f"gives no JSON ({error})") from error


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
