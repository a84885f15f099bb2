"""Reads a list as the reading process does, without the process."""

import gzip
import io
import json
import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

from pixcrawler.api.lists.reading import Answer, Order, Sinks, take_in
from pixcrawler.common.url_lists import ListedRow, RejectedRow, parse_row


class Taken(NamedTuple):
    """The answer, and what was written."""

    answer: Answer
    rows: list[ListedRow]
    rejected: list[RejectedRow]
    marks: bytes

    @property
    def urls(self) -> list[str]:
        return [row.url for row in self.rows]


def take(
    data: bytes, name: str = "", columns: Mapping[str, str] | None = None, **told: Any
) -> Taken:
    """Read a list as it is uploaded."""
    order = {
        "name": name,
        "format": None,
        "columns": columns or {},
        "folder": tempfile.gettempdir(),
        "max_rows": 100_000,
        "max_unpacked": 1 << 24,
        "max_memory": 0,
        "rows_index": -1,
        "rejected": -1,
        "rejected_index": -1,
        "answer": -1,
        **told,
    }
    written = [io.BytesIO() for _ in Sinks._fields]
    answer = take_in(Order(**order), io.BytesIO(data), Sinks(*written))
    rows, index, rejected, _ = (file.getvalue() for file in written)
    return Taken(
        answer,
        [parse_row(line) for line in _lines(rows)],
        [RejectedRow(**json.loads(line)) for line in _lines(rejected)],
        index,
    )


def _lines(data: bytes) -> list[bytes]:
    return gzip.decompress(data).splitlines() if data else []
