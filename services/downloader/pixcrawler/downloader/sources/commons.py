"""The source `commons`: Wikimedia Commons through MediaWiki's `api.php`.

One question is a generator (`generator=search` among files) with a property (`prop=imageinfo`) of
the pages that it finds. An answer may hold the property of some of its pages only: then `continue`
leads to the others, with the same pages again, until the batch is complete; after that `gsroffset`
leads to the next batch. Formats 1 (pages by their id, flags as empty strings) and 2 (a list, flags
as booleans) are read. Documented at https://www.mediawiki.org/wiki/API:Continue, API:Search,
API:Imageinfo and in the extension CommonsMetadata.
"""

from collections.abc import Iterable, Mapping
from html.parser import HTMLParser
from typing import Any

from pixcrawler.common.errors import GiveUp
from pixcrawler.downloader import licenses
from pixcrawler.downloader.sources import Away, Result, SearchPage
from pixcrawler.downloader.sources.web import Asker, Busy

MAX_LIMIT = 500
MAX_OFFSET = 10_000
"""CirrusSearch gives no results beyond."""
MAX_STEPS = 200
"""Answers of one search: more means that the service leads in circles."""

_QUESTION = {
    "action": "query",
    "format": "json",
    "formatversion": "2",
    "generator": "search",
    "gsrnamespace": "6",
    "prop": "imageinfo",
    "iiprop": "url|size|mime|extmetadata|user",
    "iiextmetadatafilter": "ObjectName|Artist|LicenseShortName|LicenseUrl",
}
_PASSING_ERRORS = ("ratelimited", "maxlag", "readonly", "internal_api_error", "cirrussearch")
_OTHER_MEDIA = ("video/", "audio/", "application/")
"""Files among the results that are no images by the service's own word: they are no candidates."""


class Commons:
    """Searches files.

    Args:
        asker: Asks the service.
        url: Of its `api.php`.
    """

    def __init__(self, asker: Asker, url: str) -> None:
        self._asker = asker
        self._url = url

    async def search(self, keyword: str, offset: int, limit: int) -> SearchPage:
        """See `Source.search`: the place of a result is its rank, other media counted."""
        end = min(offset + limit, MAX_OFFSET)
        if offset >= end:
            return SearchPage((), offset >= MAX_OFFSET)
        found: list[Result] = []
        at: int | None = offset
        for _ in range(MAX_STEPS):
            if at is None or at >= end:
                break
            results, at = await self._batch(keyword, at, min(end - at, MAX_LIMIT))
            found.extend(results)
        return SearchPage(tuple(found), at is None or at >= MAX_OFFSET)

    async def _batch(
        self, keyword: str, offset: int, limit: int
    ) -> tuple[list[Result], int | None]:
        """A batch's results in rank order, and where the next one begins (None: nowhere)."""
        question = {
            **_QUESTION,
            "gsrsearch": keyword,
            "gsrlimit": str(limit),
            "gsroffset": str(offset),
        }
        pages: dict[str, dict[str, Any]] = {}
        follow: Mapping[str, Any] = {}
        for _ in range(MAX_STEPS):
            params = question | {name: str(value) for name, value in follow.items()}
            document = await self._asker.ask(self._url, params, check)
            merge(pages, document)
            follow = document.get("continue") or {}
            if is_complete(document):
                next_offset = follow.get("gsroffset")
                return results(pages.values()), None if next_offset is None else int(next_offset)
        raise Away("commons never completes a batch")


def check(document: Any) -> None:
    """Refuse what is no answer to a query.

    Raises:
        Busy: it may be one later.
        GiveUp: the question was refused.
    """
    if not isinstance(document, Mapping):
        raise Busy("gives no object")
    error = document.get("error")
    if isinstance(error, Mapping):
        code, info = str(error.get("code", "")), str(error.get("info", ""))
        if code.startswith(_PASSING_ERRORS):
            raise Busy(f"is busy ({code}: {info})")
        raise GiveUp(
            f"commons refuses the question ({code}: {info})", error="source_refused", retriable=True
        )
    if not ({"query", "batchcomplete", "continue"} & document.keys()):
        raise Busy("gives no results")


def is_complete(document: Mapping[str, Any]) -> bool:
    """Whether all properties of a batch have been given: nothing but the generator continues."""
    if "batchcomplete" in document:
        return bool(document["batchcomplete"]) or document["batchcomplete"] == ""
    return not (document.get("continue") or {}).keys() - {"gsroffset", "continue"}


def merge(pages: dict[str, dict[str, Any]], document: Mapping[str, Any]) -> None:
    """Add an answer's pages, and what it says about pages that are known."""
    given = (document.get("query") or {}).get("pages") or ()
    for page in given.values() if isinstance(given, Mapping) else given:
        key = str(page.get("title") or page.get("pageid"))
        pages[key] = {**pages.get(key, {}), **page}


def results(pages: Iterable[Mapping[str, Any]]) -> list[Result]:
    """The images among pages, by the search's rank."""
    ranked = sorted(pages, key=lambda page: page.get("index", 0))
    return [found for found in map(_result, ranked) if found is not None]


def _result(page: Mapping[str, Any]) -> Result | None:
    info: Mapping[str, Any] = next(iter(page.get("imageinfo") or ()), {})
    url = info.get("url") or ""
    if not url or str(info.get("mime") or "").startswith(_OTHER_MEDIA):
        return None
    about: Mapping[str, Any] = info.get("extmetadata") or {}
    license_url = _word(about, "LicenseUrl")
    return Result(
        url=url,
        title=text(_word(about, "ObjectName")) or _name(page.get("title") or ""),
        creator=text(_word(about, "Artist")) or str(info.get("user") or ""),
        license=licenses.from_words(text(_word(about, "LicenseShortName")), license_url),
        license_url=license_url,
        landing_url=info.get("descriptionurl") or "",
    )


def _word(about: Mapping[str, Any], name: str) -> str:
    entry = about.get(name)
    return str(entry.get("value", "")) if isinstance(entry, Mapping) else ""


def _name(title: str) -> str:
    """`File:Red panda.jpg` → `Red panda`."""
    name = title.partition(":")[2] or title
    return name.rpartition(".")[0] or name


class _Text(HTMLParser):
    """Collects the text of a piece of HTML, without what is not shown."""

    _EMPTY = frozenset({"br", "hr", "img", "input", "wbr", "link", "meta"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._EMPTY:
            self.pieces.append(" ")
            return
        style = (dict(attrs).get("style") or "").replace(" ", "").lower()
        if self._hidden or tag in {"style", "script"} or "display:none" in style:
            self._hidden.append(tag)
        elif tag in {"p", "div", "li", "td", "tr"}:
            self.pieces.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            while self._hidden.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)


def text(html: str) -> str:
    """The text of a piece of HTML in one line."""
    if "<" not in html and "&" not in html:
        return " ".join(html.split())
    parser = _Text()
    parser.feed(html)
    parser.close()
    return " ".join("".join(parser.pieces).split())
