"""The rows of each format, one by one; what is wrong with one stops none of the others."""

import csv
import json
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pixcrawler.api.lists.columns import FIELDS, Columns, is_header, numbered
from pixcrawler.api.lists.files import MAX_LINE, File, Line, Refused, lines
from pixcrawler.common.url_lists import ListedRow

MAX_RECORD_LINES = 100
"""Lines that a quoted text may go over. A quote that is never closed swallows none: reading goes on
with the line after the one that has it."""

BATCH = 4096
"""Rows of a Parquet file that are decoded at a time."""

_TEXT_SHOWN = 200
_LONG = f"the line has more than {MAX_LINE} bytes"


class Reading(NamedTuple):
    """What a place of a file gave: a row, or why there is none.

    Attributes:
        line: The line where it begins, or the number of the row, from 1.
        row: What it says; None if that cannot be told.
        reason: Then: why not.
        text: How the place begins, for people.
    """

    line: int
    row: ListedRow | None
    reason: str = ""
    text: str = ""


class Rows(NamedTuple):
    """The rows of a file, and which of its columns are what: field → its name there."""

    columns: Mapping[str, str]
    readings: Iterator[Reading]


def read(file: File, asked: Mapping[str, str], folder: Path, *, max_bytes: int) -> Rows:
    """The rows of a file.

    Args:
        file: Which.
        asked: Field → column, as the caller says.
        folder: For a temporary file without a name; only Parquet, which is read from its end, needs
            one.
        max_bytes: Text at most that a Parquet file may hold.

    Raises:
        Refused: the file as a whole cannot be read; also while its rows are read.
    """
    match file.format:
        case "txt":
            return _texts(file, asked)
        case "jsonl":
            return _objects(file, asked)
        case "parquet":
            return _parquet(file, asked, folder, max_bytes)
        case "csv" | "tsv":
            return _table(file, asked)


# ---- one URL a line


def _texts(file: File, asked: Mapping[str, str]) -> Rows:
    if asked:
        raise Refused(f"{file.name} is text with one URL a line: it has no columns")

    def readings() -> Iterator[Reading]:
        for number, data in lines(file):
            text = _text(data)
            if isinstance(text, str):
                if (url := text.strip()) and not url.startswith("#"):
                    yield Reading(number, ListedRow(url))
            else:
                yield Reading(number, None, text.reason, _shown(data))

    return Rows({}, readings())


# ---- tables


def _table(file: File, asked: Mapping[str, str]) -> Rows:
    """A CSV or TSV file; its first line names the columns, unless there is a URL in it."""
    records = _Records(lines(file), _separator(file))
    first = next(records, None)
    if first is None:
        raise Refused(f"{file.name} is empty")
    if first.fields is None:
        raise Refused(f"{file.name}: its first line cannot be read ({first.reason})")
    fields = first.fields
    if is_header(fields):
        columns = Columns(fields, asked, file.name)
        body: Iterable[_Record] = records
    else:
        columns = Columns(numbered(len(fields)), asked, file.name, fields)
        records.push(first)
        body = records
    return Rows(columns.found, _table_rows(body, columns))


def _table_rows(records: Iterable["_Record"], columns: Columns) -> Iterator[Reading]:
    width, pick = len(columns.names), _picker(columns.places)
    for line, fields, reason, text in records:
        if fields is None:
            yield Reading(line, None, reason, text)
        elif len(fields) == width:
            yield Reading(line, pick(fields))
        elif any(fields):
            yield Reading(
                line, None, f"{len(fields)} instead of {width} columns", _shown_text(fields)
            )


def _picker(places: Sequence[int | None]) -> Callable[[Sequence[str]], ListedRow]:
    """A row from the fields of a record."""
    known = [
        (field, place) for field, place in zip(FIELDS, places, strict=True) if place is not None
    ]
    if known == [("url", known[0][1])]:
        only = known[0][1]
        return lambda fields: ListedRow(fields[only].strip())

    def pick(fields: Sequence[str]) -> ListedRow:
        return ListedRow(*(fields[place].strip() if place is not None else "" for place in places))

    return pick


def _separator(file: File) -> str:
    if file.format == "tsv":
        return "\t"
    first = file.head.lstrip().splitlines()[0]
    # A spreadsheet of a country with decimal commas, or a TSV called CSV.
    counts = {mark: first.count(mark.encode()) for mark in (",", ";", "\t")}
    return "," if counts[","] else max(counts, key=lambda mark: counts[mark])


class _Record(NamedTuple):
    """The fields of a record; None if they cannot be told."""

    line: int
    fields: Sequence[str] | None
    reason: str = ""
    text: str = ""


class _Records:
    """The records of a table.

    Text in quotes may hold separators and ends of lines (which become line feeds) in CSV; in TSV,
    which is mostly written without such rules, a field is unquoted where it is quoted as a whole.
    """

    def __init__(self, source: Iterator[Line], separator: str) -> None:
        self._source = source
        self._separator = separator
        self._quoting = separator != "\t"
        self._ahead: deque[Line] = deque()
        self._pushed: list[_Record] = []

    def push(self, record: _Record) -> None:
        """Give this one again, first."""
        self._pushed.append(record)

    def __iter__(self) -> Iterator[_Record]:
        return self

    def __next__(self) -> _Record:
        if self._pushed:
            return self._pushed.pop()
        while True:
            number, data = self._line()
            text = _text(data)
            if not isinstance(text, str):
                return _Record(number, None, text.reason, _shown(data))
            if not text.strip():
                continue
            if '"' not in text:
                return _Record(number, text.split(self._separator))
            if not self._quoting:
                return _Record(number, [_unquoted(field) for field in text.split("\t")])
            return self._quoted(number, text)

    def _line(self) -> Line:
        return self._ahead.popleft() if self._ahead else next(self._source)

    def _quoted(self, number: int, text: str) -> _Record:
        """A record with quotes, which may go over several lines."""
        taken: list[Line] = []
        whole = text
        while True:
            try:
                return _Record(number, _parse(whole, self._separator))
            except csv.Error as error:
                unclosed = "unexpected end of data" in str(error)
                reason = "a quote is never closed" if unclosed else str(error)
            more = self._more(taken, whole) if unclosed else None
            if more is None:
                self._ahead.extendleft(reversed(taken))
                return _Record(number, None, reason, text[:_TEXT_SHOWN])
            whole = more

    def _more(self, taken: list[Line], whole: str) -> str | None:
        """The text up to the next line that has a quote; None if there is none near."""
        pieces, size = [whole], len(whole)
        while len(taken) < MAX_RECORD_LINES and size <= MAX_LINE:
            try:
                line = self._line()
            except StopIteration:
                return None
            taken.append(line)
            text = _text(line.data)
            if not isinstance(text, str):
                return None
            pieces.append(text)
            size += len(text)
            if '"' in text:
                return "\n".join(pieces)
        return None


def _parse(text: str, separator: str) -> list[str]:
    return next(csv.reader([text], delimiter=separator, strict=True))


def _unquoted(field: str) -> str:
    inner = field[1:-1]
    whole = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if whole else field


# ---- JSON Lines


def _objects(file: File, asked: Mapping[str, str]) -> Rows:
    """Objects may have different keys: each one's are looked up, and remembered."""
    if file.head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"[":
        raise Refused(f"{file.name} is a JSON array: an object a line is expected (JSON Lines)")
    found: dict[str, str] = {}
    return Rows(found, _object_rows(file, asked, found))


def _object_rows(file: File, asked: Mapping[str, str], found: dict[str, str]) -> Iterator[Reading]:
    known: dict[tuple[str, ...], Columns | str] = {}
    for number, data in lines(file):
        if data is not None and not data.strip():
            continue
        value, reason = _value(data)
        row: ListedRow | None = None
        if isinstance(value, str):
            row = ListedRow(value.strip())
        elif isinstance(value, dict):
            keys = tuple(value)
            if (columns := known.get(keys)) is None:
                columns = _keys(keys, asked, "it")
                if len(known) < BATCH:
                    known[keys] = columns
                if not isinstance(columns, str):
                    found.update(columns.found)
            row, reason = (None, columns) if isinstance(columns, str) else _object(value, columns)
        elif not reason:
            reason = "no JSON object"
        if row is None:
            yield Reading(number, None, reason, _shown(data))
        else:
            yield Reading(number, row)


def _keys(keys: tuple[str, ...], asked: Mapping[str, str], called: str) -> Columns | str:
    """Where an object has what; why it has no URL. A key that it lacks is unknown text."""
    there = {field: name for field, name in asked.items() if name in keys}
    if "url" in asked and "url" not in there:
        return f"no {asked['url']!r}"
    try:
        return Columns(keys, there, called)
    except Refused:
        return "no URL"


def _object(value: Mapping[str, Any], columns: Columns) -> tuple[ListedRow | None, str]:
    fields: list[str] = []
    values = list(value.values())
    for field, place in zip(FIELDS, columns.places, strict=True):
        found = None if place is None else _plain(values[place])
        if found is None and place is not None:
            return None, f"{field} is no text"
        fields.append(found or "")
    return ListedRow(*fields), ""


def _value(data: bytes | None) -> tuple[Any, str]:
    """What a line says in JSON, or why it says nothing."""
    text = _text(data)
    if not isinstance(text, str):
        return None, text.reason
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", "")
        return None, f"invalid JSON{f': {reason}' if reason else ''}"
    if "\\u" in text and _is_torn(value):
        return None, "half a character (a lone surrogate)"
    return value, ""


def _is_torn(value: object) -> bool:
    """Whether a text within holds half a character, which no UTF-8 can say."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _plain(value: object) -> str | None:
    """A value as text; None for what is none."""
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


# ---- Parquet


def _parquet(file: File, asked: Mapping[str, str], folder: Path, max_bytes: int) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pa.set_memory_pool(pa.system_memory_pool())  # its own keeps what it once had
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with tempfile.NamedTemporaryFile(dir=folder) as spool:
        for piece in file.pieces:
            spool.write(piece)
        spool.flush()
        opened = pa.OSFile(spool.name)
    try:
        # Without buffers of whole row groups: some writers make groups of millions of rows.
        parquet = pq.ParquetFile(opened, buffer_size=1 << 18, pre_buffer=False)
        schema = parquet.schema_arrow
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Refused(f"{file.name} is a damaged Parquet file ({_words(error)})") from None
    columns = _textual(schema, Columns(schema.names, asked, file.name), asked, file.name)
    return Rows(columns, _parquet_rows(parquet, columns, file.name, max_bytes))


def _textual(
    schema: Any, columns: Columns, asked: Mapping[str, str], called: str
) -> dict[str, str]:
    """Field → column, of those that hold text (or numbers)."""
    import pyarrow as pa

    found = {}
    for field, name in columns.found.items():
        if schema.names.count(name) > 1:
            raise Refused(f"{called} has {schema.names.count(name)} columns called {name!r}")
        kind = schema.field(schema.get_field_index(name)).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        texts = (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_string_view,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_integer,
            pa.types.is_null,
        )
        if any(is_text(kind) for is_text in texts):
            found[field] = name
        elif field == "url" or field in asked:
            raise Refused(f"{called}: the column {name!r} holds no text but {kind}")
    return found


def _parquet_rows(
    parquet: Any, columns: Mapping[str, str], called: str, max_bytes: int
) -> Iterator[Reading]:
    import pyarrow as pa

    number, size = 0, 0
    try:
        batches = parquet.iter_batches(
            batch_size=BATCH, columns=list(columns.values()), use_threads=False
        )
        for batch in batches:
            size += batch.nbytes
            if size > max_bytes:
                raise Refused(f"{called} has more than {max_bytes} bytes when it is unpacked")
            values = [
                _texts_of(batch.column(columns[field])) if field in columns else None
                for field in FIELDS
            ]
            for place in range(batch.num_rows):
                number += 1
                yield _parquet_row(number, [column and column[place] for column in values])
    except MemoryError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise Refused(
            f"{called} is a damaged Parquet file: after row {number}, {_words(error)}"
        ) from None


def _parquet_row(number: int, values: Sequence[object]) -> Reading:
    fields: list[str] = []
    for value in values:
        text = value
        if isinstance(value, bytes):
            text = _text(value)
            if not isinstance(text, str):
                return Reading(number, None, "bad UTF-8", _shown(value))
        fields.append(_plain(text) or "")
    return Reading(number, ListedRow(*fields))


def _texts_of(column: Any) -> list[object]:
    """A column's values; as bytes where one of them is not UTF-8."""
    import pyarrow as pa

    try:
        values: list[object] = column.to_pylist()
    except UnicodeDecodeError:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        values = column.cast(pa.large_binary()).to_pylist()
    return values


def _words(error: Exception) -> str:
    """A library's complaint on one line."""
    return " ".join(str(error).split())[:_TEXT_SHOWN] or type(error).__name__


# ---- text


class _NoText(NamedTuple):
    reason: str


def _text(data: bytes | None) -> str | _NoText:
    if data is None:
        return _NoText(_LONG)
    if b"\0" in data:
        return _NoText("a NUL character")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _NoText("bad UTF-8")


def _shown(data: bytes | None) -> str:
    return (data or b"")[:_TEXT_SHOWN].decode(errors="replace")


def _shown_text(fields: Sequence[str]) -> str:
    return " | ".join(fields)[:_TEXT_SHOWN]
