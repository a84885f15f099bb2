"""The files of the page, as a browser gets them."""

import re
from html.parser import HTMLParser

import pytest

from pixcrawler.api.routes import page
from tests.integration.api.conftest import World

POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob:",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
}


@pytest.mark.parametrize("path", ["/", "/docs", *(f"/page/{name}" for name in page.assets())])
async def test_every_file(world: World, path: str) -> None:
    """It is served without a key, under a policy that allows nothing from elsewhere, cached."""
    answer = await world.client.get(path, headers={"Authorization": ""})
    assert answer.status_code == 200
    assert set(answer.headers["content-security-policy"].split("; ")) == POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"
    tag = {"If-None-Match": answer.headers["etag"]}
    again = await world.client.get(path, headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    assert (await world.client.head(path)).status_code == 200


@pytest.mark.parametrize("name", ["none.js", "page.py", "..%2Fapp.py", "%2e%2e"])
async def test_no_other_file(world: World, name: str) -> None:
    """Nothing else of the package is given out."""
    assert (await world.client.get(f"/page/{name}")).status_code == 404


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in {"src", "href"}]
        self.inline += [name for name, _ in attrs if name == "style" or name.startswith("on")]


def test_nothing_from_other_hosts() -> None:
    """No file names another host; pages have no script or style within them."""
    for name, asset in page.assets().items():
        text = asset.content.decode()
        assert "innerHTML" not in text
        assert not re.search(r"insertAdjacentHTML|document\.write|\beval\(", text)
        hosts = set(re.findall(r"https?://([\w.]+)", text))
        assert hosts <= {"www.w3.org", "html.spec.whatwg.org"}, name
        if name.endswith(".html"):
            links = _Links()
            links.feed(text)
            assert not links.inline
            assert all(link.startswith(("/", "#")) for link in links.found), links.found


def test_every_module_is_there() -> None:
    """What a script imports is a file of the page."""
    assets = page.assets()
    for asset in assets.values():
        imported = re.findall(rb'^import .* from "\./([\w.]+)";$', asset.content, re.MULTILINE)
        assert {name.decode() for name in imported} <= set(assets)
