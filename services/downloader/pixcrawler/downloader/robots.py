"""What sites ask of crawlers: robots.txt (RFC 9309) and the header `X-Robots-Tag`.

A robots.txt is fetched once per origin, through the same guard, limits and budgets as images:

- 2xx: its rules hold for `PixCrawler`, else for `*`; only the first 512,000 bytes are read.
- 4xx, too many redirects, or a redirect to where we must not go: there is none, all is allowed.
- 5xx, silence, or no connection, after the usual tries: the RFC has us assume that everything is
  forbidden. The site did not say so, therefore its candidates are not `opted_out`: they share what
  became of the robots.txt (`http_error`, `timeout`, `network_error`, `blocked`).
"""

import asyncio
import functools
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from protego import Protego
from yarl import URL

from pixcrawler.common.outcomes import Outcome
from pixcrawler.downloader.failures import SERVER_ERRORS, Failure

MAX_BYTES = 512_000
"""RFC 9309, 2.5: at least 500 kibibytes."""
PARSED_AT_ONCE = 8192
"""A longer file is parsed in a thread."""
ORIGINS = 2048
"""Rules kept at a time."""

_REFUSALS = frozenset({"noai", "noimageai", "noindex", "noimageindex", "none"})
"""`none` is short for `noindex, nofollow`."""
_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""Directives with a colon of their own, which begin no crawler's part."""
_NAME = re.compile(r"[a-z*][\w*./-]*")
"""A crawler's name; the rest of a date is none."""


def opted_out(tags: Iterable[str], product: str) -> str:
    """The directive of `X-Robots-Tag` headers that keeps us out; empty if there is none.

    Args:
        tags: The headers' values, such as `noai, noimageai` or `otherbot: noindex`.
        product: Our product token.
    """
    for tag in tags:
        ours = True  # until a crawler's name says otherwise, for the rest of the header
        for item in tag.lower().split(","):
            name, colon, rest = item.partition(":")
            directive = name.strip()
            if colon and directive not in _VALUED and _NAME.fullmatch(directive):
                ours = directive.partition("/")[0] in {product.lower(), "*"}
                directive = rest.strip()
            if ours and directive in _REFUSALS:
                return directive
    return ""


class Robots:
    """The rules of origins, fetched when they are first asked for.

    Args:
        fetch: Gives the beginning of a URL's body, or raises `Failure` after the usual tries.
        product: Our product token.
        ttl_s: Seconds for which rules stand.
        failure_ttl_s: Seconds for which a failure stands.
    """

    def __init__(
        self,
        fetch: Callable[[URL], Awaitable[bytes]],
        product: str,
        *,
        ttl_s: float,
        failure_ttl_s: float,
    ) -> None:
        self._fetch = fetch
        self._product = product
        self._ttl_s = ttl_s
        self._failure_ttl_s = failure_ttl_s
        self._known: OrderedDict[URL, tuple[float, Protego | Failure | None]] = OrderedDict()
        self._loading: dict[URL, asyncio.Task[Protego | Failure | None]] = {}

    async def allows(self, url: URL) -> bool:
        """Whether this URL may be fetched.

        Raises:
            Failure: the rules cannot be had, so nothing of this origin may be fetched.
        """
        rules = await self._rules(url.origin())
        if isinstance(rules, Failure):
            raise replace(rules)  # each with a traceback of its own
        return rules is None or bool(rules.can_fetch(str(url), self._product))

    async def refresh(self, origin: URL) -> bool:
        """Fetch the rules anew; whether they could be had, or it is known that there are none."""
        self._known.pop(origin, None)
        return not isinstance(await self._rules(origin), Failure)

    async def _rules(self, origin: URL) -> Protego | Failure | None:
        now = asyncio.get_running_loop().time()
        known = self._known.get(origin)
        if known is not None and known[0] > now:
            return known[1]
        task = self._loading.get(origin)
        if task is None:
            task = self._loading[origin] = asyncio.create_task(self._load(origin))
            task.add_done_callback(functools.partial(self._loaded, origin))
        return await asyncio.shield(task)  # whoever asked first may be cancelled

    def _loaded(self, origin: URL, task: asyncio.Task[Protego | Failure | None]) -> None:
        del self._loading[origin]
        if not task.cancelled():
            task.exception()  # it is told to whoever still waits

    async def _load(self, origin: URL) -> Protego | Failure | None:
        rules = await self._read(origin)
        ttl_s = self._failure_ttl_s if isinstance(rules, Failure) else self._ttl_s
        self._known[origin] = (asyncio.get_running_loop().time() + ttl_s, rules)
        self._known.move_to_end(origin)
        while len(self._known) > ORIGINS:
            self._known.popitem(last=False)
        return rules

    async def _read(self, origin: URL) -> Protego | Failure | None:
        try:
            data = await self._fetch(origin.with_path("/robots.txt"))
        except Failure as failure:
            return _unreachable(failure)
        if not data:
            return None
        if len(data) <= PARSED_AT_ONCE:
            return _parse(data)
        return await asyncio.to_thread(_parse, data)


def _parse(data: bytes) -> Protego:
    parsed: Protego = Protego.parse(data.decode("utf-8-sig", "replace"))
    return parsed


def _unreachable(failure: Failure) -> Failure | None:
    """None where the failure means that there is no robots.txt."""
    elsewhere = failure.outcome is Outcome.BLOCKED and failure.hops > 0
    absent = failure.outcome is Outcome.HTTP_ERROR and failure.status < SERVER_ERRORS
    if elsewhere or absent or failure.outcome is Outcome.REDIRECT:
        return None
    if failure.outcome is Outcome.BLOCKED:
        return Failure(failure.outcome, failure.detail)
    return Failure(failure.outcome, f"robots.txt: {failure.detail}", failure.status)
