"""The source `urls`: what the caller brought along, with the job or as an uploaded list."""

from collections.abc import Awaitable, Callable

from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.errors import BlobNotFound, GiveUp
from pixcrawler.common.jobs import ListedUrls, StoredList
from pixcrawler.common.url_lists import ListedRow, read_rows
from pixcrawler.downloader import licenses
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


class UploadedList:
    """A list in the blob store, likewise; only the stretch that is asked for is read.

    Args:
        find: Gives the job's list, None if it has none.
        blobs: Where lists are.
        fallback: What is searched where the job has none.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[StoredList | None]],
        blobs: BlobStore,
        fallback: UrlList,
    ) -> None:
        self._find = find
        self._blobs = blobs
        self._fallback = fallback

    async def search(self, keyword: str, offset: int, limit: int) -> SearchPage:
        """See `Source.search`: the place of a row counts those that repeat a URL.

        Raises:
            GiveUp: the list was deleted, which nothing brings back.
        """
        stored = await self._find()
        if stored is None:
            return await self._fallback.search(keyword, offset, limit)
        try:
            rows = await read_rows(self._blobs, stored.list_id, offset, limit)
        except BlobNotFound:
            rows = ()
            stored = stored._replace(rows=0)
        if not stored.rows:
            raise GiveUp(
                f"the list {stored.list_id} was deleted", error="list_deleted", retriable=False
            )
        return SearchPage(tuple(map(_result, rows)), offset + limit >= stored.rows)


def _result(row: ListedRow) -> Result:
    """As the row says; its licence by its identifier, if that can be told."""
    license_url = row.license_url or (row.license if _is_url(row.license) else "")
    words = "" if row.license == license_url else row.license
    return Result(
        url=row.url,
        title=row.title,
        creator=row.creator,
        license=licenses.from_words(words, license_url),
        license_url=license_url,
        landing_url=row.landing_url,
    )


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))
