"""The two searches: pure functions from a request's parameters to an answer.

Shapes and limits are those of the real services, as their documentation and code state them:
Openverse (`/v1/images/`, the OpenAPI document of api.openverse.org and the repository
WordPress/openverse) and MediaWiki (`api.php`, API:Search, API:Imageinfo, API:Continue).
"""

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from pixcrawler.miniweb.listings import UPLOADERS, Hit, file_title
from pixcrawler.miniweb.plans import COMMONS, OPENVERSE

PAGE_SIZE_MAX = 20
"""Openverse, anonymous (MAX_ANONYMOUS_PAGE_SIZE)."""
PAGE_MAX = 20
"""Openverse (MAX_PAGINATION_DEPTH)."""
GSRLIMIT_MAX = 500
GSRLIMIT_DEFAULT = 10
GSROFFSET_MAX = 10_000
USER_AGENT_REFUSAL = (
    "Please set a user-agent and respect our robot policy https://w.wiki/4wJS. See also T400119.\n"
)

Json = dict[str, Any]
Hits = Mapping[tuple[str, str], tuple[Hit, ...]]
Params = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """A status with JSON, or with `text` where the service answers in plain words."""

    status: int
    body: Json
    text: str = ""


def listed(hits: Hits, source: str, query: str) -> tuple[Hit, ...]:
    """The results for a query, in the source's order; case, quotes and filters do not matter."""
    words = re.sub(r"\b(filetype|filemime|intitle):\S+", " ", query.lower()).replace('"', " ")
    wanted = " ".join(words.split())
    return next(
        (found for (at, word), found in hits.items() if at == source and word.lower() == wanted), ()
    )


# --- Openverse ----------------------------------------------------------------------------------


def openverse(hits: Hits, params: Params, origin: str) -> SearchAnswer:
    """Answers `GET /v1/images/`; `origin` is the API's own address."""
    try:
        size = _whole(params, "page_size", PAGE_SIZE_MAX)
        page = _whole(params, "page", 1)
    except _NotANumberError as error:
        return _invalid(error.field, "A valid integer is required.")
    if size > PAGE_SIZE_MAX:
        words = f"page_size may not exceed {PAGE_SIZE_MAX} for anonymous requests"
        return SearchAnswer(401, {"detail": words})
    for name, value in (("page_size", size), ("page", page)):
        if value < 1:
            return _invalid(name, "Ensure this value is greater than or equal to 1.")
    if page > PAGE_MAX:
        return _invalid("page", f"Ensure this value is less than or equal to {PAGE_MAX}.")
    found = listed(hits, OPENVERSE, params.get("q", ""))
    shown = found[(page - 1) * size : page * size]
    body = {
        "result_count": len(found),
        "page_count": min(-(-len(found) // size), PAGE_MAX),
        "page_size": size,
        "page": page,
        "results": [_openverse_result(hit, origin) for hit in shown],
    }
    return SearchAnswer(200, body)


def openverse_headers(requests: int) -> dict[str, str]:
    """What Openverse says about its limits, after this many requests from an anonymous client."""
    return {
        "X-RateLimit-Limit-anon_burst": "20/min",
        "X-RateLimit-Available-anon_burst": str(max(0, 20 - requests % 20)),
        "X-RateLimit-Limit-anon_sustained": "200/day",
        "X-RateLimit-Available-anon_sustained": str(max(0, 200 - requests % 200)),
    }


def spent_headers(wait_s: int) -> dict[str, str]:
    """What it says when nothing is left of a quota for so many seconds."""
    return {
        "Retry-After": str(wait_s),
        "X-RateLimit-Limit-anon_sustained": f"{max(1, 86_400 // max(1, wait_s))}/day",
        "X-RateLimit-Available-anon_sustained": "0",
    }


def openverse_throttled(wait_s: int) -> SearchAnswer:
    """What it says when there were too many."""
    words = f"Request was throttled. Expected available in {wait_s} second."
    return SearchAnswer(429, {"detail": words})


def _openverse_result(hit: Hit, origin: str) -> Json:
    identifier = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{hit.number}"))
    listing, license_ = hit.listing, hit.license
    here = f"{origin}/v1/images/{identifier}"
    return {
        "id": identifier,
        "title": listing.title,
        "indexed_on": "2026-03-01T09:12:33.123456Z",
        "foreign_landing_url": listing.landing_url,
        "url": hit.url,
        "creator": listing.creator,
        "creator_url": f"https://photos.example/u/{len(listing.creator)}",
        "license": license_.code,
        "license_version": license_.version,
        "license_url": license_.url,
        "provider": "photos",
        "source": "photos",
        "category": None,
        "filesize": hit.filesize if hit.number % 3 else None,
        "filetype": "jpg" if hit.number % 2 else None,
        "tags": [{"accuracy": None, "name": listing.keyword, "unstable__provider": "photos"}],
        "attribution": f'"{listing.title}" by {listing.creator} is licensed under {license_.code}.',
        "fields_matched": ["title"],
        "mature": False,
        "height": hit.height,
        "width": hit.width,
        "thumbnail": f"{here}/thumb/",
        "detail_url": f"{here}/",
        "related_url": f"{here}/related/",
        "unstable__sensitivity": [],
    }


def _invalid(field: str, words: str) -> SearchAnswer:
    return SearchAnswer(400, {"detail": {field: [words]}})


# --- Wikimedia Commons --------------------------------------------------------------------------


def names_a_contact(user_agent: str) -> bool:
    """Whether a User-Agent says how to reach its owner, as Wikimedia's policy demands."""
    return bool(re.search(r"\S@\S|https?://|www\.", user_agent))


def commons(hits: Hits, params: Params) -> SearchAnswer:
    """Answers `api.php?action=query&generator=search…`; formatversion 1 and 2."""
    modern = params.get("formatversion", "1") in {"2", "latest"}
    if problem := _commons_problem(params):
        code, info = problem
        return SearchAnswer(200, {"error": {"code": code, "info": info}, "servedby": "mw-miniweb"})
    given = params.get("gsrlimit", str(GSRLIMIT_DEFAULT))
    limit = GSRLIMIT_MAX if given == "max" else int(given)
    offset = int(params.get("gsroffset", "0"))
    found = listed(hits, COMMONS, params["gsrsearch"])
    shown = found[offset : offset + min(limit, GSRLIMIT_MAX)]
    body: Json = {"batchcomplete": True if modern else ""}
    if offset + len(shown) < len(found):
        body["continue"] = {"gsroffset": offset + len(shown), "continue": "gsroffset||"}
    if limit > GSRLIMIT_MAX:
        words = f'The value "{limit}" for parameter "gsrlimit" must be between 1 and 500.'
        body["warnings"] = {"search": {"warnings" if modern else "*": words}}
    if shown:
        body["query"] = {"pages": _pages(shown, offset, params, modern=modern)}
    return SearchAnswer(200, body)


def _commons_problem(params: Params) -> tuple[str, str] | None:
    """What MediaWiki would complain about: (code, info)."""
    for name, only in (("action", "query"), ("generator", "search")):
        if params.get(name) != only:
            given = params.get(name, "")
            return "badvalue", f'Unrecognized value for parameter "{name}": {given}.'
    if not params.get("gsrsearch"):
        return "missingparam", 'The "gsrsearch" parameter must be set.'
    if params.get("gsrlimit") != "max" and not _between(params.get("gsrlimit", "1"), 1, 10**6):
        return "badinteger", 'Invalid value for integer parameter "gsrlimit".'
    if not _between(params.get("gsroffset", "0"), 0, GSROFFSET_MAX):
        return "badinteger", 'The value for parameter "gsroffset" must be between 0 and 10000.'
    return None


def _between(text: str, least: int, most: int) -> bool:
    return text.isdecimal() and least <= int(text) <= most


def _pages(
    shown: tuple[Hit, ...], offset: int, params: Params, *, modern: bool
) -> list[Json] | Json:
    """Ordered by page id, as MediaWiki does; `index` has the order of the search."""
    wanted = params.get("gsrnamespace", "0").split("|")
    if "6" not in wanted and "*" not in wanted:
        return [] if modern else {}
    props = frozenset(params.get("prop", "").split("|"))
    pages = [_page(hit, at, params, props) for at, hit in enumerate(shown, offset + 1)]
    pages.sort(key=lambda page: page["pageid"])
    return pages if modern else {str(page["pageid"]): page for page in pages}


def _page(hit: Hit, index: int, params: Params, props: frozenset[str]) -> Json:
    identifier = 1_000_000 + hit.number * 7919 % 900_001
    page: Json = {
        "pageid": identifier,
        "ns": 6,
        "title": file_title(hit.listing.title),
        "index": index,
    }
    if "imageinfo" in props:
        asked = frozenset(params.get("iiprop", "timestamp|user").split("|"))
        page["imagerepository"] = "local"
        page["imageinfo"] = [_image_info(hit, identifier, asked)]
    return page


def _image_info(hit: Hit, identifier: int, asked: frozenset[str]) -> Json:
    groups: dict[str, Json] = {
        "timestamp": {"timestamp": "2026-02-11T10:20:30Z"},
        "user": {"user": UPLOADERS[hit.number % len(UPLOADERS)]},
        "size": {"size": hit.filesize, "width": hit.width, "height": hit.height},
        "url": {
            "url": hit.url,
            "descriptionurl": hit.listing.landing_url,
            "descriptionshorturl": f"https://commons.example/w/index.php?curid={identifier}",
        },
        "mime": {"mime": "image/jpeg"},
        "mediatype": {"mediatype": "BITMAP"},
        "extmetadata": {"extmetadata": _extmetadata(hit)},
    }
    groups["dimensions"] = groups["size"]
    info: Json = {}
    for name, fields in groups.items():
        if name in asked:
            info |= fields
    return info


def _extmetadata(hit: Hit) -> Json:
    words = {
        "DateTime": "2026-02-11 10:20:30",
        "ObjectName": hit.listing.title,
        "ImageDescription": f"<p>{escape(hit.listing.title)}, <i>seen</i> from <b>afar</b></p>",
        "Categories": hit.listing.keyword.capitalize(),
        "Artist": hit.artist_html,
        "Credit": '<span class="int-own-work" lang="en">Own work</span>',
        "LicenseShortName": hit.license.code,
        "UsageTerms": hit.license.code,
        "License": hit.license.code.lower().replace(" ", "-"),
    }
    if hit.license.url:
        words["LicenseUrl"] = hit.license.url
    fields: Json = {
        name: {"value": value, "source": "commons-desc-page"} for name, value in words.items()
    }
    fields["CommonsMetadataExtension"] = {"value": 1.2, "source": "extension", "hidden": ""}
    return fields


class _NotANumberError(ValueError):
    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


def _whole(params: Params, name: str, default: int) -> int:
    value = params.get(name, str(default))
    if not re.fullmatch(r"-?\d+", value):
        raise _NotANumberError(name)
    return int(value)
