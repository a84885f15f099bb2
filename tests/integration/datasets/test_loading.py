"""What others' loaders make of a dataset: the real packages, offline, with their caches apart."""

import json
import os
import pickle
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple
from zipfile import ZipFile

import pytest

from pixcrawler.client import Dataset, DatasetError
from tests.integration.datasets.made import make_dataset, picture

pytestmark = pytest.mark.filterwarnings("ignore")  # other people's packages warn as they like

FORMATS = ("jpeg", "png", "webp", "gif", "bmp", "tiff", "jpeg", "avif", "jpeg")


class Made(NamedTuple):
    """The same images as ZIPs and as tars; and where the loaders may keep what they like."""

    zips: Path
    tars: Path
    avif: Path
    cache: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("datasets")
    return Made(
        make_dataset(root / "zips", "zip", FORMATS),
        make_dataset(root / "tars", "webdataset", FORMATS),
        make_dataset(root / "avif", "zip", ["avif", "avif", "avif", "jpeg"]),
        root / "cache",
    )


@pytest.fixture(scope="module")
def hf(made: Made) -> Iterator[ModuleType]:
    """`datasets`, which reads its settings when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", os.fspath(made.cache))
        import datasets

        datasets.disable_progress_bars()
        yield datasets


def expected(folder: Path) -> dict[str, Any]:
    """sha256 → URL of what is in the dataset, as `images.parquet` says."""
    import pandas as pd

    table = pd.read_parquet(folder / "images.parquet")
    return dict(zip(table["sha256"], table["url"], strict=True))


def loaded(found: Any) -> dict[str, Any]:
    """The same as a loader says, whose images can all be decoded."""
    assert [row["image"].size for row in found] == [(24, 24)] * len(found)
    return {row["sha256"]: row["url"] for row in found}


def test_zipped_archives_load_as_an_imagefolder(hf: ModuleType, made: Made) -> None:
    """`load_dataset("imagefolder", data_dir=DIR)` gives every image with its metadata."""
    options = {"split": "train", "cache_dir": os.fspath(made.cache / "a")}
    found = hf.load_dataset("imagefolder", data_dir=os.fspath(made.zips), **options)
    assert loaded(found) == expected(made.zips)
    assert found[0]["license"]
    assert found[0]["width"] == 24


def test_the_folder_loads_by_its_card(hf: ModuleType, made: Made) -> None:
    """`load_dataset(DIR)` finds the archives through the card's YAML."""
    options = {"split": "train", "cache_dir": os.fspath(made.cache / "b")}
    assert loaded(hf.load_dataset(os.fspath(made.zips), **options)) == expected(made.zips)


def test_unpacked_archives_load_as_an_imagefolder(
    hf: ModuleType, made: Made, tmp_path: Path
) -> None:
    """The same when each archive was unpacked into a folder of its own."""
    for archive in made.zips.glob("*.zip"):
        with ZipFile(archive) as opened:
            opened.extractall(tmp_path / "unpacked" / archive.stem)
    found = hf.load_dataset(
        "imagefolder",
        data_dir=os.fspath(tmp_path / "unpacked"),
        split="train",
        cache_dir=os.fspath(made.cache / "c"),
    )
    assert loaded(found) == expected(made.zips)


def test_avif_loads_where_the_loader_is_named(hf: ModuleType, made: Made) -> None:
    """The card says so: `datasets` does not guess that a folder of AVIF holds images."""
    options = {"split": "train", "cache_dir": os.fspath(made.cache / "d")}
    found = hf.load_dataset("imagefolder", data_dir=os.fspath(made.avif), **options)
    assert loaded(found) == expected(made.avif)


@pytest.mark.parametrize("form", ["zips", "tars", "avif"])
def test_to_hf(hf: ModuleType, made: Made, form: str) -> None:
    """The SDK's helper gives the same from ZIPs and tars, whatever the formats are."""
    folder = getattr(made, form)
    dataset = Dataset(folder)
    found = dataset.to_hf(cache_dir=os.fspath(made.cache / "e"))
    assert isinstance(found, hf.Dataset)
    assert loaded(found) == expected(folder)
    assert {"image", "license", "phash", "width"} <= set(found.column_names)


def test_tars_load_with_webdataset(made: Made) -> None:
    """Every image and its JSON, as one sample."""
    import webdataset as wds

    shards = sorted(map(os.fspath, made.tars.glob("*.tar")))
    found = [json.loads(sample["json"]) for sample in wds.WebDataset(shards, shardshuffle=False)]
    assert {each["sha256"]: each["url"] for each in found} == expected(made.tars)


@pytest.mark.parametrize("form", ["zips", "tars"])
def test_to_webdataset(made: Made, form: str) -> None:
    """The SDK's helper gives the same from both formats, and goes on as any WebDataset does."""
    dataset = Dataset(getattr(made, form))
    samples = {sample["__key__"]: sample for sample in dataset.to_webdataset()}
    images = {Path(s.record.file_name).stem: (s.record, s.image) for s in dataset.images()}
    assert samples.keys() == images.keys()
    for key, (record, image) in images.items():
        assert samples[key][image.name.rpartition(".")[2]] == image.read()
        assert json.loads(samples[key]["json"]) == record.model_dump(exclude_unset=True)
    jpegs = dataset.to_webdataset().select(lambda sample: "jpg" in sample)
    assert [each.size for (each,) in jpegs.decode("pil").to_tuple("jpg")] == [
        (24, 24)
    ] * FORMATS.count("jpeg")


@pytest.mark.parametrize("form", ["zips", "tars"])
def test_croissant(made: Made, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mlcroissant` has nothing to say against it, and gives every record and every image."""
    # It keeps what it unpacked under the archive's name, for ever.
    monkeypatch.setenv("CROISSANT_CACHE", os.fspath(made.cache / "croissant" / form))
    import mlcroissant as mlc

    folder = getattr(made, form)
    described = mlc.Dataset(os.fspath(folder / "croissant.json"))
    issues = described.metadata.ctx.issues
    assert (issues.errors, issues.warnings) == (set(), set())
    rows = list(described.records("images"))
    assert {row["images/sha256"].decode(): row["images/url"].decode() for row in rows} == expected(
        folder
    )
    images = list(described.records("image_files"))
    assert [each["image_files/image"].size for each in images] == [(24, 24)] * len(rows)


@pytest.mark.parametrize("form", ["zips", "tars", "avif"])
def test_images_without_unpacking(made: Made, form: str) -> None:
    """Each image is read out of its archive when it is asked for; in another process too."""
    dataset = Dataset(getattr(made, form))
    samples = list(dataset.images())
    assert len(samples) == len(dataset) == len(dataset.records)
    whole = {picture(n, each) for n, each in enumerate(FORMATS)}
    for record, image in pickle.loads(pickle.dumps(samples)):
        assert len(image.read()) == record.bytes
        assert form == "avif" or image.read() in whole
        assert image.open().size == (record.width, record.height)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Images of every format, made WebP of 16 by 16."""
    root = tmp_path_factory.mktemp("squares")
    wish = {"resize_mode": "center_crop", "image_size": 16, "image_format": "webp"}
    formats = sorted(set(FORMATS))
    other = "0198c0de-0000-7000-8000-000000000002"
    zips = make_dataset(root / "zips", "zip", formats, job_id=other, transform=wish)
    tars = make_dataset(root / "tars", "webdataset", formats, job_id=other, transform=wish)
    return Made(zips, tars, root, root / "cache")


def test_transformed_images_load_everywhere(
    hf: ModuleType, squares: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an imagefolder, with the SDK's helpers, as WebDataset and through Croissant."""
    monkeypatch.setenv("CROISSANT_CACHE", os.fspath(squares.cache / "croissant"))
    import mlcroissant as mlc
    import pandas as pd
    import webdataset as wds

    options = {"split": "train", "cache_dir": os.fspath(squares.cache / "a")}
    folder = hf.load_dataset("imagefolder", data_dir=os.fspath(squares.zips), **options)
    ours = Dataset(squares.tars).to_hf(cache_dir=os.fspath(squares.cache / "b"))
    shards = sorted(map(os.fspath, squares.tars.glob("*.tar")))
    tars = wds.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("webp", "json")
    samples = {record["sha256"]: image.size for image, record in tars}
    described = mlc.Dataset(os.fspath(squares.zips / "croissant.json"))
    rows = list(described.records("images"))
    files = list(described.records("image_files"))
    table = pd.read_parquet(squares.zips / "images.parquet").set_index("sha256")

    size = (16, 16)
    assert dict.fromkeys(table.index, size) == samples
    for found in (folder, ours):
        assert {row["sha256"]: row["image"].size for row in found} == samples
        assert {row["original_format"] for row in found} == set(FORMATS)
        assert {row["original_width"] for row in found} == {24}
        assert {(row["width"], row["height"], row["format"]) for row in found} == {(*size, "webp")}
    assert {row["images/original_sha256"].decode() for row in rows} == set(table["original_sha256"])
    assert [each["image_files/image"].size for each in files] == [size] * len(rows)
    for record, image in Dataset(squares.zips).images():
        assert (record.sha256, record.bytes) == (sha256(image.read()).hexdigest(), image.size)
        assert record.original_sha256.startswith(Path(image.name).stem)
        assert image.open().size == size


def test_a_folder_without_a_dataset(made: Made, tmp_path: Path) -> None:
    """What is none, or is not whole, is one line that names it."""
    with pytest.raises(DatasetError, match=str(tmp_path)):
        Dataset(tmp_path)
    (tmp_path / "dataset.json").write_bytes((made.zips / "dataset.json").read_bytes())
    with pytest.raises(DatasetError, match=r"chunk_.*\.zip cannot be read"):
        list(Dataset(tmp_path).images())
