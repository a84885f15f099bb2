"""Kinds of pages that differ in their bytes: formats, damage, impostors, bombs, equal images."""

import gzip
import json
import random
from collections.abc import Callable

import simplejpeg
from PIL import Image

from pixcrawler.miniweb import files
from pixcrawler.miniweb.pages import Forge, Page, Picture
from pixcrawler.miniweb.replies import Answer, Endless

Encoder = Callable[[Image.Image], bytes]
Make = Callable[[Forge], list[Page]]

TYPES = {
    "jpeg": ("image/jpeg", ".jpg"),
    "png": ("image/png", ".png"),
    "webp": ("image/webp", ".webp"),
    "gif": ("image/gif", ".gif"),
    "avif": ("image/avif", ".avif"),
    "bmp": ("image/bmp", ".bmp"),
    "tiff": ("image/tiff", ".tiff"),
}


# --- images that are fine -----------------------------------------------------------------------


def photo(forge: Forge) -> list[Page]:
    """A photograph, served as it should be."""
    picture = forge.photo()
    return [Page(forge.place(Answer(picture.data)), picture)]


def form(name: str, encoder: Encoder, *, upright: bool = True) -> Make:
    """A photograph in another format; `upright` False: which side is the width depends."""

    def make(forge: Forge) -> list[Page]:
        picture = _in_format(forge, name, encoder, upright=upright)
        content_type, suffix = TYPES[name]
        return [Page(forge.place(Answer(picture.data, content_type), suffix=suffix), picture)]

    return make


def served_as(content_type: str | None, suffix: str) -> Make:
    """A fine JPEG under a wrong content type or name."""

    def make(forge: Forge) -> list[Page]:
        picture = forge.photo()
        return [Page(forge.place(Answer(picture.data, content_type), suffix=suffix), picture)]

    return make


def packed(forge: Forge) -> list[Page]:
    """A fine JPEG behind `Content-Encoding: gzip`; the image is what comes out of it."""
    picture = forge.photo()
    body = gzip.compress(picture.data, mtime=0)
    return [Page(forge.place(Answer(body, headers=(("Content-Encoding", "gzip"),))), picture)]


def chunked(forge: Forge) -> list[Page]:
    """A fine JPEG whose length nobody announces."""
    picture = forge.photo()
    return [Page(forge.place(Answer(picture.data, chunked=True)), picture)]


def edge(side: int) -> Make:
    """A PNG of exactly `side` by `side` px."""

    def make(forge: Forge) -> list[Page]:
        picture = _in_format(forge, "png", lambda image: files.png(image.resize((side, side))))
        return [Page(forge.place(Answer(picture.data, "image/png"), suffix=".png"), picture)]

    return make


def _in_format(forge: Forge, name: str, encoder: Encoder, *, upright: bool = True) -> Picture:
    index, (data,) = forge.encoded(encoder)
    return _picture(forge, name, data, index, upright=upright)


def _picture(forge: Forge, name: str, data: bytes, index: int, *, upright: bool = True) -> Picture:
    width, height = files.size(data) if upright else (0, 0)
    return Picture(data, name, width, height, forge.tiles.photos.tiles[index].phash)


# --- damage -------------------------------------------------------------------------------------


def damaged(encoder: Encoder, damage: Callable[[bytes], bytes], name: str = "jpeg") -> Make:
    """A photograph in a format, then damaged."""
    content_type, suffix = TYPES[name]

    def make(forge: Forge) -> list[Page]:
        body = damage(encoder(forge.any_image()))
        return [Page(forge.place(Answer(body, content_type), suffix=suffix))]

    return make


def hole(size: int) -> Make:
    """A JPEG with `size` zero bytes where the strict decoder notices them.

    A JPEG has no checksum, so of some holes no decoder can know.
    """

    def make(forge: Forge) -> list[Page]:
        while True:
            body = files.with_hole(forge.any_jpeg(), size)
            if not decodes_strictly(body):
                return [Page(forge.place(Answer(body)))]

    return make


def twin_ruins(forge: Forge) -> list[Page]:
    """The same cut JPEG twice: equal bytes, but of a file that is not kept."""
    answer = Answer(files.cut(forge.any_jpeg(), 70))
    return [Page(forge.place(answer)), Page(forge.place(answer))]


def decodes_strictly(data: bytes) -> bool:
    """Whether libjpeg-turbo reads the JPEG to its end without a complaint."""
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", strict=True)
    except ValueError:
        return False
    return True


# --- impostors and strangers --------------------------------------------------------------------


def body(content_type: str, make_body: Callable[[Forge], bytes], suffix: str = ".jpg") -> Make:
    """Whatever bytes, as whatever type."""

    def make(forge: Forge) -> list[Page]:
        return [Page(forge.place(Answer(make_body(forge), content_type), suffix=suffix))]

    return make


def html(forge: Forge) -> bytes:
    """A host's excuse."""
    return files.html(forge.name())


def text(forge: Forge) -> bytes:
    """An error told in JSON, with status 200."""
    return json.dumps({"error": "not found", "id": forge.name()}).encode()


def from_chance(make_body: Callable[[random.Random], bytes]) -> Callable[[Forge], bytes]:
    """Bytes that depend on nothing but chance."""
    return lambda forge: make_body(forge.rng)


def from_image(make_body: Encoder) -> Callable[[Forge], bytes]:
    """Some photograph as another kind of file."""
    return lambda forge: make_body(forge.any_image())


def tiny(width: int, height: int, encoder: Encoder) -> Callable[[Forge], bytes]:
    """An image with a side shorter than 64 px."""
    return lambda forge: encoder(forge.any_image().resize((width, height)))


# --- too much -----------------------------------------------------------------------------------


def endless(forge: Forge) -> list[Page]:
    """A body without end."""
    return [Page(forge.place(Endless()))]


def gzip_bomb(forge: Forge) -> list[Page]:
    """A few kB that unpack to megabytes, again and again."""
    return [Page(forge.place(Endless(packed=True)))]


def announced(size: int) -> Make:
    """An image file that says beforehand that it has `size` bytes, and has."""

    def make(forge: Forge) -> list[Page]:
        start = forge.any_jpeg()
        return [Page(forge.place(Answer(start + bytes(size - len(start)))))]

    return make


# --- equal and nearly equal images --------------------------------------------------------------


def equal(count: int) -> Make:
    """The same photograph under several URLs."""

    def make(forge: Forge) -> list[Page]:
        picture = forge.photo()
        return [Page(forge.place(Answer(picture.data)), picture) for _ in range(count)]

    return make


def alike(*variants: tuple[str, Encoder]) -> Make:
    """One photograph, encoded or sized in several ways, each under a URL of its own."""

    def make(forge: Forge) -> list[Page]:
        index, made = forge.encoded(*(encoder for _, encoder in variants))
        pictures = [
            _picture(forge, name, data, index, upright=False)
            for (name, _), data in zip(variants, made, strict=True)
        ]
        return [
            Page(forge.place(Answer(it.data, TYPES[it.format][0]), suffix=TYPES[it.format][1]), it)
            for it in pictures
        ]

    return make


def resized(factor: float) -> Encoder:
    """A JPEG of the photograph at `factor` of its size."""
    return lambda image: files.jpeg(files.shrunk(image, factor))


def poor(image: Image.Image) -> bytes:
    """A JPEG of low quality."""
    return files.jpeg(image, quality=60)
