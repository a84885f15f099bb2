"""Every kind of page that the miniature web has, and the outcome that each must come to.

The outcomes are those of the project's table of outcomes; this file is where the miniature web
says which of them is right, by itself, without asking the product.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pixcrawler.miniweb import addresses, files, images, network
from pixcrawler.miniweb.images import Make
from pixcrawler.miniweb.replies import RetryLater

Later = RetryLater


@dataclass(frozen=True, slots=True)
class Kind:
    """How to make one page of it, or the pages of one group; and what becomes of them."""

    outcome: str
    make: Make
    group: bool = False


def _of(outcome: str, **makes: Make) -> dict[str, Kind]:
    return {name.replace("_", "-"): Kind(outcome, make) for name, make in makes.items()}


def _groups(**makes: Make) -> dict[str, Kind]:
    return {name.replace("_", "-"): Kind("kept", make, group=True) for name, make in makes.items()}


GOOD = _of("kept", photo=images.photo)

FORMATS = _of(
    "kept",
    png=images.form("png", files.png),
    png_palette=images.form("png", files.palette_png),
    webp=images.form("webp", files.webp),
    webp_lossless=images.form("webp", files.lossless_webp),
    gif=images.form("gif", files.gif),
    gif_animated=images.form("gif", files.animated_gif),
    avif=images.form("avif", files.avif),
    bmp=images.form("bmp", files.bmp),
    tiff=images.form("tiff", files.tiff),
    cmyk=images.form("jpeg", files.cmyk_jpeg),
    exif_rotated=images.form("jpeg", files.rotated_jpeg, upright=False),
    smallest=images.edge(64),
    type_html=images.served_as("text/html", ".jpg"),
    type_binary=images.served_as("application/octet-stream", ".jpg"),
    type_png=images.served_as("image/png", ".png"),
    type_missing=images.served_as(None, ""),
    named_php=images.served_as("image/jpeg", ".php"),
    gzip_encoded=images.packed,
    chunked=images.chunked,
)

RECOVERING = _of(
    "kept",
    status_503_twice=network.recovering(network.error(503), network.error(503)),
    status_500_once=network.recovering(network.error(500)),
    status_502_504=network.recovering(network.error(502), network.error(504)),
    status_408_once=network.recovering(network.error(408)),
    status_425_once=network.recovering(network.error(425)),
    status_429_once=network.recovering(Later(429, 1)),
    status_429_date=network.recovering(Later(429, 1, as_date=True)),
    status_503_later=network.recovering(Later(503, 1)),
    reset_once=network.recovering(network.reset_midway(bytes(5000)), faulty=True),
    closed_once=network.recovering(network.closed_midway(bytes(5000)), faulty=True),
    silent_once=network.recovering(network.silent(b""), faulty=True),
    slow=network.slow,
    redirect_302=network.redirected(1, 302),
    redirect_301_chain=network.redirected(3, 301),
    redirect_307=network.redirected(1, 307),
    redirect_308=network.redirected(1, 308),
    redirect_relative=network.redirected_relatively,
    robots_tag_other_bot=network.tagged_for_others("otherbot: noindex, noai"),
    robots_tag_harmless=network.tagged_for_others("nofollow, max-image-preview: large"),
)

HTTP_ERROR = _of(
    "http_error",
    status_400=network.failing(400),
    status_401=network.failing(401),
    status_403=network.failing(403),
    status_404=network.failing(404),
    status_404_image=network.failing(404, with_image=True),
    status_410=network.failing(410),
    status_451=network.failing(451),
    status_408_always=network.failing(408),
    status_429_always=network.always_later(429),
    status_500=network.failing(500),
    status_503=network.failing(503),
    redirect_to_404=network.redirect_to_missing,
)

TIMEOUT = _of(
    "timeout",
    hang=network.broken(network.silent),
    hang_midway=network.broken(network.silent_midway),
    drip=network.broken(network.dripping),
)

NETWORK_ERROR = _of(
    "network_error",
    reset=network.broken(network.reset_midway),
    reset_at_once=network.broken(network.reset_at_once),
    closed_midway=network.broken(network.closed_midway),
    refused=network.refused,
    unresolvable=network.unresolvable,
    not_tls=network.not_tls,
)

REDIRECT = _of(
    "redirect",
    redirect_loop=network.loop,
    redirect_self=network.self_loop,
    redirect_many=network.too_many,
)

BLOCKED = _of(
    "blocked",
    private=addresses.private,
    private_name=addresses.named,
    scheme=addresses.scheme,
    redirect_private=network.redirect_to(addresses.behind),
    redirect_metadata=network.redirect_to(addresses.metadata),
    redirect_file=network.redirect_to(addresses.local_file),
    redirect_ftp=network.redirect_to(addresses.ftp),
    redirect_data=network.redirect_to(addresses.inline),
)

OPTED_OUT = _of(
    "opted_out",
    noai=network.tagged("noai"),
    noimageai=network.tagged("noimageai"),
    noindex=network.tagged("noindex"),
    noimageindex=network.tagged("noimageindex"),
    noai_in_list=network.tagged("noarchive, NoAI, noimageai"),
    noai_second_header=network.tagged("noarchive", "noai"),
    noai_by_name=network.tagged("PixCrawler: noai"),
    robots_txt=network.disallowed(network.MEMBERS, 1),
    robots_txt_by_name=network.disallowed(network.NO_ROBOTS, 2),
)

CORRUPT = _of(
    "corrupt",
    jpeg_cut_30=images.damaged(files.jpeg, lambda data: files.cut(data, 30)),
    jpeg_cut_60=images.damaged(files.jpeg, lambda data: files.cut(data, 60)),
    jpeg_cut_90=images.damaged(files.jpeg, lambda data: files.cut(data, 90)),
    jpeg_cut_99=images.damaged(files.jpeg, lambda data: files.cut(data, 99)),
    jpeg_cut_at_start=images.damaged(files.jpeg, lambda data: data[:64]),
    jpeg_without_end=images.damaged(files.jpeg, files.without_end),
    jpeg_cut_and_closed=images.damaged(files.jpeg, lambda data: files.cut_and_closed(data, 60)),
    jpeg_hole=images.hole(4096),
    jpeg_small_hole=images.hole(512),
    jpeg_ruin_twice=images.twin_ruins,
    png_cut=images.damaged(files.png, lambda data: files.cut(data, 60), "png"),
    png_without_end=images.damaged(files.png, lambda data: data[:-12], "png"),
    png_flipped=images.damaged(files.png, files.flipped, "png"),
    webp_cut=images.damaged(files.webp, lambda data: files.cut(data, 60), "webp"),
    webp_cut_99=images.damaged(files.webp, lambda data: files.cut(data, 99), "webp"),
    gif_cut=images.damaged(files.gif, lambda data: files.cut(data, 60), "gif"),
    avif_cut=images.damaged(files.avif, lambda data: files.cut(data, 60), "avif"),
    bmp_cut=images.damaged(files.bmp, lambda data: files.cut(data, 60), "bmp"),
    tiff_cut=images.damaged(files.tiff, lambda data: files.cut(data, 60), "tiff"),
)

NOT_IMAGE = _of(
    "not_image",
    html_as_jpeg=images.body("image/jpeg", images.html),
    html=images.body("text/html", images.html),
    json=images.body("application/json", images.text),
    empty=images.body("image/jpeg", lambda _forge: b""),
    noise=images.body("image/jpeg", images.from_chance(lambda rng: files.noise(rng, 8192))),
    svg=images.body("image/svg+xml", lambda _forge: files.svg(), ".svg"),
    pdf=images.body("image/jpeg", lambda _forge: files.pdf()),
    movie=images.body("video/mp4", images.from_chance(files.movie), ".mp4"),
)

UNSUPPORTED = _of(
    "unsupported",
    jpeg2000=images.body("image/jp2", images.from_image(files.jpeg2000), ".jp2"),
    icon=images.body("image/x-icon", images.from_image(files.icon), ".ico"),
    ppm=images.body("image/x-portable-pixmap", images.from_image(files.ppm), ".ppm"),
    photoshop=images.body("image/vnd.adobe.photoshop", images.from_image(files.photoshop), ".psd"),
    heic=images.body("image/heic", images.from_chance(files.heic), ".heic"),
)

TOO_SMALL = _of(
    "too_small",
    tiny=images.body("image/png", images.tiny(16, 16, files.png), ".png"),
    pixel=images.body("image/gif", images.tiny(1, 1, files.gif), ".gif"),
    strip=images.body("image/jpeg", images.tiny(400, 40, files.jpeg)),
    almost=images.body("image/jpeg", images.tiny(63, 200, files.jpeg)),
)

BOMB = _of(
    "bomb",
    png_bomb=images.body("image/png", lambda _forge: files.png_bomb(14_000), ".png"),
    jpeg_bomb=images.body(
        "image/jpeg", images.from_image(lambda image: files.jpeg_bomb(files.jpeg(image)))
    ),
)

TOO_LARGE = _of(
    "too_large",
    endless=images.endless,
    gzip_bomb=images.gzip_bomb,
    announced=images.announced(3_000_000),
)

GROUPS = _groups(
    equal_pair=images.equal(2),
    equal_triple=images.equal(3),
    poor_copy=images.alike(("jpeg", files.jpeg), ("jpeg", images.poor)),
    smaller_copy=images.alike(("jpeg", files.jpeg), ("jpeg", images.resized(0.75))),
    larger_copy=images.alike(("jpeg", files.jpeg), ("jpeg", images.resized(1.5))),
    webp_copy=images.alike(("jpeg", files.jpeg), ("webp", files.webp)),
    png_copy=images.alike(("jpeg", files.jpeg), ("png", files.png)),
    rotated_copy=images.alike(("jpeg", files.jpeg), ("jpeg", files.rotated_jpeg)),
    cmyk_copy=images.alike(("jpeg", files.jpeg), ("jpeg", files.cmyk_jpeg)),
    mixed=images.alike(
        ("jpeg", files.jpeg), ("jpeg", files.jpeg), ("jpeg", images.poor), ("png", files.png)
    ),
)

KINDS: Mapping[str, Kind] = MappingProxyType(
    GOOD
    | FORMATS
    | RECOVERING
    | HTTP_ERROR
    | TIMEOUT
    | NETWORK_ERROR
    | REDIRECT
    | BLOCKED
    | OPTED_OUT
    | CORRUPT
    | NOT_IMAGE
    | UNSUPPORTED
    | TOO_SMALL
    | BOMB
    | TOO_LARGE
    | GROUPS
)
