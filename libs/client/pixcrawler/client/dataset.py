"""A dataset in a folder, read straight from its archives: nothing is unpacked.

Archives are stored, not deflated, so an image is a stretch of its archive's bytes: it is found once
and read when it is asked for, in whichever process or thread.
"""

import io
import json
import struct
import tarfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from pixcrawler.client.errors import DatasetError
from pixcrawler.client.values import Images, Record

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

INDEX = "dataset.json"
METADATA = "metadata.jsonl"

_LOCAL_HEADER = 30
"""Bytes of a ZIP's local header before the name; its last two fields are the lengths of the name
and of the extra field (APPNOTE 4.3.7)."""


class StoredImage(NamedTuple):
    """Where an image's bytes are; nothing is read before it is asked for. May be pickled."""

    archive: Path
    name: str
    offset: int
    size: int

    def read(self) -> bytes:
        """The file's bytes."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def open(self) -> "PilImage":
        """The image, by Pillow, decoded when it is used.

        Raises:
            PackageMissing: Pillow is not installed.
        """
        from pixcrawler.client.packages import required

        opened: PilImage = required("PIL.Image", "pillow").open(io.BytesIO(self.read()))
        return opened


class Sample(NamedTuple):
    """An image and what is known about it."""

    record: Record
    image: StoredImage


class Dataset:
    """A dataset in a folder.

    Args:
        path: The folder that holds its `dataset.json`.

    Raises:
        DatasetError: there is none.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.index: dict[str, Any] = json.loads((self.path / INDEX).read_text("utf-8"))
            self.job_id = str(self.index["job_id"])
            self.totals = Images.model_validate(self.index["images"])
            names = [str(file["path"]) for file in self.index["files"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{self.path} holds no whole dataset: {error}") from error
        self.archives: Sequence[Path] = tuple(
            self.path / name for name in names if name.endswith((".zip", ".tar"))
        )

    def __len__(self) -> int:
        """How many images there are."""
        return self.totals.valid

    def __iter__(self) -> Iterator[Sample]:
        """The same as `images()`."""
        return self.images()

    def __repr__(self) -> str:
        return f"Dataset({str(self.path)!r}, {len(self)} images)"

    @cached_property
    def records(self) -> Sequence[Record]:
        """What is known about each image, in the order of `images()`."""
        return tuple(sample.record for sample in self.images())

    def images(self) -> Iterator[Sample]:
        """Every image with its record, archive by archive; bytes are read when asked for."""
        for archive in self.archives:
            yield from samples_of(archive)

    def to_hf(self, **options: Any) -> Any:
        """A `datasets.Dataset` with a column `image` and one for each field of the records.

        Args:
            options: For `datasets.Dataset.from_generator`, such as `cache_dir`.

        Raises:
            PackageMissing: `datasets` is not installed.
        """
        from pixcrawler.client import packages

        return packages.to_hf(self, **options)

    def to_webdataset(self, **options: Any) -> Any:
        """A `webdataset.WebDataset` of samples `{__key__, <extension>: bytes, "json": bytes}`.

        Works for both formats of archives, and shares them among nodes and workers.

        Args:
            options: For `webdataset.WebDataset`, such as `shardshuffle`.

        Raises:
            PackageMissing: `webdataset` is not installed.
        """
        from pixcrawler.client import packages

        return packages.to_webdataset(self, **options)


def samples_of(archive: Path) -> Iterator[Sample]:
    """The images of one archive, in the order of their names.

    Raises:
        DatasetError: it is not there, or is none of ours.
    """
    read = _tar_samples if archive.suffix == ".tar" else _zip_samples
    try:
        yield from read(archive)
    except (OSError, BadZipFile, tarfile.TarError, struct.error, ValueError, KeyError) as error:
        raise DatasetError(f"{archive} cannot be read: {error}") from error


def _zip_samples(archive: Path) -> Iterator[Sample]:
    with archive.open("rb") as file, ZipFile(file) as members:
        for line in members.read(METADATA).splitlines():
            record = Record.model_validate_json(line)
            info = members.getinfo(record.file_name)
            if info.compress_type != ZIP_STORED:
                raise BadZipFile(f"{info.filename} is compressed")
            place = StoredImage(archive, info.filename, _offset(file, info), info.file_size)
            yield Sample(record, place)


def _offset(file: io.BufferedReader, info: ZipInfo) -> int:
    """Where a member's content begins: behind a header whose length only it says itself."""
    file.seek(info.header_offset)
    name, extra = struct.unpack("<26xHH", file.read(_LOCAL_HEADER))
    return info.header_offset + _LOCAL_HEADER + int(name) + int(extra)


def _tar_samples(archive: Path) -> Iterator[Sample]:
    with tarfile.open(archive, "r:") as members:
        waiting: dict[str, StoredImage | Record] = {}
        for info in members:
            stem, _, extension = info.name.rpartition(".")
            mine: StoredImage | Record
            if extension == "json":
                content = members.extractfile(info)
                mine = Record.model_validate_json(content.read() if content else b"")
            else:
                mine = StoredImage(archive, info.name, info.offset_data, info.size)
            other = waiting.pop(stem, None)
            if other is None:
                waiting[stem] = mine
            elif isinstance(mine, Record) and isinstance(other, StoredImage):
                yield Sample(mine, other)
            elif isinstance(mine, StoredImage) and isinstance(other, Record):
                yield Sample(other, mine)
