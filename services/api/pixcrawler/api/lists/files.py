"""What a file is: unpacked, told by its content, cut into lines; memory does not grow with it."""

import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, Literal, NamedTuple, get_args

Format = Literal["txt", "csv", "tsv", "jsonl", "parquet"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

PIECE = 1 << 18
"""Bytes that are read, or unpacked, at a time."""
HEAD = 1 << 16
"""Bytes by whose look a file is judged."""
MAX_LINE = 1 << 18
"""Bytes of a line at most: a URL and its caption have a few hundred."""

_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"
_BINARY_SHARE = 0.1
"""Control characters beyond this share are no text with a few bad rows any more."""
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_EXTENSIONS: Final[dict[str, Format]] = {
    "txt": "txt",
    "text": "txt",
    "lst": "txt",
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
    "parquet": "parquet",
    "pq": "parquet",
}

_MAGIC = (
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "an image, a sound or a film"),
    (b"%PDF-", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet: export it as CSV"),
    (b"SQLite format 3", "a database"),
    (b"ARROW1", "an Arrow file: write it as Parquet"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it, or pack it with gzip"),
    (b"BZh", "packed with bzip2: unpack it, or pack it with gzip"),
    (b"\xfd7zXZ", "packed with xz: unpack it, or pack it with gzip"),
    (b"\xff\xfe", "text in UTF-16: save it as UTF-8"),
    (b"\xfe\xff", "text in UTF-16: save it as UTF-8"),
)
"""How files begin that are often taken for something else."""


class Refused(Exception):
    """The file as a whole cannot be taken; the message is a sentence for people."""


class Line(NamedTuple):
    """A line without its end, and its number from 1; None if it is longer than `MAX_LINE`."""

    number: int
    data: bytes | None


class File(NamedTuple):
    """A file that was told by its content.

    Attributes:
        name: What people call it.
        format: What it is.
        head: How it begins, unpacked.
        pieces: All of its bytes, unpacked, the head among them.
    """

    name: str
    format: Format
    head: bytes
    pieces: Iterator[bytes]


def open_file(
    pieces: Iterable[bytes], name: str, asked: Format | None, *, max_unpacked: int
) -> File:
    """Tell what a file is.

    Args:
        pieces: Its bytes, of which some are read here.
        name: Its name, for the format and for messages; may be empty.
        asked: The format if the caller has named it.
        max_unpacked: Bytes at most, unpacked.

    Raises:
        Refused: it is nothing that holds a list; or later, while its pieces are read.
    """
    called = name or "the file"
    head, raw = _peek(iter(pieces))
    if head.startswith(_GZIP):
        raw = _gunzip(raw, called)
        head, raw = _peek(_bounded(raw, called, max_unpacked))
        if head.startswith(_GZIP):
            raise Refused(f"{called} is packed twice: unpack it once")
    return File(called, _format(head, called, name, asked), head, raw)


def lines(file: File) -> Iterator[Line]:
    """The lines of a text, without a byte order mark; those of one character (a Mac's CR) too."""
    end = b"\r" if b"\r" in file.head and b"\n" not in file.head else b"\n"
    number, rest, skipping = 0, b"", False
    for piece in file.pieces:
        parts = piece.split(end)
        parts[0] = rest + parts[0]
        rest = parts.pop()
        for part in parts:
            number += 1
            yield Line(number, None if skipping else _line(part, number))
            skipping = False
        if len(rest) > MAX_LINE:
            skipping = True
        if skipping:
            rest = b""
    if rest or skipping:
        yield Line(number + 1, None if skipping else _line(rest, number + 1))


def _line(data: bytes, number: int) -> bytes | None:
    if number == 1:
        data = data.removeprefix(b"\xef\xbb\xbf")
    return data.removesuffix(b"\r") if len(data) <= MAX_LINE else None


def _peek(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """How the bytes begin, and all of them."""
    begun: list[bytes] = []
    size = 0
    for piece in pieces:
        begun.append(piece)
        size += len(piece)
        if size >= HEAD:
            break
    return b"".join(begun)[:HEAD], chain(begun, pieces)


def _gunzip(pieces: Iterator[bytes], called: str) -> Iterator[bytes]:
    """The content of a gzip file of any number of members, a bounded piece at a time."""
    unpacker = zlib.decompressobj(31)
    for piece in chain(pieces, (b"",)):  # the last one lets out what the unpacker still holds
        data, more = piece, True
        while data or more:
            if unpacker.eof:
                data = data.lstrip(b"\0")  # padding
                if not data:
                    break
                unpacker = zlib.decompressobj(31)
            try:
                unpacked = unpacker.decompress(data, PIECE)
            except zlib.error as error:
                raise Refused(f"{called} is a damaged gzip file ({error})") from None
            if unpacked:
                yield unpacked
            data = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            more = len(unpacked) == PIECE and not unpacker.eof
    if not unpacker.eof:
        raise Refused(f"{called} is a gzip file that was cut off")


def _bounded(pieces: Iterator[bytes], called: str, most: int) -> Iterator[bytes]:
    left = most
    for piece in pieces:
        left -= len(piece)
        if left < 0:
            raise Refused(f"{called} has more than {most} bytes when it is unpacked")
        yield piece


def _format(head: bytes, called: str, name: str, asked: Format | None) -> Format:
    """What it says it is, if it can be that; else what it looks like."""
    if not head.strip():
        raise Refused(f"{called} is empty")
    said = asked or _EXTENSIONS.get(_extension(name))
    if head.startswith(_PARQUET):
        if said not in {None, "parquet"}:
            raise Refused(f"{called} is a Parquet file, not {said}: say format=parquet")
        return "parquet"
    for magic, what in _MAGIC:
        if head.startswith(magic):
            raise Refused(f"{called} is no list of URLs but {what}")
    if said == "parquet":
        raise Refused(f"{called} is no Parquet file")
    if len(_CONTROL.findall(head)) > _BINARY_SHARE * len(head):
        raise Refused(f"{called} is no text")
    return said or _looks_like(head, called)


def _extension(name: str) -> str:
    return name.lower().removesuffix(".gz").rpartition(".")[2]


def _looks_like(head: bytes, called: str) -> Format:
    """The format of a text that nobody has named; tables of URLs alone are taken as `txt`."""
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if first == b"{":
        return "jsonl"
    if first == b"[":
        raise Refused(f"{called} is a JSON array: an object a line is expected (JSON Lines)")
    if first == b"<":
        raise Refused(f"{called} is a page or XML, no list of URLs")
    line = head.lstrip().splitlines()[0]
    if b"\t" in line:
        return "tsv"
    is_table = b"," in line and not line.startswith((b"http://", b"https://", b"#"))
    return "csv" if is_table else "txt"
