"""Datasets in other libraries' hands; each is imported only when it is asked for."""

import importlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixcrawler.client.dataset import samples_of
from pixcrawler.client.errors import PackageMissing
from pixcrawler.client.values import Record

if TYPE_CHECKING:
    from pixcrawler.client.dataset import Dataset


def required(module: str, package: str) -> Any:
    """A module of a package that is not ours to install.

    Raises:
        PackageMissing: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise PackageMissing(f"this needs {package}: pip install {package}") from error


_NUMBERS = frozenset(
    {"width", "height", "bytes", "original_width", "original_height", "original_bytes"}
)


def to_hf(dataset: "Dataset", **options: Any) -> Any:
    """See `Dataset.to_hf`."""
    library = required("datasets", "datasets")
    required("PIL.Image", "pillow")
    names = _columns(dataset)
    columns = {name: library.Value("int64" if name in _NUMBERS else "string") for name in names}
    return library.Dataset.from_generator(
        _rows,
        features=library.Features({"image": library.Image(), **columns}),
        gen_kwargs={
            "archives": [os.fspath(path) for path in dataset.archives],
            "columns": [names] * len(dataset.archives),
        },
        **options,
    )


def _columns(dataset: "Dataset") -> tuple[str, ...]:
    """The fields that this dataset's records have, which are those of its first one."""
    first = next(dataset.images(), None)
    there = Record.model_fields if first is None else first.record.model_fields_set
    return tuple(name for name in Record.model_fields if name in there and name != "file_name")


def _rows(archives: Sequence[str], columns: Sequence[Sequence[str]]) -> Iterator[dict[str, Any]]:
    """Rows of these archives, and their columns; the library splits both lists among processes."""
    for archive, names in zip(archives, columns, strict=True):
        for record, image in samples_of(Path(archive)):
            known = {name: getattr(record, name) for name in names}
            yield {"image": {"bytes": image.read(), "path": record.file_name}, **known}


def to_webdataset(dataset: "Dataset", **options: Any) -> Any:
    """See `Dataset.to_webdataset`."""
    library = required("webdataset", "webdataset")
    shards = [os.fspath(path) for path in dataset.archives]
    if all(path.suffix == ".tar" for path in dataset.archives):
        return library.WebDataset(shards, **{"shardshuffle": False, **options})

    # As `WebDataset` is made, with another reader.
    pipeline = type("ZippedDataset", (library.DataPipeline, library.FluidInterface), {})
    shuffle = int(options.pop("shardshuffle", 0) or 0)
    if options:
        raise TypeError(f"no options for ZIP archives: {', '.join(sorted(options))}")
    stages = [
        library.SimpleShardList(shards),
        library.split_by_node,
        library.split_by_worker,
        *([library.shuffle(shuffle)] if shuffle else []),
        _zipped_samples,
    ]
    return pipeline(*stages)


def _zipped_samples(shards: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for shard in shards:
        for record, image in samples_of(Path(shard["url"])):
            stem, _, extension = Path(record.file_name).name.rpartition(".")
            yield {
                "__key__": stem,
                "__url__": shard["url"],
                extension: image.read(),
                "json": record.model_dump_json(exclude_unset=True).encode(),
            }
