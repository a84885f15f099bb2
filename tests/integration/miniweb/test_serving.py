"""What is served is what the truth says, judged without the product: by a plain client."""

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable
from io import BytesIO
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import ClientSession, ClientTimeout
from PIL import Image, UnidentifiedImageError
from protego import Protego

from pixcrawler.miniweb import hashes
from pixcrawler.miniweb.images import decodes_strictly
from pixcrawler.miniweb.kinds import KINDS
from pixcrawler.miniweb.server import Server
from pixcrawler.miniweb.site import Site
from pixcrawler.miniweb.truth import Truth

TAKEN = {"JPEG", "PNG", "WEBP", "GIF", "AVIF", "BMP", "TIFF"}
MAX_BYTES = 2_000_000
TRIES = 4
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")

pytestmark = [
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
    pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning"),  # Pillow, of a cut TIFF
]


def of(site: Site, *outcomes: str) -> list[Truth]:
    return [one for one in site.truth.values() if one.outcome in outcomes]


async def check(truths: list[Truth], judge: Callable[[Truth], Awaitable[object]]) -> None:
    """Judges all of them at once; the sentence of a failure names the page."""
    assert truths
    for one, found in zip(
        truths, await asyncio.gather(*map(judge, truths), return_exceptions=True), strict=True
    ):
        assert found is None, f"{one.kind} {one.url}: {found!r}"


async def patiently(client: ClientSession, url: str, **options: float) -> tuple[int, bytes, str]:
    """Asks again after errors and broken connections: (status, body, final URL)."""
    timeout = ClientTimeout(total=5, sock_read=0.5)
    for left in reversed(range(TRIES)):
        try:
            async with client.get(url, timeout=timeout, **options) as answer:  # type: ignore[arg-type]
                if left and answer.status in {408, 425, 429, 500, 502, 503, 504}:
                    continue
                return answer.status, await answer.read(), str(answer.url)
        except (aiohttp.ClientError, TimeoutError):
            if not left:
                raise
    raise AssertionError


async def test_every_kind_is_there(site: Site) -> None:
    """The small plan leaves nothing out, but what needs a name that this machine lacks."""
    found = {one.kind for one in site.truth.values()}
    assert set(KINDS) - found <= {"private-name"}


async def test_kept_images_have_the_bytes_of_the_truth(site: Site, client: ClientSession) -> None:
    """Each arrives, after some patience, with the stated bytes, format, size and hash."""

    async def judge(true: Truth) -> None:
        status, body, final = await patiently(client, true.url)
        assert status == 200
        assert hashlib.sha256(body).hexdigest() == true.sha256
        assert len(body) == true.bytes
        assert final == (true.final_url or true.url)
        with Image.open(BytesIO(body)) as image:
            image.load()
            assert str(image.format).lower() == true.format
            assert not true.width or image.size == (true.width, true.height)
        if true.phash:
            assert hashes.distance(hashes.full_size_hash(body), int(true.phash, 16)) <= 3

    await check(of(site, "kept"), judge)


async def test_groups_are_alike_and_nothing_else_is(site: Site, client: ClientSession) -> None:
    """Within a group at most 6 bits, however they are decoded; between groups more than 12."""
    kept = of(site, "kept")
    bodies = [(await patiently(client, one.url))[1] for one in kept]
    values = [(hashes.full_size_hash(body), hashes.reduced_hash(body)) for body in bodies]
    for at, one in enumerate(kept):
        for other in range(at):
            apart = [hashes.distance(a, b) for a in values[at] for b in values[other]]
            if one.group and one.group == kept[other].group:
                assert max(apart) <= 6, (one.url, kept[other].url)
            else:
                assert min(apart) > 12, (one.url, kept[other].url)


async def test_corrupt_files_begin_as_images_and_do_not_decode(
    site: Site, client: ClientSession
) -> None:
    """A strict JPEG decoder, or a full load of the other formats, refuses each."""

    async def judge(true: Truth) -> None:
        _, body, _ = await patiently(client, true.url)
        assert body.startswith(BEGINNINGS) or body[4:12] == b"ftypavif"
        if body.startswith(b"\xff\xd8"):
            assert not decodes_strictly(body)
        elif true.kind == "png-without-end":
            assert not body.endswith(b"IEND\xaeB`\x82")
        elif body.startswith(b"RIFF"):
            assert int.from_bytes(body[4:8], "little") + 8 > len(body)
        else:
            with (
                pytest.raises((OSError, SyntaxError, ValueError)),
                Image.open(BytesIO(body)) as image,
            ):
                image.load()

    await check(of(site, "corrupt"), judge)


async def test_impostors_are_no_images(site: Site, client: ClientSession) -> None:
    """Nothing that is `not_image` can be opened as an image."""

    async def judge(true: Truth) -> None:
        _, body, _ = await patiently(client, true.url)
        with pytest.raises(UnidentifiedImageError):
            Image.open(BytesIO(body))

    await check(of(site, "not_image"), judge)


async def test_unsupported_files_are_of_other_formats(site: Site, client: ClientSession) -> None:
    """Each is a raster image by its first bytes, and none is of a format that is taken."""
    magic = {
        "jpeg2000": b"\x00\x00\x00\x0cjP  ",
        "icon": b"\x00\x00\x01\x00",
        "ppm": b"P6",
        "photoshop": b"8BPS\x00\x01",
        "heic": b"\x00\x00\x00\x18ftypheic",
    }

    async def judge(true: Truth) -> None:
        _, body, _ = await patiently(client, true.url)
        assert body.startswith(magic[true.kind])
        if true.kind != "heic":
            with Image.open(BytesIO(body)) as image:
                assert image.format not in TAKEN

    await check(of(site, "unsupported"), judge)


async def test_sizes_are_beyond_the_limits(site: Site, client: ClientSession) -> None:
    """Too small by a side, or a bomb by the header, of a format that is taken."""
    limit = 178_956_970  # the product's default

    async def judge(true: Truth) -> None:
        _, body, _ = await patiently(client, true.url)
        assert len(body) < 200_000
        try:
            width, height = Image.open(BytesIO(body)).size
        except Image.DecompressionBombError:  # Pillow's own limit, unless it was lifted
            width, height = limit, 2
        wrong = min(width, height) < 64 if true.outcome == "too_small" else width * height > limit
        assert wrong

    await check(of(site, "too_small", "bomb"), judge)


async def test_too_large_bodies_go_on(site: Site, client: ClientSession) -> None:
    """Each sends more than the limit of the recommended settings."""

    async def judge(true: Truth) -> None:
        size = 0
        async with client.get(true.url) as answer:
            async for piece in answer.content.iter_any():
                size += len(piece)
                if size > MAX_BYTES:
                    return
        raise AssertionError(size)

    assert site.env["PIXCRAWLER_FETCH_MAX_BYTES"] == str(MAX_BYTES)
    await check(of(site, "too_large"), judge)


async def test_errors_stay(site: Site, client: ClientSession) -> None:
    """The stated status is the last answer, however often one asks."""

    async def judge(true: Truth) -> None:
        status, _, _ = await patiently(client, true.url)
        assert status == true.http_status >= 400

    await check(of(site, "http_error"), judge)


async def test_silence_and_dripping_never_end(site: Site, client: ClientSession) -> None:
    """Half a second of silence, or a second of dripping, bring no whole body."""

    async def judge(true: Truth) -> None:
        read = 0.5 if true.kind.startswith("hang") else 5
        with pytest.raises(TimeoutError):
            async with client.get(true.url, timeout=ClientTimeout(1, sock_read=read)) as answer:
                await answer.read()

    await check(of(site, "timeout"), judge)


async def test_connections_break(site: Site, client: ClientSession) -> None:
    """Reset, closed, refused, no such name, no TLS: the client gets a connection error."""

    async def judge(true: Truth) -> None:
        with pytest.raises(aiohttp.ClientError):
            await patiently(client, true.url)

    await check(of(site, "network_error"), judge)


async def test_redirects_lead_nowhere(site: Site, client: ClientSession) -> None:
    """A client that follows 10 redirects gives up."""

    async def judge(true: Truth) -> None:
        with pytest.raises(aiohttp.TooManyRedirects):
            await client.get(true.url, max_redirects=10)

    await check(of(site, "redirect"), judge)


async def test_blocked_urls_lead_to_private_addresses(site: Site, client: ClientSession) -> None:
    """By their own address or by a redirect; never to 127.0.0.1, which the settings allow."""

    async def judge(true: Truth) -> None:
        url = true.url
        if true.kind.startswith("redirect"):
            async with client.get(url, allow_redirects=False) as answer:
                url = answer.headers["Location"]
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"}:
            return
        assert parts.hostname is not None
        found = {ip_address(it[4][0]) for it in socket.getaddrinfo(parts.hostname, 80)}
        assert ip_address("127.0.0.1") not in found
        assert all(not (getattr(it, "ipv4_mapped", None) or it).is_global for it in found)

    await check(of(site, "blocked"), judge)


async def test_opting_out_is_told(site: Site, client: ClientSession) -> None:
    """Each is a fine image that says no in a header or in its host's robots.txt."""

    async def judge(true: Truth) -> None:
        async with client.get(true.url) as answer:
            Image.open(BytesIO(await answer.read())).load()
            said = ",".join(answer.headers.getall("X-Robots-Tag", [])).lower()
        parts = urlsplit(true.url)
        async with client.get(f"http://{parts.netloc}/robots.txt") as answer:
            rules = Protego.parse(await answer.text() if answer.status == 200 else "")
        no = any(word in said for word in ("noai", "noimageai", "noindex", "noimageindex"))
        assert no or not rules.can_fetch(true.url, "PixCrawler")

    await check(of(site, "opted_out"), judge)


async def test_others_are_open_to_robots(site: Site, client: ClientSession) -> None:
    """No robots.txt closes anything but what is opted out."""
    rules: dict[str, Protego] = {}
    for one in of(site, "kept", "corrupt", "http_error"):
        netloc = urlsplit(one.url).netloc
        if netloc not in rules:
            async with client.get(f"http://{netloc}/robots.txt") as answer:
                rules[netloc] = Protego.parse(await answer.text() if answer.status == 200 else "")
        assert rules[netloc].can_fetch(one.url, "PixCrawler"), one.url


async def test_trespassers_are_recorded(server: Server) -> None:
    """Whoever connects to a forbidden address is seen, however it is spelled."""
    server.records.forget()
    port = server.web.ports.trespass
    for host in ("127.0.0.2", "0.0.0.0", "2130706434"):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET /x HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert server.records.trespasses == [
        "127.0.0.2 GET /x HTTP/1.1",
        "127.0.0.1 GET /x HTTP/1.1",
        "127.0.0.2 GET /x HTTP/1.1",
    ]


async def test_visits_are_counted(site: Site, server: Server, client: ClientSession) -> None:
    """Hits per URL, most requests at one time per port, user agents; told as JSON, too."""
    server.records.forget()
    slow = next(one for one in site.truth.values() if one.kind == "slow")
    await asyncio.gather(*(patiently(client, slow.url) for _ in range(3)))
    async with client.get(f"{site.address}/_miniweb/state") as answer:
        state = await answer.json()
    assert state["hits"][slow.url] == 3
    assert state["busiest"][str(urlsplit(slow.url).port)] == 3
    assert sum(state["user_agents"].values()) == 3
