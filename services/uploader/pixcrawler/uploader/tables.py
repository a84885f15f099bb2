"""The tables of a dataset's index, written row group by row group.

They are `images.parquet`, `outcomes.parquet` and `LICENSES.csv`.

The same rows in the same order give the same bytes: the writer's options are fixed and row groups
are cut by count. pyarrow is imported only here and only when a table is made (50 MB of memory).
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pixcrawler.common.chunk_outcomes import OutcomeRow
from pixcrawler.common.events import Value
from pixcrawler.common.jobs import Job
from pixcrawler.common.outcomes import Outcome
from pixcrawler.uploader.images import ImageRecord, TransformedRecord

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 1_000
"""Rows that are held before they are written: ten times as many take 60 MB more memory, since the
writer holds a group several times over, and save nothing."""

LICENSE_COLUMNS = (
    "file_name",
    "license",
    "license_url",
    "creator",
    "title",
    "landing_url",
    "url",
    "chunk_id",
)

IMAGE_COLUMNS = (*ImageRecord.model_fields, "chunk_id")
TRANSFORMED_COLUMNS = (*TransformedRecord.model_fields, "chunk_id")
"""Of `images.parquet`, where a job wants its images transformed."""
OUTCOME_COLUMNS = tuple(OutcomeRow.model_fields)

_REPEATING = frozenset(
    {
        "source",
        "keyword",
        "creator",
        "license",
        "license_url",
        "format",
        "original_format",
        "chunk_id",
        "outcome",
        "detail",
    }
)
"""Columns with few different values: a dictionary of the others would only take memory."""

_INTEGERS = frozenset(
    {
        *("width", "height", "bytes", "http_status", "elapsed_ms"),
        *("original_width", "original_height", "original_bytes"),
    }
)


class ImageRow(ImageRecord):
    """A row of `images.parquet`: what the archive says of an image, and whose archive it is."""

    chunk_id: str


class TransformedRow(TransformedRecord):
    """The same, where a job wants its images transformed."""

    chunk_id: str


def image_row(record: ImageRecord, chunk: str) -> ImageRow | TransformedRow:
    """A row of `images.parquet`."""
    kind = TransformedRow if isinstance(record, TransformedRecord) else ImageRow
    return kind(**record.model_dump(), chunk_id=chunk)


def image_columns(job: Job) -> tuple[str, ...]:
    """The columns of `images.parquet`: the same in all chunks of a job."""
    return IMAGE_COLUMNS if job.options.transform is None else TRANSFORMED_COLUMNS


def load() -> None:
    """Import all that tables are made with; not on an event loop, since it may take seconds.

    At its first array pyarrow looks for pandas, too, and imports it where it is installed.
    """
    import pyarrow as pa
    import pyarrow.parquet

    pa.array([0])


class ParquetTable:
    """A Parquet file that takes rows as they come.

    Args:
        path: The file.
        columns: Fields of the rows, in order.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        # Its own pool keeps what it once had: 40 MB of it after a table of this size.
        pa.set_memory_pool(pa.system_memory_pool())
        self._columns = tuple(columns)
        self._schema = _schema(self._columns)
        self._rows: list[Value] = []
        self._writer = pq.ParquetWriter(
            path,
            self._schema,
            version="2.6",
            data_page_version="1.0",
            compression="zstd",
            compression_level=3,
            use_dictionary=[name for name in self._columns if name in _REPEATING],
            write_statistics=True,
        )

    def add(self, rows: Iterable[Value]) -> None:
        """Append rows."""
        for row in rows:
            self._rows.append(row)
            if len(self._rows) == ROW_GROUP:
                self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        columns = {name: [getattr(row, name) for row in self._rows] for name in self._columns}
        self._writer.write_table(
            pa.Table.from_pydict(columns, self._schema), row_group_size=ROW_GROUP
        )
        self._rows = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._rows and error is None:
            self._flush()
        self._writer.close()


def _schema(columns: Sequence[str]) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([(name, pa.int64() if name in _INTEGERS else pa.string()) for name in columns])


class LicenseTable:
    """`LICENSES.csv`: licence, creator and landing page of every kept image.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(LICENSE_COLUMNS)

    def add(self, rows: Iterable[ImageRow | TransformedRow]) -> None:
        """Append rows."""
        self._writer.writerows([getattr(row, name) for name in LICENSE_COLUMNS] for row in rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


class Counted(NamedTuple):
    """As much of an outcome as is counted."""

    outcome: Outcome
    bytes: int
    sha256: str


def counted_outcomes(path: Path) -> Iterator[Counted]:
    """What `outcomes.parquet` says became of each URL."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP, columns=list(Counted._fields)):
            columns: list[list[Any]] = [batch.column(name).to_pylist() for name in Counted._fields]
            for outcome, size, sha256 in zip(*columns, strict=True):
                yield Counted(Outcome(outcome), size, sha256)
