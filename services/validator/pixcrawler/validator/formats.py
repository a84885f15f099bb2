# ruff: noqa: PLR2004 - offsets, sizes and flags of binary formats
"""What a file is, from its content alone: names and headers of the web lie.

`sniff` looks at magic numbers, and where a magic number is short also at the fields after it, so
that text and chance are not taken for an image.
"""

import re
import struct
from dataclasses import dataclass

JPEG, PNG, WEBP, GIF, AVIF, BMP, TIFF = "jpeg", "png", "webp", "gif", "avif", "bmp", "tiff"

TAKEN = frozenset({JPEG, PNG, WEBP, GIF, AVIF, BMP, TIFF})
"""The formats that datasets are made of."""

_BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG", PNG),
    (b"GIF8", GIF),
    (b"\x00\x00\x00\x0cJXL ", "jpeg-xl"),
    (b"\x00\x00\x00\x0cjP  ", "jpeg-2000"),
    (b"\xff\x4f\xff\x51", "jpeg-2000"),  # a bare codestream
    (b"II\xbc\x01", "jpeg-xr"),
    (b"FUJIFILMCCD-RAW", "raw"),
    (b"II\x1a\x00\x00\x00HEAPCCDR", "raw"),
    (b"IIRO", "raw"),
    (b"IIRS", "raw"),
    (b"MMOR", "raw"),
    (b"IIU\x00", "raw"),
    (b"FOVb", "raw"),
    (b"8BPS", "psd"),
    (b"icns", "icns"),
    (b"\x76\x2f\x31\x01", "exr"),
    (b"#?RADIANCE", "hdr"),
    (b"#?RGBE", "hdr"),
    (b"DDS \x7c\x00\x00\x00", "dds"),
    (b"\xabKTX ", "ktx"),
    (b"gimp xcf", "xcf"),
    (b"FLIF", "flif"),
    (b"BPG\xfb", "bpg"),
    (b"\x8aMNG\r\n\x1a\n", "mng"),
    (b"\x8bJNG\r\n\x1a\n", "jng"),
    (b"SIMPLE  =", "fits"),
    (b"SDPX", "dpx"),
    (b"XPDS", "dpx"),
    (b"\x80\x2a\x5f\xd7", "cineon"),
    (b"\x59\xa6\x6a\x95", "sun-raster"),
    (b"AT&TFORM", "djvu"),
    (b"/* XPM */", "xpm"),
)
"""Magic numbers of four bytes or more, and JPEG's three: they need no second look."""

_HEIF_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_TGA_TYPES = frozenset({1, 2, 3, 9, 10, 11})
_PNM = re.compile(rb"P[1-6]\s+(?:#[^\n]*\n\s*)*\d+\s+(?:#[^\n]*\n\s*)*\d+\s")
_PAM = re.compile(rb"P7\n(?:#[^\n]*\n)*(?:WIDTH|HEIGHT|DEPTH|MAXVAL|TUPLTYPE) ")
_PFM = re.compile(rb"P[Ff]\s+\d+\s+\d+\s+-?[\d.]+\s")
_XBM = re.compile(
    rb"(?:/\*.*?\*/)?\s*#define\s+\w*_?width\s+\d+\s+#define\s+\w*_?height\s+\d+\s", re.DOTALL
)
_TEXT_HEAD = 512


@dataclass(frozen=True, slots=True)
class Kind:
    """A raster format: its name in lower case, and whether we take it."""

    name: str

    @property
    def taken(self) -> bool:
        """Whether images of this format may be kept."""
        return self.name in TAKEN


def sniff(data: bytes) -> Kind | None:
    """The raster format that the bytes begin as; None where they begin as no raster image does.

    A file that was cut after its first few bytes still begins as what it was.
    """
    name = _beginning(data) or _container(data) or _short_magic(data) or _written_out(data)
    return Kind(name) if name else None


def _beginning(data: bytes) -> str:
    for magic, name in _BEGINNINGS:
        if data.startswith(magic):
            return name
    return JPEG if data == b"\xff\xd8" else ""


def _container(data: bytes) -> str:
    """Formats whose name stands after a length: RIFF, ISO base media files, IFF."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    if data[:4] == b"FORM" and data[8:12] in (b"ILBM", b"PBM "):
        return "ilbm"
    if data[4:8] == b"ftyp":
        return _brand(data)
    return ""


def _brand(data: bytes) -> str:
    size = max(16, min(int.from_bytes(data[:4], "big"), 4096))
    box = data[8:size]
    brands = {box[:4]} | {box[at : at + 4] for at in range(8, len(box), 4)}
    if brands & {b"avif", b"avis"}:
        return AVIF
    if b"crx " in brands:
        return "raw"
    return "heic" if brands & _HEIF_BRANDS else ""


def _short_magic(data: bytes) -> str:
    """Formats whose magic number is so short that the header has to agree with it."""
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "raw" if data[8:10] == b"CR" else TIFF
    if _is_bmp(data):
        return BMP
    if data[:2] == b"\xff\x0a" and len(data) > 2:
        return "jpeg-xl"
    if data[:4] == b"qoif" and len(data) >= 14 and data[12] in (3, 4) and data[13] in (0, 1):
        return "qoi"
    return _older(data)


def _older(data: bytes) -> str:
    if _is_icon(data):
        return "ico"
    if _is_pcx(data):
        return "pcx"
    if data[:2] == b"\x01\xda" and data[2:3] in (b"\0", b"\1") and data[3:4] in (b"\1", b"\2"):
        return "sgi"
    if data[128:132] == b"DICM":
        return "dicom"
    return "tga" if _is_tga(data) else ""


def _written_out(data: bytes) -> str:
    """Formats whose header is text."""
    head = data[:_TEXT_HEAD]
    if any(pattern.match(head) for pattern in (_PNM, _PAM, _PFM)):
        return "pnm"
    return "xbm" if _XBM.match(head) else ""


def _is_bmp(data: bytes) -> bool:
    """`BM`, and then the header of one of the versions of the format (or nothing more)."""
    if data[:2] != b"BM":
        return False
    if len(data) < 18:
        return data[6:10] == bytes(len(data[6:10])) and len(data) >= 10
    return int.from_bytes(data[14:18], "little") in _BMP_HEADERS


def _is_icon(data: bytes) -> bool:
    """An icon or a cursor: at least one entry, and the entry's reserved byte is zero."""
    if len(data) < 22 or data[:2] != b"\0\0" or data[2:4] not in (b"\1\0", b"\2\0"):
        return False
    count, offset = int.from_bytes(data[4:6], "little"), int.from_bytes(data[18:22], "little")
    return 0 < count < 256 and data[9] == 0 and offset >= 6 + 16 * count


def _is_pcx(data: bytes) -> bool:
    return (
        len(data) >= 128
        and data[0] == 10
        and data[1] in (0, 2, 3, 4, 5)
        and data[2] == 1
        and data[3] in (1, 2, 4, 8)
        and data[64] == 0
        and data[65] in (1, 3, 4)
    )


def _is_tga(data: bytes) -> bool:
    """Targa has no magic number: its footer says so, or every field of its header makes sense."""
    if data[-18:] == b"TRUEVISION-XFILE.\0":
        return True
    if len(data) < 18 + 3:
        return False
    mapped, kind = data[1], data[2]
    map_length, map_depth = int.from_bytes(data[5:7], "little"), data[7]
    width, height, depth, descriptor = struct.unpack_from("<HHBB", data, 12)
    palette = kind in (1, 9)
    if palette:
        sensible = mapped == 1 and map_length > 0 and map_depth in (15, 16, 24, 32)
    else:
        sensible = mapped <= 1 and not any(data[3:8])
    depths = (8, 16) if palette or kind in (3, 11) else (15, 16, 24, 32)
    stored = len(data) - 18 - data[0]
    return (
        kind in _TGA_TYPES
        and not descriptor & 0xC0
        and min(width, height) >= 8
        and sensible
        and depth in depths
        and (kind >= 9 or stored >= width * height * ((depth + 7) // 8))
    )
