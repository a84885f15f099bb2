"""Image files for the validator's tests: real photographs, and files made odd on purpose."""

import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO

import imagehash
from PIL import Image, ImageOps

from pixcrawler.miniweb import files
from pixcrawler.miniweb.photos import Photos, cut, names

CROPS = ((520, 416, 280), (700, 560, 380), (900, 720, 480))
"""Width, height and step, in px, of crops large enough to be decoded at a reduced scale."""

ENCODERS: dict[str, Callable[[Image.Image], bytes]] = {
    "jpeg": files.jpeg,
    "rotated jpeg": files.rotated_jpeg,
    "cmyk jpeg": files.cmyk_jpeg,
    "png": files.png,
    "palette png": files.palette_png,
    "webp": files.webp,
    "lossless webp": files.lossless_webp,
    "gif": files.gif,
    "animated gif": files.animated_gif,
    "avif": files.avif,
    "bmp": files.bmp,
    "tiff": files.tiff,
}


@lru_cache(maxsize=1)
def photographs() -> tuple[bytes, ...]:
    """500 real photographs, JPEGs in the styles that the web is full of."""
    photos = Photos.load()
    return tuple(photos.jpeg(index) for index in range(500))


@lru_cache(maxsize=1)
def large_photographs() -> tuple[bytes, ...]:
    """Some hundred photographs of 400 to 900 px a side, in several styles."""
    made: list[bytes] = []
    for name in names():
        width, height = _size(name)
        for wide, high, step in CROPS:
            for top in range(0, height - high + 1, step):
                for left in range(0, width - wide + 1, step):
                    box = (left, top, left + wide, top + high)
                    made.append(_styled(cut(name, box, (wide, high)), len(made)))
    return tuple(made)


@lru_cache(maxsize=8)
def photograph(index: int = 7) -> Image.Image:
    """The pixels of one photograph."""
    return Photos.load().image(index)


def full_size_hash(data: bytes) -> int:
    """`imagehash.phash` of the upright image as Pillow decodes it at its full size."""
    with Image.open(BytesIO(data)) as image:
        return int(str(imagehash.phash(ImageOps.exif_transpose(image))), 16)


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """The image as a file."""
    out = BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_png_chunk(data: bytes, name: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    return data[:33] + png_chunk(name, body) + data[33:]


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with one more segment after its start."""
    return data[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body + data[2:]


def gif_of_many_frames(frames: int, side: int = 64) -> bytes:
    """A GIF whose frames are one pixel each, twenty bytes a frame."""
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(3) + b"\xff" * 3
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    return head + frame * frames + b";"


def _size(name: str) -> tuple[int, int]:
    from pixcrawler.miniweb.photos import FOLDER

    with Image.open(FOLDER / f"{name}.jpg") as image:
        return image.size


def _styled(image: Image.Image, number: int) -> bytes:
    return saved(
        image,
        "JPEG",
        quality=(92, 85, 75)[number % 3],
        subsampling=(2, 0, 1)[number % 3],
        progressive=number % 5 == 0,
    )
