"""Fetching one candidate from a real local server: tries, redirects, refusals, limits."""

import asyncio
import gzip
import socket
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.documents import Fetched
from pixcrawler.common.outcomes import Outcome
from pixcrawler.downloader.tools import Tools
from tests.integration.downloader.harness import HOME, settings, tools
from tests.integration.downloader.web import Web, hang, serving

IMAGE = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 20


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Web]:
    async with serving() as made:
        yield made.page("/image", IMAGE)


@pytest_asyncio.fixture
async def made(module_database: str, tmp_path: Path) -> AsyncIterator[Tools]:
    told = settings(module_database, fetch_retry_after_max_s=1.5)
    async with tools(told, LocalBlobs(tmp_path)) as replica:
        yield replica


async def fetch(made: Tools, url: str) -> tuple[Fetched, bytes]:
    """The outcome, and the bytes if there are any."""
    async with asyncio.timeout(30):
        answer = await made.fetcher.fetch(7, url)
    assert answer.fetched.position == 7
    assert (answer.body is None) == (answer.fetched.outcome is not None)
    if answer.body is None:
        return answer.fetched, b""
    data = await answer.body.read()
    answer.body.close()
    return answer.fetched, data


async def test_an_image_arrives_as_it_is_served(made: Tools, site: Web) -> None:
    """Bytes, status and address; we say who we are and ask for no encoding."""
    fetched, data = await fetch(made, site.url("/image"))
    assert data == IMAGE
    assert (fetched.http_status, fetched.final_url) == (200, site.url("/image"))
    assert fetched.bytes == len(IMAGE)
    sent = site.headers[-1]
    assert sent["User-Agent"].startswith("PixCrawler/")
    assert "tests@example.org" in sent["User-Agent"]
    assert sent["Accept-Encoding"] == "identity"


async def test_a_url_is_sent_as_it_stands(made: Tools, site: Web) -> None:
    """Quoting anew would break signed URLs; what cannot be sent is quoted."""
    await fetch(made, site.url("/a%7Eb%2fc?sig=%2B+a%20b&x=1,2"))
    assert site.raw[-1] == "/a%7Eb%2fc?sig=%2B+a%20b&x=1,2"
    await fetch(made, site.url("/ä b"))
    assert site.raw[-1] == "/%C3%A4%20b"


@pytest.mark.parametrize("status", [500, 503, 408, 425, 429])
async def test_what_may_pass_is_tried_three_times(made: Tools, site: Web, status: int) -> None:
    """And then it is the last answer that counts."""
    site.page("/x", status=status)
    fetched, _ = await fetch(made, site.url("/x"))
    assert (fetched.outcome, fetched.http_status) == (Outcome.HTTP_ERROR, status)
    assert site.hits["/x"] == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451, 304])
async def test_what_will_not_change_is_tried_once(made: Tools, site: Web, status: int) -> None:
    """No other 4xx is repeated."""
    site.page("/x", status=status)
    fetched, _ = await fetch(made, site.url("/x"))
    assert (fetched.outcome, fetched.http_status) == (Outcome.HTTP_ERROR, status)
    assert site.hits["/x"] == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_waited_for(made: Tools, site: Web, form: str) -> None:
    """In seconds or as a date: the second try comes no earlier than asked."""
    asked_at = []

    async def busy_once(_: web.BaseRequest) -> web.StreamResponse:
        asked_at.append(time.time())
        value = "1" if form == "seconds" else formatdate(time.time() + 1.2, usegmt=True)
        if len(asked_at) == 1:
            return web.Response(status=429, headers={"Retry-After": value})
        return web.Response(body=IMAGE)

    site.pages["/x"] = busy_once
    _, data = await fetch(made, site.url("/x"))
    assert data == IMAGE
    assert asked_at[1] - asked_at[0] >= (1.0 if form == "seconds" else 0.1)


async def test_more_patience_than_we_have_is_not_tried_again(made: Tools, site: Web) -> None:
    """Asking earlier than the host allows would be rude, waiting an hour useless."""
    site.page("/x", status=503, Retry_After="3600")
    fetched, _ = await fetch(made, site.url("/x"))
    assert fetched.outcome is Outcome.HTTP_ERROR
    assert site.hits["/x"] == 1
    assert fetched.elapsed_ms < 1000


async def test_silence_is_tried_again(made: Tools, site: Web) -> None:
    """No byte in time, three times: `timeout`."""
    site.pages["/x"] = hang
    fetched, _ = await fetch(made, site.url("/x"))
    assert fetched.outcome is Outcome.TIMEOUT
    assert site.hits["/x"] == 3


async def test_a_missed_deadline_is_not_tried_again(made: Tools, site: Web) -> None:
    """A host that drips for ever gets one try, bounded by the deadline."""

    async def drip(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.2)

    site.pages["/x"] = drip
    fetched, _ = await fetch(made, site.url("/x"))
    assert (fetched.outcome, fetched.detail) == (Outcome.TIMEOUT, "not done in 2 s")
    assert site.hits["/x"] == 1
    assert 1900 <= fetched.elapsed_ms < 4000


async def test_the_deadline_holds_for_all_redirects_together(made: Tools, site: Web) -> None:
    """Ten slow hops are one try."""

    async def slowly(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(0.4)
        number = int(request.path[2:])
        return web.Response(status=302, headers={"Location": f"/s{number + 1}"})

    site.pages |= {f"/s{number}": slowly for number in range(9)}
    fetched, _ = await fetch(made, site.url("/s0"))
    assert fetched.outcome is Outcome.TIMEOUT
    assert fetched.elapsed_ms < 4000


@pytest.mark.parametrize("limit", [10, 11])
async def test_ten_redirects_are_followed_and_no_more(made: Tools, site: Web, limit: int) -> None:
    """The address at the end is kept; one more is too many."""
    for number in range(limit):
        target = f"/r{number + 1}" if number + 1 < limit else "/image"
        site.page(f"/r{number}", status=301, Location=target)
    fetched, data = await fetch(made, site.url("/r0"))
    if limit == 10:
        assert (data, fetched.final_url) == (IMAGE, site.url("/image"))
    else:
        assert fetched.outcome is Outcome.REDIRECT


async def test_a_loop_is_seen_at_once(made: Tools, site: Web) -> None:
    """And is not tried again."""
    site.page("/a", status=302, Location="/b").page("/b", status=302, Location="/a")
    fetched, _ = await fetch(made, site.url("/a"))
    assert fetched.outcome is Outcome.REDIRECT
    assert site.hits["/a"] == site.hits["/b"] == 1


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2/x",
        "http://localhost.localdomain.invalid@127.0.0.2/x",
        "//169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]/x",
        "http://2130706433/x",
        "http://0x7f.1/x",
        "http://0/x",
        "file:///etc/passwd",
        "ftp://example.org/x",
        "data:image/png;base64,AAAA",
        "gopher://127.0.0.1/x",
    ],
)
@pytest.mark.parametrize("behind", ["redirect", "candidate"])
async def test_addresses_that_are_not_for_us_are_blocked(
    made: Tools, site: Web, target: str, behind: str
) -> None:
    """As a candidate and behind a redirect, though 127.0.0.1 itself is allowed here."""
    site.page("/x", status=302, Location=target)
    if behind == "candidate" and target.startswith("//"):
        target = f"http:{target}"
    fetched, _ = await fetch(made, site.url("/x") if behind == "redirect" else target)
    assert fetched.outcome is Outcome.BLOCKED


async def test_names_of_private_addresses_are_blocked(
    module_database: str, tmp_path: Path, site: Web
) -> None:
    """Without an allow-list, also the name of this very machine; nothing is asked for."""
    told = settings(module_database, fetch_allow_networks="")
    async with tools(told, LocalBlobs(tmp_path)) as replica:
        for host in ("localhost", HOME):
            fetched, _ = await fetch(replica, site.url("/image", host))
            assert fetched.outcome is Outcome.BLOCKED
    assert not site.hits


async def test_a_name_that_changes_its_address_is_not_followed(
    made: Tools, site: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that was checked is the one connected to: the name is resolved once only."""
    lookups = []
    resolve = socket.getaddrinfo

    def rebinding(host: str, *args: object, **others: object) -> object:
        if host != "rebinding.test":
            return resolve(host, *args, **others)  # type: ignore[arg-type]
        lookups.append(host)
        address = HOME if len(lookups) == 1 else "127.0.0.3"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    _, data = await fetch(made, site.url("/image", "rebinding.test"))
    assert data == IMAGE
    assert lookups == ["rebinding.test"]


async def test_a_name_without_an_address_is_a_network_error(made: Tools) -> None:
    """Names that do not exist, ports at which nobody listens, words that are no URL."""
    with socket.socket() as unused:
        unused.bind((HOME, 0))
        port = unused.getsockname()[1]
        for url in (
            "http://nowhere.invalid/x",
            f"http://{HOME}:{port}/x",
            "http://",
            "http://a:99999/",
            f"http://{'a' * 300}.example/",
            "http://a\x00b/",
        ):
            fetched, _ = await fetch(made, url)
            assert fetched.outcome is Outcome.NETWORK_ERROR, url


async def test_more_bytes_than_allowed_are_refused(made: Tools, site: Web) -> None:
    """Announced, streamed, or unpacked from gzip: what counts is the size of the image."""

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(100_000))

    site.pages["/endless"] = endless
    site.page("/announced", bytes(2_000_001))
    site.page("/bomb", gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")
    for path in ("/endless", "/announced", "/bomb"):
        fetched, _ = await fetch(made, site.url(path))
        assert fetched.outcome is Outcome.TOO_LARGE, path
        assert site.hits[path] == 1
    exact, data = await fetch(made, site.page("/exact", bytes(2_000_000)).url("/exact"))
    assert (exact.outcome, len(data)) == (None, 2_000_000)


async def test_a_packed_image_is_unpacked(made: Tools, site: Web) -> None:
    """Some servers compress although we ask for no encoding."""
    site.page("/x", gzip.compress(IMAGE), Content_Encoding="gzip")
    fetched, data = await fetch(made, site.url("/x"))
    assert data == IMAGE
    assert fetched.bytes == len(IMAGE)


async def test_sites_that_opt_out_are_left_alone(made: Tools, site: Web) -> None:
    """A header for everyone or for us; other crawlers' headers do not concern us."""
    site.page("/all", IMAGE, X_Robots_Tag="noarchive, NoAI")
    site.page("/us", IMAGE, X_Robots_Tag="pixcrawler: noindex")
    site.page("/them", IMAGE, X_Robots_Tag="otherbot: noindex, noai")
    assert (await fetch(made, site.url("/all")))[0].outcome is Outcome.OPTED_OUT
    assert (await fetch(made, site.url("/us")))[0].outcome is Outcome.OPTED_OUT
    assert (await fetch(made, site.url("/them")))[1] == IMAGE


async def test_robots_txt_is_asked_once_and_obeyed(made: Tools, site: Web) -> None:
    """Also behind a redirect."""
    site.page("/robots.txt", b"User-agent: *\nDisallow: /no/\n").page("/no/x", IMAGE)
    site.page("/moved", status=302, Location="/no/x")
    urls = [site.url("/no/x"), site.url("/moved"), site.url("/image")]
    outcomes = [(await fetch(made, url))[0].outcome for url in urls]
    assert outcomes == [Outcome.OPTED_OUT, Outcome.OPTED_OUT, None]
    assert site.hits["/robots.txt"] == 1
    assert site.hits["/no/x"] == 0


async def test_rules_for_us_come_before_rules_for_all(made: Tools, site: Web) -> None:
    """RFC 9309: the group of our product token counts alone."""
    rules = b"User-agent: *\nDisallow: /\n\nUser-agent: PixCrawler\nAllow: /\n"
    site.page("/robots.txt", rules)
    assert (await fetch(made, site.url("/image")))[1] == IMAGE


async def test_without_robots_txt_all_is_allowed(made: Tools, site: Web) -> None:
    """404, 403, a loop, or a redirect to where we do not go: there are no rules."""
    async with serving() as second, serving() as third:
        second.page("/image", IMAGE).page("/robots.txt", status=302, Location="/robots.txt")
        third.page("/image", IMAGE).page("/robots.txt", status=302, Location="http://127.0.0.9/")
        for one in (site.page("/robots.txt", status=403), second, third):
            assert (await fetch(made, one.url("/image")))[1] == IMAGE


async def test_a_robots_txt_that_cannot_be_had_forbids_the_rest(made: Tools, site: Web) -> None:
    """RFC 9309, 2.3.1.4: after the usual tries, the candidates share its fate."""
    site.page("/robots.txt", status=503)
    fetched, _ = await fetch(made, site.url("/image"))
    assert (fetched.outcome, fetched.http_status) == (Outcome.HTTP_ERROR, 503)
    assert fetched.detail.startswith("robots.txt")
    again, _ = await fetch(made, site.url("/image"))
    assert again.outcome is Outcome.HTTP_ERROR
    assert (site.hits["/robots.txt"], site.hits["/image"]) == (3, 0)


async def test_an_endless_robots_txt_is_read_as_far_as_it_matters(made: Tools, site: Web) -> None:
    """500 KiB count, and no try hangs on it."""

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"User-agent: *\nDisallow: /no/\n")
        while True:
            await response.write(b"#" * 999 + b"\n")

    site.pages["/robots.txt"] = endless
    assert (await fetch(made, site.url("/no/x")))[0].outcome is Outcome.OPTED_OUT
    assert (await fetch(made, site.url("/image")))[1] == IMAGE


async def test_a_broken_connection_is_tried_again(made: Tools, site: Web) -> None:
    """Half a body, then the end: twice bad luck, then the image."""
    tries = 0

    async def breaking(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal tries
        tries += 1
        if tries == 3:
            return web.Response(body=IMAGE)
        response = web.StreamResponse(headers={"Content-Length": str(len(IMAGE))})
        await response.prepare(request)
        await response.write(IMAGE[:100])
        assert request.transport is not None
        request.transport.abort()
        return response

    site.pages["/x"] = breaking
    assert (await fetch(made, site.url("/x")))[1] == IMAGE


async def test_connections_are_used_again(made: Tools, site: Web) -> None:
    """A connection for each image would double the time that images take."""
    peers = set()

    async def noting(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=IMAGE)

    site.pages["/x"] = noting
    for _ in range(20):
        await fetch(made, site.url("/x"))
    assert len(peers) == 1
