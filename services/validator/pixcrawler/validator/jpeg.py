# ruff: noqa: PLR2004 - offsets, sizes and flags of binary formats
"""JPEG: header, strict damage check and a small gray picture, from one decode.

libjpeg-turbo's strict mode (through simplejpeg) finds every cut, a missing end, and most damage
inside. It is stricter than browsers where nothing of the picture is lost, so its messages are told
apart (texts: libjpeg-turbo's `jerror.h`). It reports only its first complaint; where that one is
harmless, the cause is taken out of the way and the file is decoded again.

A JPEG has no checksum: damage that decodes without complaint is not found by anyone.
"""

import contextlib
import re
from dataclasses import dataclass
from io import BytesIO

import simplejpeg
from PIL import Image, JpegImagePlugin

from pixcrawler.validator.decision import Damage, Header, Unreadable
from pixcrawler.validator.formats import JPEG

HASHED_SIDE = 256
"""A picture is decoded no smaller than this many pixels a side: enough for a 32 by 32 px hash."""

SCANS = 500
"""Scans followed at most, libjpeg-turbo's own bound for progressive bombs; real files have ten."""

PADDING = 8
"""Bytes left over before the end marker that count as padding. Damage inside leaves more behind:
in 1,000 photographs with a hole, never fewer than nine."""

_SOS, _EOI = 0xDA, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_DECODED_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
_APPLICATION = frozenset(range(0xE0, 0xF0)) | {0xFE}
_EXIF, _ADOBE = 0xE1, 0xEE
_BARE = frozenset(range(0xD0, 0xD8)) | {0x01}

_HARMLESS = re.compile(
    r"unknown JFIF revision|Unknown Adobe color transform|bad ICC marker"
    r"|Invalid SOS parameters for sequential"
)
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]+)")
_NOT_OURS = re.compile(r"Unsupported|Could not determine subsampling|not supported|not implemented")


@dataclass(frozen=True, slots=True)
class Segment:
    """A marker segment before the picture's data: `data[start:end]`, marker included."""

    marker: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What the frame header says: which process, bits a sample, size, how many components."""

    marker: int
    precision: int
    height: int
    width: int
    components: int


@dataclass(frozen=True, slots=True)
class Jpeg:
    """A JPEG whose header was read: everything up to its first scan."""

    data: bytes
    segments: tuple[Segment, ...]
    frame: Frame

    @property
    def header(self) -> Header:
        """Format and size."""
        return Header(JPEG, self.frame.width, self.frame.height)

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.header.pixels


def parse(data: bytes) -> Jpeg:
    """Read the header; thumbnails inside its segments do not count.

    Raises:
        Damage: it ends, or makes no sense, before the first scan.
    """
    segments = _segments(data)
    frames = [segment for segment in segments if segment.marker in _FRAMES]
    if not frames:
        raise Damage("no frame header before the picture's data")
    first = frames[0]
    body = data[first.start + 4 : first.end]
    if len(body) < 6:
        raise Damage("frame header too short")
    frame = Frame(
        marker=first.marker,
        precision=body[0],
        height=int.from_bytes(body[1:3], "big"),
        width=int.from_bytes(body[3:5], "big"),
        components=body[5],
    )
    return Jpeg(data, segments, frame)


def picture(jpeg: Jpeg) -> Image.Image:
    """The picture, gray, upright or not as stored, `HASHED_SIDE` px a side or more if it has them.

    Raises:
        Damage: the file is cut or damaged.
        Unreadable: it is whole, but no baseline or progressive JPEG of 8 bits.
    """
    frame = jpeg.frame
    if frame.marker not in _DECODED_FRAMES or frame.precision != 8:
        raise Unreadable(f"JPEG process {frame.marker - 0xC0}, {frame.precision} bits a sample")
    if jpeg.data.count(b"\xff\xda") > SCANS:
        raise Damage(f"more than {SCANS} scans")
    return _inked(jpeg) if frame.components == 4 else _gray(jpeg)


def exif(jpeg: Jpeg) -> Image.Exif:
    """The EXIF block of the header, empty where there is none or it cannot be read."""
    block = Image.Exif()
    for segment in jpeg.segments:
        body = jpeg.data[segment.start + 4 : segment.end]
        if segment.marker == _EXIF and body.startswith(b"Exif\0\0"):
            with contextlib.suppress(Exception):  # a broken one is as good as none
                block.load(body)
            break
    return block


def _gray(jpeg: Jpeg) -> Image.Image:
    try:
        return _decode(jpeg.data, "GRAY", HASHED_SIDE, strict=True)
    except ValueError as error:
        complaint = str(error)
    if _NOT_OURS.search(complaint):
        return _by_pillow(jpeg.data)
    forgiven = _forgiven(jpeg, complaint, "GRAY")
    return _decode(forgiven, "GRAY", HASHED_SIDE, strict=False)


def _inked(jpeg: Jpeg) -> Image.Image:
    """Four inks: the strict decoder looks for damage, Pillow knows whose inks are inverted."""
    try:
        _decode(jpeg.data, "CMYK", 1, strict=True)
    except ValueError as error:
        if not _NOT_OURS.search(str(error)):
            _forgiven(jpeg, str(error), "CMYK")
    return _by_pillow(jpeg.data)


def _decode(data: bytes, space: str, side: int, *, strict: bool) -> Image.Image:
    """The picture with at least `side` px a side.

    A scale below 2 is not asked for: 5/8, 6/8 and 7/8 save no time and move the hash further.
    """
    pixels = simplejpeg.decode_jpeg(
        data, space, min_height=side, min_width=side, min_factor=2, strict=strict
    )
    return Image.fromarray(pixels[:, :, 0] if space == "GRAY" else pixels, None)


def _by_pillow(data: bytes) -> Image.Image:
    """The picture by Pillow, at a reduced scale where it can be.

    Raises:
        Damage: Pillow cannot decode it either.
    """
    try:
        with JpegImagePlugin.JpegImageFile(BytesIO(data)) as image:
            image.draft("L", (HASHED_SIDE, HASHED_SIDE))
            return image.convert("L")
    except Exception as error:
        raise Damage(str(error) or type(error).__name__) from error


def _forgiven(jpeg: Jpeg, complaint: str, space: str) -> bytes:
    """What to decode after a complaint about something of which the picture loses nothing.

    The decoder stops talking after its first complaint, so what it did not come to say has to be
    asked again, of a copy without the cause. (Of a complaint about the header it makes an error
    even where it is not strict, so it is the copy that is decoded.)

    Raises:
        Damage: the complaint, or the next one, is about damage.
    """
    if _is_padding(complaint):
        return jpeg.data
    if not _HARMLESS.search(complaint) and not (_LEFT_OVER.search(complaint) and _gaps(jpeg)):
        raise Damage(complaint)
    bare = _bare(jpeg, without_adobe="Adobe" in complaint)
    try:
        _decode(bare, space, 1, strict=True)
    except ValueError as error:
        if not _is_padding(str(error)) and not _HARMLESS.search(str(error)):
            raise Damage(str(error)) from error
    return bare


def _is_padding(complaint: str) -> bool:
    """Whether it is about a few bytes before the end marker; nothing can follow that."""
    found = _LEFT_OVER.search(complaint)
    return found is not None and int(found[2], 16) == _EOI and int(found[1]) <= PADDING


def _gaps(jpeg: Jpeg) -> bool:
    """Whether anything stands between the segments of the header."""
    starts = [segment.start for segment in jpeg.segments]
    ends = [2, *(segment.end for segment in jpeg.segments)]
    return any(start != end for start, end in zip(starts, ends, strict=False))


def _bare(jpeg: Jpeg, *, without_adobe: bool) -> bytes:
    """The same picture without whatever stands between segments and without application data.

    Adobe's segment says how colours are stored, so it stays if it can be understood. The spectral
    selection of a sequential scan, which some cameras write wrongly and every decoder ignores, is
    put right.
    """
    data = jpeg.data
    dropped = _APPLICATION if without_adobe else _APPLICATION - {_ADOBE}
    kept = [
        data[segment.start : segment.end]
        for segment in jpeg.segments
        if segment.marker not in dropped
    ]
    if jpeg.frame.marker in (0xC0, 0xC1, 0xC9) and kept:
        kept[-1] = kept[-1][:-3] + b"\x00\x3f\x00"
    return b"".join([b"\xff\xd8", *kept, data[jpeg.segments[-1].end :]])


def _segments(data: bytes) -> tuple[Segment, ...]:
    """The segments up to and including the first scan's header.

    Raises:
        Damage: the file ends before it.
    """
    found: list[Segment] = []
    at = 2
    while True:
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            raise Damage("ends within its header")
        marker = data[at + 1]
        if marker in (0x00, 0xFF):  # a stuffed byte, or a fill byte before a marker
            at += 1
            continue
        if marker == _EOI:
            raise Damage("ends before any picture data")
        size = 0 if marker in _BARE else int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + size
        if end > len(data):
            raise Damage("ends within its header")
        found.append(Segment(marker, at, end))
        if marker == _SOS:
            return tuple(found)
        at = end
