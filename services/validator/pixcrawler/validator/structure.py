# ruff: noqa: PLR2004 - offsets, sizes and flags of binary formats
"""How large a picture is and whether its file is all there, told from its structure alone.

Nothing is decoded here, so nothing here can be made to unpack a bomb. (JPEG has a module of its
own: it can only be judged by decoding. So has TIFF.)
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pixcrawler.validator.decision import Damage, Header
from pixcrawler.validator.formats import AVIF, BMP, GIF, PNG, WEBP

CUT = "the file is cut"


@dataclass(frozen=True, slots=True)
class Survey:
    """What a file's structure says.

    Attributes:
        header: Format and size of the picture.
        data: The bytes to decode: the file, or what of it makes the picture.
        canvas: Pixels of the largest frame or of the canvas that they share, whichever is more.
        frames: How many pictures follow one another.
        defect: Why the file is not whole; empty if it is.
        variety: What variety of the format it is that we do not take; empty if we do.
    """

    header: Header
    data: bytes
    canvas: int = 0
    frames: int = 1
    defect: str = ""
    variety: str = ""

    @property
    def pixels(self) -> int:
        """Pixels that decoding any of its frames would make."""
        return max(self.canvas, self.header.pixels)


# --- PNG ----------------------------------------------------------------------------------------

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_PICTURE = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND"})


def png(data: bytes) -> Survey:
    """Every chunk's checksum up to a complete IEND; what follows it is nobody's business.

    Only the chunks that make the (first) picture are kept for decoding: text and colour profiles
    may unpack to any size, and decoders refuse them for that although the picture is fine.
    """
    if data[:8] != _PNG_SIGNATURE or data[12:16] != b"IHDR" or len(data) < 24:
        raise Damage("ends within its header" if len(data) < 24 else "not a PNG header")
    width, height = struct.unpack_from(">II", data, 16)
    header = Header(PNG, width, height)
    kept: list[bytes] = [_PNG_SIGNATURE]
    view = memoryview(data)
    at, name = 8, b""
    while name != b"IEND":
        if at + 12 > len(data):
            return Survey(header, data, defect=CUT)
        size, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + size
        if end > len(data):
            return Survey(header, data, defect=CUT)
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(view[at + 4 : end - 4]) != checksum:
            return Survey(header, data, defect=f"wrong checksum of {name!r}")
        if name in _PNG_PICTURE:
            kept.append(data[at:end])
        at = end
    return Survey(header, b"".join(kept))


_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # Adam7: first column and row, steps
_INFLATE_STEP = 1 << 20


def check_png_rows(picture: bytes) -> None:
    """Whether the picture data of a PNG unpack to all its rows; Pillow does not mind missing ones.

    Args:
        picture: What `png` left of the file.

    Raises:
        Damage: they do not.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack_from(">IIBBBBB", picture, 16)
    if colour not in _SAMPLES or depth not in (1, 2, 4, 8, 16):
        raise Damage("no such kind of PNG")
    bits = depth * _SAMPLES[colour]
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    missing = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            missing += rows * (1 + (columns * bits + 7) // 8)
    inflater = zlib.decompressobj()
    try:
        for body in _picture_data(picture):
            packed = body
            while missing > 0 and packed:
                missing -= len(inflater.decompress(packed, _INFLATE_STEP))
                packed = inflater.unconsumed_tail
    except zlib.error as error:
        raise Damage(str(error)) from error
    if missing > 0:
        raise Damage("rows are missing")


def _picture_data(picture: bytes) -> Iterator[bytes]:
    at = len(_PNG_SIGNATURE)
    while at < len(picture):
        size, name = struct.unpack_from(">I4s", picture, at)
        if name == b"IDAT":
            yield picture[at + 8 : at + 8 + size]
        at += 12 + size


# --- WebP ---------------------------------------------------------------------------------------


def webp(data: bytes) -> Survey:
    """As long as RIFF says; the canvas where there is one, else the first frame."""
    if len(data) < 30:
        raise Damage("ends within its header")
    width, height = _webp_size(data)
    whole = int.from_bytes(data[4:8], "little") + 8 <= len(data)
    return Survey(Header(WEBP, width, height), data, defect="" if whole else CUT)


def _webp_size(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8X":
            width = int.from_bytes(data[24:27], "little") + 1
            return width, int.from_bytes(data[27:30], "little") + 1
        case b"VP8L" if data[20] == 0x2F:
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if data[23:26] == b"\x9d\x01\x2a":
            width, height = struct.unpack_from("<HH", data, 26)
            return width & 0x3FFF, height & 0x3FFF
    raise Damage("not a WebP header")


# --- GIF ----------------------------------------------------------------------------------------

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B


def gif(data: bytes) -> Survey:
    """Every block up to the trailer, frames counted. The first frame may widen the screen."""
    if len(data) < 13:
        raise Damage("ends within its header")
    screen = struct.unpack_from("<HH", data, 6)
    extents, whole = _gif_frames(data, 13 + _colours(data[10]))
    first = extents[0] if extents else (0, 0)
    width, height = max(screen[0], first[0]), max(screen[1], first[1])
    canvas = max([width, *(x for x, _ in extents)]) * max([height, *(y for _, y in extents)])
    defect = "" if whole else CUT
    if whole and not extents:
        defect = "no picture in it"
    return Survey(Header(GIF, width, height), data, canvas, max(len(extents), 1), defect)


def _gif_frames(data: bytes, at: int) -> tuple[list[tuple[int, int]], bool]:
    """How far each frame reaches to the right and down, and whether the trailer was found."""
    extents: list[tuple[int, int]] = []
    while at < len(data):
        block = data[at]
        if block == _TRAILER:
            return extents, True
        if block == _EXTENSION:
            at = _after_blocks(data, at + 2)
        elif block == _IMAGE and at + 10 <= len(data):
            left, top, width, height, flags = struct.unpack_from("<HHHHB", data, at + 1)
            extents.append((left + width, top + height))
            at = _after_blocks(data, at + 11 + _colours(flags))
        elif block == 0:  # an empty block too many, which decoders skip
            at += 1
        else:
            break
    return extents, False


def _colours(flags: int) -> int:
    """Bytes of the colour table that these flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _after_blocks(data: bytes, at: int) -> int:
    """Where a series of data blocks ends (beyond the file where it does not)."""
    end = len(data)
    while at < end:
        size = data[at]
        at += 1 + size
        if size == 0:
            return at
    return end + 1


# --- AVIF ---------------------------------------------------------------------------------------


_AVIF_BOXES = frozenset({b"ftyp", b"meta", b"mdat", b"moov", b"free", b"skip", b"uuid"})


def avif(data: bytes) -> Survey:
    """As long as its boxes say; the largest picture that its properties describe.

    Which of them is the picture, a tile of it or its thumbnail is for the decoder to say; the
    largest is what decoding may cost. A film has its size elsewhere: then it is unknown here.
    """
    found = [box for box in _boxes(data, 0, len(data)) if box.name in _AVIF_BOXES]
    if not any(box.name in (b"meta", b"moov") for box in found):
        raise Damage("ends within its header")
    cut = any(box.end > len(data) for box in found)
    sizes = [size for box in found if box.name == b"meta" for size in _extents(data, box)]
    width, height = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    return Survey(Header(AVIF, width, height), data, defect=CUT if cut else "")


@dataclass(frozen=True, slots=True)
class Box:
    """A box of an ISO base media file: `data[start:end]` is its content; `end` may lie outside."""

    name: bytes
    start: int
    end: int


def _boxes(data: bytes, at: int, end: int) -> Iterator[Box]:
    while at + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1 and at + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            start = at + 16
        stop = end if size == 0 else at + max(size, start - at)
        yield Box(name, start, stop)
        at = stop


def _extents(data: bytes, meta: Box) -> Iterator[tuple[int, int]]:
    """Every `ispe` below meta/iprp/ipco. `meta` has four bytes of version before its boxes."""
    for iprp in _inside(data, meta, b"iprp", skip=4):
        for ipco in _inside(data, iprp, b"ipco"):
            for ispe in _inside(data, ipco, b"ispe"):
                if ispe.start + 12 <= len(data):
                    width, height = struct.unpack_from(">II", data, ispe.start + 4)
                    yield width, height


def _inside(data: bytes, box: Box, name: bytes, skip: int = 0) -> Iterator[Box]:
    end = min(box.end, len(data))
    return (found for found in _boxes(data, box.start + skip, end) if found.name == name)


# --- BMP ----------------------------------------------------------------------------------------

_UNCOMPRESSED = frozenset({0, 3, 6})


def bmp(data: bytes) -> Survey:
    """All rows there, where they are not compressed; a compressed one only decoding can tell."""
    if len(data) < 26:
        raise Damage("ends within its header")
    offset, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    elif len(data) < 34:
        raise Damage("ends within its header")
    else:
        width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
        width, height = abs(width), abs(height)
    rows = (width * depth + 31) // 32 * 4 * height
    cut = compression in _UNCOMPRESSED and offset + rows > len(data)
    return Survey(Header(BMP, width, height), data, defect=CUT if cut else "")


READERS: dict[str, Callable[[bytes], Survey]] = {
    PNG: png,
    WEBP: webp,
    GIF: gif,
    AVIF: avif,
    BMP: bmp,
}
