"""The source `urls`: the job's own list."""

from collections.abc import Awaitable, Callable

from pixcrawler.common.jobs import ListedUrls
from pixcrawler.downloader.sources import Result, SearchPage


class UrlList:
    """A list of URLs as something that can be searched; the keyword means nothing.

    Args:
        read: Gives so many URLs of the list from a place on: offset, limit.
    """

    def __init__(self, read: Callable[[int, int], Awaitable[ListedUrls]]) -> None:
        self._read = read

    async def search(self, keyword: str, offset: int, limit: int) -> SearchPage:  # noqa: ARG002
        """See `Source.search`."""
        urls, total = await self._read(offset, limit)
        return SearchPage(tuple(map(Result, urls)), offset + limit >= total)
