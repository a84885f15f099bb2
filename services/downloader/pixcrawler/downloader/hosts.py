"""Hosts that are left alone for a while: because they asked for it, or because they fail.

An origin (scheme, host and port) that fails so many times in a row rests. Then its robots.txt is
fetched once more: a host that answers that goes on, every URL with what becomes of it; of one that
does not nothing may be fetched (see `robots.py`), and its candidates share that fate. So a breaker
delays candidates, and never decides one: what decides is an answer, of the URL or the robots.txt.

Each candidate waits once for a host that rests, and no longer than `pause_s` in all for one that
asks for pauses: whatever a host does, its candidates come to an end.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from yarl import URL

from pixcrawler.common.outcomes import Outcome
from pixcrawler.downloader.breakers import Breaker, Terms
from pixcrawler.downloader.failures import SERVER_ERRORS, TOO_MANY, Failure

ORIGINS = 2048
"""Origins known at a time."""


@dataclass(slots=True)
class Waits:
    """How much waiting a candidate has left: seconds of pauses, and a rest of each origin."""

    pause_s: float
    rested: set[URL] = field(default_factory=set)


@dataclass(slots=True)
class _Host:
    breaker: Breaker
    resume_at: float = 0.0
    recovering: asyncio.Task[None] | None = None


class Hosts:
    """What is known of the hosts that are being asked.

    Args:
        terms: When a host rests.
        pause_s: The longest pause that a host may ask for, in seconds.
        probe: Fetches an origin's robots.txt anew; whether it could be had.
    """

    def __init__(
        self, terms: Terms, pause_s: float, probe: Callable[[URL], Awaitable[bool]]
    ) -> None:
        self._terms = terms
        self._pause_s = pause_s
        self._probe = probe
        self._known: OrderedDict[URL, _Host] = OrderedDict()

    def waits(self) -> Waits:
        """For a new candidate."""
        return Waits(self._pause_s)

    def busy(self, origin: URL, waits: Waits) -> bool:
        """Whether this candidate has to wait for its host."""
        host = self._known.get(origin)
        return host is not None and (_pause(host, waits) > 0 or _rests(host, origin, waits))

    async def wait(self, origin: URL, waits: Waits) -> None:
        """Wait until the host may be asked, or this candidate has waited enough."""
        host = self._host(origin)
        if (pause := _pause(host, waits)) > 0:
            waits.pause_s -= pause
            await asyncio.sleep(pause)
        if _rests(host, origin, waits):
            waits.rested.add(origin)
            if host.recovering is None:
                host.recovering = asyncio.create_task(self._recover(origin, host))
            await asyncio.shield(host.recovering)  # whoever came first may be cancelled

    def heard(self, origin: URL, failure: Failure | None = None) -> None:
        """What became of a request."""
        host = self._host(origin)
        if failure is None or 0 < failure.status < SERVER_ERRORS:
            host.breaker.answered()
        elif failure.status or (failure.again and failure.outcome in _NO_ANSWER):
            host.breaker.failed()
        if failure is not None and failure.status == TOO_MANY and failure.wait_s is not None:
            pause = min(failure.wait_s, self._pause_s)
            host.resume_at = max(host.resume_at, _now() + pause)

    async def close(self) -> None:
        """Wait for nobody any more."""
        tasks = [host.recovering for host in self._known.values() if host.recovering is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _recover(self, origin: URL, host: _Host) -> None:
        """Let it rest, then ask it once, for all who wait."""
        try:
            await asyncio.sleep(host.breaker.rest_s)
            if await self._probe(origin):
                host.breaker.answered()
            else:
                host.breaker.failed()
        finally:
            host.recovering = None

    def _host(self, origin: URL) -> _Host:
        host = self._known.get(origin)
        if host is None:
            host = self._known[origin] = _Host(Breaker(str(origin), self._terms))
        self._known.move_to_end(origin)
        if len(self._known) > ORIGINS:
            self._known.popitem(last=False)[1].breaker.forget()
        return host


_NO_ANSWER = frozenset({Outcome.TIMEOUT, Outcome.NETWORK_ERROR})


def _pause(host: _Host, waits: Waits) -> float:
    return min(host.resume_at - _now(), waits.pause_s)


def _rests(host: _Host, origin: URL, waits: Waits) -> bool:
    return origin not in waits.rested and not host.breaker.closed


def _now() -> float:
    return asyncio.get_running_loop().time()
