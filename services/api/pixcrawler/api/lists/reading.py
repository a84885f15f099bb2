"""The process that reads one upload: a file on stdin, its good rows on stdout, the rest into files.

    python -m pixcrawler.api.lists.reading '{…Order…}' < list.csv.gz > rows.jsonl.gz

It is told and answers through descriptors that its parent opened; it knows neither the blob store
nor the database, and imports neither.
"""

import json
import os
import re
import resource
import sys
import tempfile
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pixcrawler.api.lists.files import PIECE, Format, Refused, open_file
from pixcrawler.api.lists.rows import Reading, read
from pixcrawler.common.url_lists import (
    BlockWriter,
    ListedRow,
    Marks,
    RejectedRow,
    dump_row,
)

MAX_URL = 8192
"""Characters; servers refuse longer ones."""
MAX_TEXT = 16_384
"""Characters of a caption and everything else that a row says."""
FIRST_REJECTED = 20
"""Rows left out that are told at once; all of them are kept."""

_URL = re.compile(r"https?://[^/?#\\]", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Order(NamedTuple):
    """What to do.

    Attributes:
        name: What people call the file.
        format: What the caller says that it is.
        columns: Field → column, as the caller says.
        folder: For temporary files.
        max_rows: Rows at most, good and bad.
        max_unpacked: Bytes at most, unpacked.
        max_memory: Bytes of memory at most.
        rows_index: Descriptors to write to: the index of the rows,
        rejected: the rows that were left out,
        rejected_index: their index,
        answer: and the answer.
    """

    name: str
    format: Format | None
    columns: Mapping[str, str]
    folder: str
    max_rows: int
    max_unpacked: int
    max_memory: int
    rows_index: int
    rejected: int
    rejected_index: int
    answer: int


class Sinks(NamedTuple):
    """Where it is written to."""

    rows: BinaryIO
    rows_index: BinaryIO
    rejected: BinaryIO
    rejected_index: BinaryIO


class Answer(NamedTuple):
    """What became of it; `refused` is why it was not taken as a whole, empty if it was."""

    format: str = ""
    columns: Mapping[str, str] = {}
    rows: int = 0
    repeated: int = 0
    rejected: int = 0
    rejected_rows: tuple[RejectedRow, ...] = ()
    refused: str = ""

    def dump(self) -> bytes:
        """As JSON."""
        rows = [row._asdict() for row in self.rejected_rows]
        return json.dumps({**self._asdict(), "rejected_rows": rows}).encode()

    @classmethod
    def parse(cls, data: bytes) -> "Answer":
        """From JSON."""
        found = json.loads(data)
        rows = tuple(RejectedRow(**row) for row in found.pop("rejected_rows"))
        return cls(**found, rejected_rows=rows)


class Repeats:
    """Finds rows whose URL an earlier one has, in memory that hardly grows.

    Hashes (SipHash, 64 bits, a secret of this process) go to a temporary file in 64 heaps, and each
    heap is looked through by itself: 10 million URLs take 15 MB. Two of 10 million different URLs
    have the same hash once in 370,000 lists.

    Args:
        file: Temporary.
    """

    HEAPS = 64
    RUN = 4096

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._heaps = [array("q") for _ in range(self.HEAPS)]
        self._runs: list[list[int]] = [[] for _ in range(self.HEAPS)]
        self._rows = 0

    def add(self, url: str) -> None:
        """The URL of the next row."""
        name = hash(url)
        heap = self._heaps[name % self.HEAPS]
        heap.append(name)
        heap.append(self._rows)
        self._rows += 1
        if len(heap) == self.RUN:
            self._runs[name % self.HEAPS].append(self._file.tell())
            heap.tofile(self._file)
            del heap[:]

    def find(self) -> Marks:
        """The rows that repeat an earlier one."""
        marks = Marks()
        for number in range(self.HEAPS):
            seen: set[int] = set()
            for run in self._heap(number):
                for name, row in zip(run[::2], run[1::2], strict=True):
                    if name in seen:
                        marks.set(row)
                    else:
                        seen.add(name)
        return marks

    def _heap(self, number: int) -> Iterator["array[int]"]:
        for start in self._runs[number]:
            run = array("q")
            self._file.seek(start)
            run.fromfile(self._file, self.RUN)
            yield run
        yield self._heaps[number]


def complaint(row: ListedRow) -> str:
    """What is wrong with a row; empty if nothing is."""
    if not _URL.match(row.url):
        return "not an http or https URL" if row.url else "no URL"
    if len(row.url) > MAX_URL:
        return f"the URL has more than {MAX_URL} characters"
    if _CONTROL.search(row.url):
        return "a control character in the URL"
    for name, value in zip(ListedRow._fields, row, strict=True):
        if len(value) > MAX_TEXT:
            return f"{name} has more than {MAX_TEXT} characters"
        if "\0" in value:
            return f"a NUL character in {name}"
    return ""


def take_in(order: Order, source: BinaryIO, sinks: Sinks) -> Answer:
    """Read a file and write what is good in it.

    Raises:
        Refused: there is nothing to be had from it.
    """
    pieces = iter(lambda: source.read(PIECE), b"")
    file = open_file(pieces, order.name, order.format, max_unpacked=order.max_unpacked)
    folder = Path(order.folder)
    found = read(file, order.columns, folder, max_bytes=order.max_unpacked)
    rows, rejected = BlockWriter(sinks.rows), BlockWriter(sinks.rejected)
    first: list[RejectedRow] = []
    with tempfile.TemporaryFile(dir=folder) as hashes:
        repeats = Repeats(hashes)
        for reading in found.readings:
            bad = _sort(reading, rows, repeats)
            if bad is not None:
                rejected.add(json.dumps(bad._asdict(), ensure_ascii=False))
                if len(first) < FIRST_REJECTED:
                    first.append(bad)
            if rows.rows + rejected.rows > order.max_rows:
                raise Refused(f"{file.name} has more than {order.max_rows} rows")
        missing = order.columns.keys() - found.columns.keys()
        if missing and rows.rows:
            raise Refused(f"{file.name} has no {order.columns[min(missing)]!r} in any row")
        if not rows.rows:
            raise Refused(f"{file.name} holds no URL{_why(first)}")
        rows.close()
        marks = repeats.find()
        rows.write_index(sinks.rows_index, bytes(marks.bits))
        if rejected.rows:
            rejected.close()
            rejected.write_index(sinks.rejected_index)
    return Answer(
        format=file.format,
        columns=found.columns,
        rows=rows.rows,
        repeated=marks.count,
        rejected=rejected.rows,
        rejected_rows=tuple(first),
    )


def _sort(reading: Reading, rows: BlockWriter, repeats: Repeats) -> RejectedRow | None:
    """Keep a row, or say why not."""
    row = reading.row
    if row is None:
        return RejectedRow(reading.line, reading.reason, reading.text)
    if reason := complaint(row):
        return RejectedRow(reading.line, reason, row.url[:200])
    rows.add(dump_row(row))
    repeats.add(row.url)
    return None


def _why(first: list[RejectedRow]) -> str:
    return f": line {first[0].line} has {first[0].reason}" if first else ""


def main() -> None:
    """Read stdin as the only argument says. Exit code 0 also where the file is refused."""
    order = Order(**json.loads(sys.argv[1]))
    _be_modest(order.max_memory)
    try:
        with (
            os.fdopen(order.rows_index, "wb") as rows_index,
            os.fdopen(order.rejected, "wb") as rejected,
            os.fdopen(order.rejected_index, "wb") as rejected_index,
        ):
            sinks = Sinks(sys.stdout.buffer, rows_index, rejected, rejected_index)
            answer = take_in(order, sys.stdin.buffer, sinks)
            sys.stdout.flush()
    except Refused as refused:
        answer = Answer(refused=str(refused))
    except MemoryError:
        called = order.name or "the file"
        answer = Answer(refused=f"{called} takes more memory to read than is allowed")
    with os.fdopen(order.answer, "wb") as file:
        file.write(answer.dump())


def _be_modest(max_memory: int) -> None:
    """Never take more memory than is allowed, and leave no image of it."""
    resource.setrlimit(resource.RLIMIT_DATA, (max_memory, max_memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
