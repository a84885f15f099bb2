"""The source `urls`: the job's own list."""

from collections.abc import Sequence

from pixcrawler.downloader.sources import Result, SearchPage


class UrlList:
    """A list of URLs as something that can be searched; the keyword means nothing.

    Args:
        urls: The list, in its order.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls

    async def search(self, keyword: str, offset: int, limit: int) -> SearchPage:  # noqa: ARG002
        """See `Source.search`."""
        end = offset + limit
        return SearchPage(tuple(map(Result, self._urls[offset:end])), end >= len(self._urls))
