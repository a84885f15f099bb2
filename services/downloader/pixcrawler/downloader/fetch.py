"""One candidate: from its URL to its bytes, or to the reason why there are none.

A candidate has up to `tries` tries; a try follows redirects, each hop within the budget of its
host; whoever may not be asked is not asked, and who rests is asked later (`hosts.py`).
`PIXCRAWLER_FETCH_DEADLINE_S` bounds what a try spends on its requests (waiting for a host is
politeness, and decides nothing). Whatever happens, the answer has exactly one outcome, or bytes.
"""

import asyncio
import functools
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import aiohttp
import tenacity
from yarl import URL

from pixcrawler.common import metrics
from pixcrawler.common.documents import Fetched
from pixcrawler.common.errors import Signal
from pixcrawler.common.guard import Guard, GuardedResolver
from pixcrawler.common.outcomes import Outcome
from pixcrawler.downloader import breakers, robots
from pixcrawler.downloader.budgets import Budgets
from pixcrawler.downloader.failures import (
    CLIENT_ERRORS,
    PASSING,
    SERVER_ERRORS,
    Failure,
    from_error,
)
from pixcrawler.downloader.hosts import Hosts, Waits
from pixcrawler.downloader.inflate import Inflater
from pixcrawler.downloader.spool import Body, Spooler

logger = logging.getLogger(__name__)

MAX_REDIRECTS = 10
_SUCCESS = 2  # 2xx
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_VERBATIM = re.compile(r"[!#-;=?-\[\]_a-z~]+")
"""URLs of these characters are sent as they are: quoting anew would break signed ones."""
_HEADER_BYTES = 1 << 16
"""Longest header line that is read; some sites' policies exceed aiohttp's 8 KiB."""
_READ = 1 << 18
"""Bytes that a connection reads ahead."""
_KEEP_ALIVE_S = 15.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a fetch; see the settings of the same names."""

    timeout_s: float
    deadline_s: float
    max_bytes: int
    tries: int
    backoff_s: float
    backoff_max_s: float
    retry_after_max_s: float
    concurrency: int


class Answer(NamedTuple):
    """What became of a URL: `body` is None if it has an outcome. The receiver closes the body."""

    fetched: Fetched
    body: Body | None


class _Got(NamedTuple):
    status: int
    url: str
    body: Body


class Connections:
    """Makes sessions of one connection each, all through the guard.

    Args:
        guard: Decides which addresses may be reached.
        user_agent: Who we are.
        limits: Its timeouts.
    """

    def __init__(self, guard: Guard, user_agent: str, limits: Limits) -> None:
        self._guard = guard
        self._resolver = GuardedResolver(guard)
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=limits.timeout_s, sock_read=limits.timeout_s
        )
        self._headers = {
            "User-Agent": user_agent,
            "Accept": "image/*,*/*;q=0.8",
            "Accept-Encoding": "identity",
        }

    def make(self) -> aiohttp.ClientSession:
        """A session for one request at a time; it connects when it is used."""
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,
            socket_factory=self._guard.socket,
            keepalive_timeout=_KEEP_ALIVE_S,
            limit=0,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=self._timeout,
            auto_decompress=False,
            read_bufsize=_READ,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )

    async def close(self) -> None:
        """Let go of the resolver's threads."""
        await self._resolver.close()


class Fetcher:
    """Fetches candidates.

    Args:
        budgets: Connections within each host's budget.
        guard: Decides which addresses may be reached.
        spooler: Where bytes go.
        limits: What bounds a fetch.
        product: Our product token.
        robots_ttl_s: Seconds for which a robots.txt stands.
        robots_failure_ttl_s: Seconds for which it stands that one could not be had.
        rests: When a host that fails is left alone, and for how long.
    """

    def __init__(
        self,
        budgets: Budgets[aiohttp.ClientSession],
        guard: Guard,
        spooler: Spooler,
        limits: Limits,
        *,
        product: str,
        robots_ttl_s: float,
        robots_failure_ttl_s: float,
        rests: breakers.Terms | None = None,
    ) -> None:
        self._budgets = budgets
        self._guard = guard
        self._spooler = spooler
        self._limits = limits
        self._product = product
        self._places = asyncio.Semaphore(limits.concurrency)
        self._robots = robots.Robots(
            self._robots_txt, product, ttl_s=robots_ttl_s, failure_ttl_s=robots_failure_ttl_s
        )
        self._hosts = Hosts(
            rests or breakers.Terms(), limits.retry_after_max_s, self._robots.refresh
        )
        self._retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(limits.tries),
            wait=self._pause,
            retry=tenacity.retry_if_exception(_may_try_again),
            reraise=True,
        )

    async def fetch(self, position: int, url: str) -> Answer:
        """What becomes of a URL.

        Raises:
            Signal: this machine's trouble (no room, no descriptors): nothing is decided.
        """
        began = time.monotonic()
        try:
            got = await self._retried(functools.partial(self._try, url, self._hosts.waits()))
        except Failure as failure:
            return Answer(
                Fetched(
                    position=position,
                    outcome=failure.outcome,
                    detail=failure.detail,
                    http_status=failure.status,
                    elapsed_ms=_ms_since(began),
                ),
                None,
            )
        fetched = Fetched(
            position=position,
            http_status=got.status,
            final_url=got.url,
            bytes=got.body.size,
            elapsed_ms=_ms_since(began),
        )
        return Answer(fetched, got.body)

    async def close(self) -> None:
        """Wait for no host any more."""
        await self._hosts.close()

    async def _retried(self, attempt: Callable[[], Awaitable[_Got]]) -> _Got:
        """Try, and try again while it may help; most tries succeed, and cost no machinery."""
        failed: Failure | None = None
        try:
            return await attempt()
        except Failure as failure:
            if not failure.again:
                raise
            failed = failure

        async def next_attempt() -> _Got:
            nonlocal failed
            if failed is None:
                return await attempt()
            first, failed = failed, None
            raise first

        got: _Got = await self._retrying.copy()(next_attempt)
        return got

    def _pause(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next try: what the host asked for, or doubling, with jitter."""
        limits = self._limits
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Failure) and error.wait_s is not None:
            return error.wait_s
        pause = min(limits.backoff_max_s, limits.backoff_s * 2 ** (state.attempt_number - 1))
        return float(pause + random.uniform(0, limits.backoff_s))

    async def _try(self, url: str, waits: Waits) -> _Got:
        """One try at a candidate."""
        return await self._follow(parse(url), self._limits.max_bytes, waits)

    async def _try_robots_txt(self, url: URL) -> _Got:
        return await self._follow(url, robots.MAX_BYTES, None)

    async def _robots_txt(self, url: URL) -> bytes:
        got = await self._retried(functools.partial(self._try_robots_txt, url))
        try:
            return await got.body.read()
        finally:
            got.body.close()

    async def _follow(self, target: URL, max_bytes: int, waits: Waits | None) -> _Got:
        """Follow redirects to an answer.

        Args:
            target: Where to begin.
            max_bytes: Of the body. More is a failure, in a robots.txt it is left out.
            waits: How long the candidate may wait for hosts; None for a robots.txt, which is what
                permits a hop and tells whether a host is there, and so waits for neither.
        """
        left_s = self._limits.deadline_s
        seen: set[URL] = set()
        for hops in range(MAX_REDIRECTS + 1):
            if target in seen:
                raise Failure(Outcome.REDIRECT, f"a loop at {target}"[:300])
            seen.add(target)
            try:
                got, spent_s = await self._visit(target, left_s, max_bytes, waits)
            except Failure as failure:
                failure.hops = hops
                raise
            left_s -= spent_s
            if isinstance(got, _Got):
                return got
            target = got
        raise Failure(Outcome.REDIRECT, f"more than {MAX_REDIRECTS} redirects")

    async def _visit(
        self, target: URL, left_s: float, max_bytes: int, waits: Waits | None
    ) -> tuple[_Got | URL, float]:
        """One hop, once its host may be asked: the answer, and the seconds that it took."""
        while True:
            await self._permit(target, waits)
            got: _Got | URL | None = None
            try:
                async with self._budgets.connection(_host(target)) as session, self._places:
                    # Whoever queued for a connection looks again: much may have happened.
                    if waits is None or not self._hosts.busy(target.origin(), waits):
                        began = time.monotonic()
                        got = await self._told(session, target, left_s, max_bytes, waits)
                        spent_s = time.monotonic() - began
            except BaseException:
                if isinstance(got, _Got):  # cancelled while the connection was being closed
                    got.body.close()
                raise
            if got is not None:
                return got, spent_s

    async def _told(
        self,
        session: aiohttp.ClientSession,
        target: URL,
        left_s: float,
        max_bytes: int,
        waits: Waits | None,
    ) -> _Got | URL:
        """One request of a candidate; what becomes of it is what is known of the host."""
        if waits is None:
            return await self._ask(session, target, left_s, max_bytes, cut=True)
        try:
            got = await self._ask(session, target, left_s, max_bytes, cut=False)
        except Failure as failure:
            self._hosts.heard(target.origin(), failure)
            raise
        self._hosts.heard(target.origin())
        return got

    async def _permit(self, target: URL, waits: Waits | None) -> None:
        """Return when the target may be asked; raise `Failure` where we must not go."""
        self._check(target)
        if waits is None:
            return
        while True:
            if not await self._robots.allows(target):
                raise Failure(Outcome.OPTED_OUT, "robots.txt")
            if not self._hosts.busy(target.origin(), waits):
                return
            await self._hosts.wait(target.origin(), waits)

    def _check(self, target: URL) -> None:
        try:
            self._guard.check_url(target)
        except (OSError, ValueError) as error:
            raise from_error(error) from error

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        target: URL,
        left_s: float,
        max_bytes: int,
        *,
        cut: bool,
    ) -> _Got | URL:
        """One request: an answer, or where it redirects to."""
        body = self._spooler.body()
        began = time.monotonic()
        try:
            async with asyncio.timeout(left_s) as deadline:
                got = await self._request(session, target, body, max_bytes, cut=cut)
        except (Failure, Signal):
            body.close()
            raise
        except Exception as error:
            body.close()
            if deadline.expired():
                detail = f"not done in {self._limits.deadline_s:g} s"
                raise Failure(Outcome.TIMEOUT, detail) from error
            if not isinstance(error, aiohttp.ClientError | OSError | ValueError | TimeoutError):
                logger.exception("a request failed in an unknown way: %s", target)
            raise from_error(error) from error
        except BaseException:
            body.close()
            raise
        finally:
            metrics.FETCH.observe(time.monotonic() - began)
        if isinstance(got, URL):
            body.close()
            return got
        if not cut:
            metrics.FETCH_BYTES.inc(body.size)
        return _Got(got, str(target), body)

    async def _request(
        self,
        session: aiohttp.ClientSession,
        target: URL,
        body: Body,
        max_bytes: int,
        *,
        cut: bool,
    ) -> int | URL:
        """The status of a good answer, once its body is read; or where it redirects to."""
        async with session.get(target, allow_redirects=False) as response:
            status = response.status
            location = response.headers.get("Location")
            if status in _REDIRECTS and location:
                return _join(target, location)
            if status // 100 != _SUCCESS:
                raise self._refused(status, response.headers)
            directive = robots.opted_out(response.headers.getall("X-Robots-Tag", ()), self._product)
            if directive and not cut:
                raise Failure(Outcome.OPTED_OUT, f"X-Robots-Tag: {directive}", status)
            await _read(response, body, max_bytes, cut=cut)
            return status

    def _refused(self, status: int, headers: Mapping[str, str]) -> Failure:
        wait_s = retry_after(headers.get("Retry-After", ""))
        passing = status in PASSING or status >= SERVER_ERRORS
        patient = wait_s is None or wait_s <= self._limits.retry_after_max_s
        kind = "answered" if status >= CLIENT_ERRORS else "redirected nowhere:"
        return Failure(
            Outcome.HTTP_ERROR, f"{kind} {status}", status, again=passing and patient, wait_s=wait_s
        )


async def _read(response: aiohttp.ClientResponse, body: Body, max_bytes: int, *, cut: bool) -> None:
    """Read a body into `body`; what is beyond `max_bytes` fails, or is cut off."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    inflater = Inflater(encoding) if encoding in Inflater.ENCODINGS else None
    announced = response.content_length or 0
    if inflater is None and announced > max_bytes and not cut:
        raise _too_large(response.status, f"{announced} bytes announced", max_bytes)
    async for data in response.content.iter_any():
        for piece in (data,) if inflater is None else inflater.feed(data):
            if body.size + len(piece) > max_bytes:
                if not cut:
                    raise _too_large(response.status, "the body goes on", max_bytes)
                await body.write(piece[: max_bytes - body.size])
                return
            await body.write(piece)
            if inflater is not None:
                await asyncio.sleep(0)


def _too_large(status: int, what: str, max_bytes: int) -> Failure:
    return Failure(Outcome.TOO_LARGE, f"{what}, {max_bytes} are allowed", status)


def parse(url: str) -> URL:
    """A URL as it is sent.

    Raises:
        Failure: it is none.
    """
    text = url.strip()
    try:
        return URL(text, encoded=_VERBATIM.fullmatch(text) is not None)
    except ValueError as error:
        raise from_error(error) from error


def _join(base: URL, location: str) -> URL:
    try:
        return base.join(parse(location)).with_fragment(None)
    except ValueError as error:
        raise from_error(error) from error


def retry_after(value: str) -> float | None:
    """Seconds that a `Retry-After` asks for, which names seconds or a date; None for none."""
    text = value.strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _may_try_again(error: BaseException) -> bool:
    return isinstance(error, Failure) and error.again


def _host(target: URL) -> str:
    return (target.raw_host or "").lower().rstrip(".")


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
