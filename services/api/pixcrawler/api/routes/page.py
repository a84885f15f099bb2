"""The web page and the API's docs: files of this package, with nothing from other hosts."""

import functools
import hashlib
from importlib import resources
from typing import Annotated, Final, NamedTuple

from fastapi import APIRouter, Header
from fastapi.responses import Response

from pixcrawler.api.problems import not_found

router = APIRouter(include_in_schema=False)

FOLDER: Final = "page"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: its own files, the API, and images that it fetched with the key."""

HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

NOT_MODIFIED = 304
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class Asset(NamedTuple):
    """A file of the page."""

    content: bytes
    media_type: str
    tag: str


Known = Annotated[str, Header(alias="If-None-Match")]


@router.api_route("/", methods=["GET", "HEAD"], response_class=Response)
async def index(known: Known = "") -> Response:
    """The page."""
    return _respond("index.html", known)


@router.api_route("/docs", methods=["GET", "HEAD"], response_class=Response)
async def docs(known: Known = "") -> Response:
    """What `/openapi.json` says, to read."""
    return _respond("docs.html", known)


@router.api_route("/page/{name}", methods=["GET", "HEAD"], response_class=Response)
async def asset(name: str, known: Known = "") -> Response:
    """A script, the style, the icon."""
    return _respond(name, known)


def _respond(name: str, known: str) -> Response:
    found = assets().get(name)
    if found is None:
        raise not_found(f"page {name}")
    headers = {**HEADERS, "ETag": found.tag}
    if found.tag in known:
        return Response(None, NOT_MODIFIED, headers=headers)
    return Response(found.content, headers=headers, media_type=found.media_type)


@functools.cache
def assets() -> dict[str, Asset]:
    """The page's files by name, read when they are first asked for."""
    found = {}
    for file in resources.files("pixcrawler.api").joinpath(FOLDER).iterdir():
        media_type = _MEDIA_TYPES.get(f".{file.name.rpartition('.')[2]}")
        if media_type is not None:
            content = file.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[file.name] = Asset(content, media_type, tag)
    return found
