"""TIFF: a walk through its directories, so that a cut is found wherever it is.

Directories and data may stand in any order, so decoding the first picture says little about the
end of the file; what every directory points at has to lie within it. TIFF 6.0, and BigTIFF.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pixcrawler.validator.decision import Damage, Header
from pixcrawler.validator.formats import TIFF
from pixcrawler.validator.structure import CUT, Survey

PAGES = 1000
"""Directories that are followed."""

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SIZES |= {16: 8, 17: 8, 18: 8}
_LETTERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

_SUBFILE, _WIDTH, _HEIGHT, _DNG = 254, 256, 257, 50706
_PIECES = ((273, 279), (324, 325))  # offsets and lengths: of strips, of tiles


@dataclass(frozen=True, slots=True)
class Entry:
    """A field of a directory: `count` values of `kind` that begin at `start`."""

    kind: int
    count: int
    start: int

    @property
    def end(self) -> int:
        """Where its values end; of a kind that is not known, where they begin."""
        return self.start + self.count * _SIZES.get(self.kind, 0)


@dataclass(frozen=True, slots=True)
class Layout:
    """How this file writes numbers: byte order and the width of offsets."""

    order: str
    big: bool


Directory = dict[int, Entry]


def tiff(data: bytes) -> Survey:
    """The first page's size; whether all that any page points at is there."""
    layout = Layout("<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+"))
    pages: list[Directory] = []
    whole = True
    for page in _directories(data, layout):
        if page is None:
            whole = False
            break
        pages.append(page)
    if not pages:
        raise Damage("ends within its header")
    first = pages[0]
    width, height = _value(data, layout, first, _WIDTH), _value(data, layout, first, _HEIGHT)
    if not width or not height:
        raise Damage("a directory without a size")
    whole = whole and all(_is_there(data, layout, page) for page in pages)
    return Survey(
        Header(TIFF, width, height),
        data,
        frames=len(pages),
        defect="" if whole else CUT,
        variety=_variety(data, layout, first),
    )


def _directories(data: bytes, layout: Layout) -> Iterator[Directory | None]:
    """One after the other; None where one is cut."""
    word = "Q" if layout.big else "I"
    head = 8 if layout.big else 4
    seen: set[int] = set()
    at = _number(data, layout, word, head)
    while at and at not in seen and len(seen) < PAGES:
        seen.add(at)
        page, at = _directory(data, layout, at)
        yield page


def _directory(data: bytes, layout: Layout, at: int) -> tuple[Directory | None, int | None]:
    """A directory, and where the next one is."""
    word, counter = ("Q", "Q") if layout.big else ("I", "H")
    width, inline = (20, 8) if layout.big else (12, 4)
    count = _number(data, layout, counter, at)
    start = at + (8 if layout.big else 2)
    if count is None or start + count * width > len(data):
        return None, None
    page: Directory = {}
    for place in range(start, start + count * width, width):
        tag, kind, number = struct.unpack_from(f"{layout.order}HH{word}", data, place)
        held = place + width - inline
        size = number * _SIZES.get(kind, 0)
        where = held if size <= inline else _number(data, layout, word, held) or 0
        page.setdefault(tag, Entry(kind, number, where))
    after = _number(data, layout, word, start + count * width)
    # Some writers leave the pointer to the next directory out of the last one.
    return page, after


def _is_there(data: bytes, layout: Layout, page: Directory) -> bool:
    """Whether the file holds everything that the directory points at."""
    if any(entry.end > len(data) for entry in page.values()):
        return False
    for offsets, lengths in _PIECES:
        starts = _values(data, layout, page.get(offsets))
        sizes = _values(data, layout, page.get(lengths))
        if any(start + size > len(data) for start, size in zip(starts, sizes, strict=False)):
            return False
        if any(start > len(data) for start in starts):
            return False
    return True


def _variety(data: bytes, layout: Layout, first: Directory) -> str:
    """Cameras' raw files are TIFFs whose first picture is but a preview."""
    if _DNG in first:
        return "a camera's raw file (DNG)"
    if (_value(data, layout, first, _SUBFILE) or 0) & 1:
        return "its first picture is a preview, as in a camera's raw file"
    return ""


def _value(data: bytes, layout: Layout, page: Directory, tag: int) -> int | None:
    return next(iter(_values(data, layout, page.get(tag))), None)


def _values(data: bytes, layout: Layout, entry: Entry | None) -> tuple[int, ...]:
    if entry is None or entry.kind not in _LETTERS or entry.end > len(data):
        return ()
    return struct.unpack_from(
        f"{layout.order}{entry.count}{_LETTERS[entry.kind]}", data, entry.start
    )


def _number(data: bytes, layout: Layout, letter: str, at: int) -> int | None:
    """The number at a place; None beyond the file."""
    pattern = layout.order + letter
    if at + struct.calcsize(pattern) > len(data):
        return None
    (number,) = struct.unpack_from(pattern, data, at)
    return int(number)
