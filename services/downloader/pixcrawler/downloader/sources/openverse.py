"""The source `openverse`: https://api.openverse.org/v1/images/, asked anonymously.

Anonymous questions get `page_size` ≤ 20 and `page` ≤ 20, so 400 results a keyword at most, and
about 20 answers a minute and 200 a day: so pages are kept for a while. A page may have fewer
results than its size, since dead links are left out; only `page_count` says where a search ends.
Documented in the API's own source (github.com/WordPress/openverse, api/api/serializers and utils).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pixcrawler.common.errors import GiveUp
from pixcrawler.downloader import licenses
from pixcrawler.downloader.sources import Result, SearchPage
from pixcrawler.downloader.sources.web import Asker, Busy, Recent

PAGE_SIZE = 20
MAX_PAGES = 20
MAX_QUERY = 200
"""Characters of a query that count."""


class Page(NamedTuple):
    """One page: places in rank order (None where a result has no URL), and how many pages."""

    places: tuple[Result | None, ...]
    page_count: int


class Openverse:
    """Searches images.

    Args:
        asker: Asks the service.
        base_url: Its address, without `/v1/images/`.
    """

    def __init__(self, asker: Asker, base_url: str) -> None:
        self._asker = asker
        self._url = f"{base_url.rstrip('/')}/v1/images/"
        self._recent: Recent[tuple[str, int], Page] = Recent()

    async def search(self, keyword: str, offset: int, limit: int) -> SearchPage:
        """See `Source.search`: the place of a result is its rank, dead links counted."""
        found: list[Result] = []
        end = min(offset + limit, PAGE_SIZE * MAX_PAGES)
        number = offset // PAGE_SIZE
        ended = number >= MAX_PAGES
        while number * PAGE_SIZE < end and not ended:
            first = number * PAGE_SIZE
            page = await self._page(keyword, number + 1)
            places = page.places[max(0, offset - first) : end - first]
            found.extend(place for place in places if place is not None)
            number += 1
            is_last = number >= min(MAX_PAGES, page.page_count)
            ended = is_last and end >= first + len(page.places)
        return SearchPage(tuple(found), ended)

    async def _page(self, keyword: str, number: int) -> Page:
        page = self._recent.get((keyword, number))
        if page is None:
            page = await self._ask(keyword, number)
            self._recent.put((keyword, number), page)
        return page

    async def _ask(self, keyword: str, number: int) -> Page:
        params = {"q": keyword[:MAX_QUERY], "page": str(number), "page_size": str(PAGE_SIZE)}
        try:
            return parse(await self._asker.ask(self._url, params, check))
        except GiveUp:
            # A page beyond the last one may be refused; the first one tells whether it was that.
            if number == 1 or number <= (first := await self._page(keyword, 1)).page_count:
                raise
            return Page((), first.page_count)


def check(document: Any) -> None:
    """Refuse what is no page of results.

    Raises:
        Busy: it is not.
    """
    if not (
        isinstance(document, Mapping)
        and isinstance(document.get("results"), list)
        and isinstance(document.get("page_count"), int)
    ):
        raise Busy("gives no page of results")


def parse(document: Mapping[str, Any]) -> Page:
    """A page from the API's JSON."""
    return Page(tuple(map(_result, document["results"])), document["page_count"])


def _result(entry: Mapping[str, Any]) -> Result | None:
    url = entry.get("url") or ""
    if not url:
        return None
    return Result(
        url=url,
        title=entry.get("title") or "",
        creator=entry.get("creator") or "",
        license=licenses.from_code(entry.get("license") or "", entry.get("license_version") or ""),
        license_url=entry.get("license_url") or "",
        landing_url=entry.get("foreign_landing_url") or "",
    )
