"""A list of URLs that somebody uploaded, as it is kept: written once, read in small stretches.

`lists/<list>/rows.jsonl.gz` has a JSON object a row, `url` and what else is known of it, in gzip
members of `BLOCK_ROWS` rows each: `zcat` reads the whole, and one ranged read gets a member. Where
the members begin is in `rows.index`, an entry of `ENTRY` for each, and one for the end; an entry
also marks the rows whose URL an earlier row has. Rows that were refused are kept in the same way.

Places in a list count its rows, repeated ones too, as the results of a search are counted.
"""

import gzip
import json
import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator
from itertools import pairwise
from json.encoder import encode_basestring
from typing import Any, NamedTuple, Protocol

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore

BLOCK_ROWS = 500
"""Rows of a member: as many as a chunk has candidates, so that a chunk reads one or two."""

ENTRY = struct.Struct(">Q64s")
"""Where a member begins, and a bit for each of its rows (the first is the lowest of the first
byte): whether it is a repetition. 20,000 of them for 10 million rows, 1.4 MB."""

LEVEL = 1
"""Of compression: the URLs of a site shrink to a quarter at any level, and this one is quick."""


class ListedRow(NamedTuple):
    """A row: a URL, and what the list says about the image. Unknown text is empty."""

    url: str
    title: str = ""
    creator: str = ""
    license: str = ""
    license_url: str = ""
    landing_url: str = ""


class RejectedRow(NamedTuple):
    """A row that was left out: its line (or row) counted from 1, why, and how it begins."""

    line: int
    reason: str
    text: str = ""


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take all of them."""
        ...


class BlockWriter:
    """Writes lines as gzip members of `BLOCK_ROWS` lines each.

    Args:
        file: Where they go.
    """

    def __init__(self, file: Sink) -> None:
        self._file = file
        self._lines: list[str] = []
        self._written = 0
        self._starts = array("Q")
        self.rows = 0

    def add(self, line: str) -> None:
        """Append a line, without its end."""
        self._lines.append(line)
        self.rows += 1
        if len(self._lines) == BLOCK_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what is left; the file stays open."""
        if self._lines:
            self._flush()

    def _flush(self) -> None:
        self._lines.append("")
        member = gzip.compress("\n".join(self._lines).encode(), LEVEL, mtime=0)
        self._file.write(member)
        self._starts.append(self._written)
        self._written += len(member)
        self._lines = []

    def write_index(self, file: Sink, repeated: bytes = b"") -> None:
        """Write the index, once the rows are closed.

        Args:
            file: Where it goes.
            repeated: The marks of all members one after the other, 64 bytes each.
        """
        size = ENTRY.size - 8
        for number, start in enumerate(self._starts):
            file.write(ENTRY.pack(start, repeated[number * size : (number + 1) * size]))
        file.write(ENTRY.pack(self._written, b""))


class Marks:
    """Which rows repeat an earlier one: a bit each, laid out as the index has them."""

    def __init__(self) -> None:
        self.bits = bytearray()
        self.count = 0

    def set(self, row: int) -> None:
        """Mark a row, counted from 0."""
        block, place = divmod(row, BLOCK_ROWS)
        at = block * (ENTRY.size - 8) + place // 8
        if at >= len(self.bits):
            self.bits.extend(bytes(at + 1 - len(self.bits)))
        self.bits[at] |= 1 << place % 8
        self.count += 1


def dump_row(row: ListedRow) -> str:
    """A row as JSON on one line, without what is unknown."""
    known = [f'"{name}": {encode_basestring(value)}' for name, value in _named(row) if value]
    return f"{{{', '.join(known)}}}"  # half the time of json.dumps


def _named(row: ListedRow) -> Iterable[tuple[str, str]]:
    return zip(ListedRow._fields, row, strict=True)


def parse_row(line: str | bytes) -> ListedRow:
    """A row from `dump_row`; fields that are not known here are ignored."""
    found: dict[str, Any] = json.loads(line)
    return ListedRow(**{name: found[name] for name in ListedRow._fields if name in found})


async def read_rows(
    blobs: BlobStore, list_id: str, offset: int, limit: int
) -> tuple[ListedRow, ...]:
    """The rows `offset` … `offset + limit - 1` of a list, without those that repeat a URL.

    Raises:
        BlobNotFound: there is no such list any more.
    """
    lines = await _read(
        blobs, names.list_rows(list_id), names.list_rows_index(list_id), offset, limit
    )
    return tuple(parse_row(line.text) for line in lines if not line.repeated)


async def read_rejected(
    blobs: BlobStore, list_id: str, offset: int, limit: int
) -> tuple[RejectedRow, ...]:
    """The refused rows `offset` … `offset + limit - 1` of a list.

    Raises:
        BlobNotFound: there is no such list any more.
    """
    lines = await _read(
        blobs, names.list_rejected(list_id), names.list_rejected_index(list_id), offset, limit
    )
    return tuple(RejectedRow(**json.loads(line.text)) for line in lines)


class _Line(NamedTuple):
    text: bytes
    repeated: bool


async def _read(blobs: BlobStore, name: str, index: str, offset: int, limit: int) -> list[_Line]:
    """Lines of a stretch: one ranged read of the index, one of the members."""
    if limit <= 0:
        return []
    first, last = offset // BLOCK_ROWS, (offset + limit - 1) // BLOCK_ROWS
    entries = await _entries(blobs, index, first, last - first + 2)
    if len(entries) <= 1:
        return []
    begin, end = entries[0][0], entries[-1][0]
    data = await _bytes(blobs, name, begin, end - begin)
    lines = list(_lines(data, begin, entries))
    skipped = offset - first * BLOCK_ROWS
    return lines[skipped : skipped + limit]


def _lines(data: bytes, begin: int, entries: list[tuple[int, bytes]]) -> Iterator[_Line]:
    for (start, marks), (end, _) in pairwise(entries):
        member = zlib.decompress(data[start - begin : end - begin], wbits=31)
        for place, line in enumerate(member.splitlines()):
            yield _Line(line, bool(marks[place // 8] >> place % 8 & 1))


async def _entries(blobs: BlobStore, index: str, first: int, count: int) -> list[tuple[int, bytes]]:
    data = await _bytes(blobs, index, first * ENTRY.size, count * ENTRY.size)
    return list(ENTRY.iter_unpack(data[: len(data) // ENTRY.size * ENTRY.size]))


async def _bytes(blobs: BlobStore, name: str, offset: int, length: int) -> bytes:
    return b"".join([piece async for piece in blobs.stream(name, offset=offset, length=length)])
