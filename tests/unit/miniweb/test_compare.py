"""The comparison finds every kind of mistake, and nothing where there is none."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from pixcrawler.miniweb.compare import archive_metadata, compare, compare_dataset
from pixcrawler.miniweb.truth import Listing, Truth

Row = dict[str, Any]


def listing(name: str, source: str = "commons") -> Listing:
    return Listing(
        source, "cat", "CC0-1.0", "https://cc0.example/", f"By {name}", f"Cat {name}",
        f"https://commons.example/{name}",
    )  # fmt: skip


def image(name: str, body: bytes, group: str = "", **facts: Any) -> Truth:
    return Truth(
        url=f"http://h/{name}.jpg",
        kind="photo",
        outcome="kept",
        listings=(listing(name),),
        group=group,
        sha256=hashlib.sha256(body).hexdigest(),
        bytes=len(body),
        format="jpeg",
        width=320,
        height=240,
        phash="00000000000000ff",
        **facts,
    )


BODIES = {name: name.encode() * 9 for name in ("one", "two", "moved", "twin", "near")}
TRUTH = {
    true.url: true
    for true in (
        image("one", BODIES["one"]),
        image("two", BODIES["two"]),
        image("moved", BODIES["moved"], final_url="http://h/there.jpg"),
        image("twin-a", BODIES["twin"], "g"),
        image("twin-b", BODIES["twin"], "g"),
        image("near", BODIES["near"], "g"),
        Truth("http://h/404.jpg", "status-404", "http_error", (listing("404"),), http_status=404),
        Truth("http://h/cut.jpg", "jpeg-cut-60", "corrupt", (listing("cut"),)),
    )
}
DATA = {hashlib.sha256(body).hexdigest(): body for body in BODIES.values()}


class Result:
    """What a perfect job leaves behind; tests spoil it."""

    def __init__(self, kept_of_group: str = "http://h/twin-a.jpg") -> None:
        self.outcomes = [self._outcome(true, kept_of_group) for true in TRUTH.values()]
        self.metadata = [
            self._metadata(TRUTH[row["url"]]) for row in self.outcomes if row["outcome"] == "kept"
        ]
        self.images = {row["file_name"]: DATA[row["sha256"]] for row in self.metadata}

    @staticmethod
    def _outcome(true: Truth, kept_of_group: str) -> Row:
        kept = TRUTH[kept_of_group]
        outcome, of = true.outcome, None
        if true.group and true is not kept:
            outcome = "duplicate" if true.sha256 == kept.sha256 else "near_duplicate"
            of = kept.url
        return {
            "url": true.url, "outcome": outcome, "detail": "", "source": "commons",
            "keyword": "cat", "http_status": true.http_status or 200,
            "final_url": true.final_url or true.url, "bytes": true.bytes, "sha256": true.sha256,
            "duplicate_of": of,
        }  # fmt: skip

    @staticmethod
    def _metadata(true: Truth) -> Row:
        it = true.listings[0]
        return {
            "file_name": f"images/{true.sha256[:20]}.jpg", "url": true.url, "source": it.source,
            "keyword": it.keyword, "title": it.title, "creator": it.creator,
            "license": it.license, "license_url": it.license_url, "landing_url": it.landing_url,
            "width": 320, "height": 240, "format": "JPEG", "bytes": true.bytes,
            "sha256": true.sha256, "phash": "00000000000000fe",
        }  # fmt: skip

    def row(self, name: str) -> Row:
        return next(row for row in self.outcomes if row["url"] == f"http://h/{name}.jpg")

    def facts(self, name: str) -> Row:
        return next(row for row in self.metadata if row["url"] == f"http://h/{name}.jpg")

    def drop(self, name: str, outcome: str) -> None:
        """Makes a kept image something else, consistently."""
        facts = self.facts(name)
        self.row(name)["outcome"] = outcome
        self.metadata.remove(facts)
        del self.images[facts["file_name"]]

    def archive(self, folder: Path) -> list[Path]:
        path = folder / "chunk_0.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, body in self.images.items():
                archive.writestr(name, body)
            lines = "".join(f"{json.dumps(row)}\n" for row in self.metadata)
            archive.writestr("metadata.jsonl", lines)
        return [path]

    def differences(self, folder: Path, requested: int | None = None) -> list[str]:
        return compare(
            TRUTH, self.outcomes, self.metadata, self.archive(folder), requested=requested
        )


@pytest.mark.parametrize("kept", ["twin-a", "twin-b", "near"])
def test_a_perfect_result_has_no_differences(tmp_path: Path, kept: str) -> None:
    """Whichever of a group is kept, and however many were asked for above the supply."""
    result = Result(f"http://h/{kept}.jpg")
    assert result.differences(tmp_path) == []
    assert result.differences(tmp_path, requested=100) == []


SPOILERS: dict[str, tuple[Callable[[Result], object], str]] = {
    "wrong outcome": (lambda it: it.row("cut").update(outcome="not_image"), "must be corrupt"),
    "corrupt file kept": (lambda it: it.row("cut").update(outcome="kept"), "must be corrupt"),
    "lost url": (lambda it: it.outcomes.remove(it.row("404")), "no outcome"),
    "lost image": (lambda it: it.drop("one", "corrupt"), "is corrupt, must be kept"),
    "url twice": (lambda it: it.outcomes.append(it.row("404")), "2 outcomes"),
    "unknown url": (
        lambda it: it.outcomes.append(it.row("404") | {"url": "http://x/"}),
        "no URL of this web",
    ),
    "chunk given up": (lambda it: it.drop("two", "failed"), "is failed"),
    "surplus without need": (lambda it: it.drop("two", "surplus"), "is surplus"),
    "two kept of a group": (
        lambda it: it.row("near").update(outcome="kept", duplicate_of=None),
        "has 2 kept images",
    ),
    "none kept of a group": (lambda it: it.drop("twin-a", "duplicate"), "has 0 kept images"),
    "equal called near": (
        lambda it: it.row("twin-b").update(outcome="near_duplicate"),
        "must be duplicate of",
    ),
    "near called equal": (
        lambda it: it.row("near").update(outcome="duplicate"),
        "must be near_duplicate of",
    ),
    "duplicate of another": (
        lambda it: it.row("near").update(duplicate_of="http://h/one.jpg"),
        "must be of http://h/twin-a.jpg",
    ),
    "wrong status": (lambda it: it.row("404").update(http_status=500), "http_status is 500"),
    "redirect not followed": (
        lambda it: it.row("moved").update(final_url="http://h/moved.jpg"),
        "final_url",
    ),
    "other bytes reported": (lambda it: it.row("one").update(sha256="00"), "sha256 is '00'"),
    "other source": (lambda it: it.row("one").update(source="openverse"), "not found by"),
    "licence lost": (lambda it: it.facts("one").update(license=""), "license is ''"),
    "wrong licence": (lambda it: it.facts("one").update(license="CC-BY-4.0"), "must be 'CC0-1.0'"),
    "wrong licence url": (lambda it: it.facts("one").update(license_url="x"), "license_url"),
    "wrong creator": (lambda it: it.facts("one").update(creator="<b>By one</b>"), "creator"),
    "wrong title": (lambda it: it.facts("one").update(title="File:Cat one.jpg"), "title"),
    "wrong landing page": (lambda it: it.facts("one").update(landing_url="x"), "landing_url"),
    "another's facts": (
        lambda it: it.facts("one").update(creator=it.facts("two")["creator"]),
        "creator is 'By two'",
    ),
    "wrong size": (lambda it: it.facts("one").update(width=1), "size is (1, 240)"),
    "wrong format": (lambda it: it.facts("one").update(format="png"), "format is 'png'"),
    "wrong hash": (lambda it: it.facts("one").update(phash="f" * 16), "bits from"),
    "metadata missing": (lambda it: it.metadata.remove(it.facts("one")), "has 0 rows"),
    "metadata twice": (lambda it: it.metadata.append(it.facts("one")), "has 2 rows"),
    "metadata of a dropped image": (
        lambda it: it.metadata.append(it.facts("one") | {"url": "http://h/cut.jpg"}),
        "is corrupt and has 1 rows",
    ),
    "metadata of no candidate": (
        lambda it: it.metadata.append(it.facts("one") | {"url": "http://x/"}),
        "no candidate",
    ),
    "image missing": (lambda it: it.images.pop(it.facts("one")["file_name"]), "are 0 times"),
    "image twice": (
        lambda it: it.images.update({"images/copy.jpg": BODIES["one"]}),
        "are 2 times",
    ),
    "image changed": (
        lambda it: it.images.update({it.facts("one")["file_name"]: b"changed"}),
        "bytes of no kept image",
    ),
    "stranger in the archive": (
        lambda it: it.images.update({"images/x.jpg": b"stranger"}),
        "bytes of no kept image",
    ),
    "named otherwise": (
        lambda it: it.facts("one").update(file_name="images/one.jpg"),
        "is called images/one.jpg",
    ),
}


@pytest.mark.parametrize("name", SPOILERS)
def test_every_mistake_is_found(tmp_path: Path, name: str) -> None:
    """Each planted mistake is told, in words that say what is wrong."""
    spoil, words = SPOILERS[name]
    result = Result()
    spoil(result)
    found = result.differences(tmp_path)
    assert any(words in line for line in found), found


def test_a_wrong_extension_is_found(tmp_path: Path) -> None:
    """An archive's names tell the true format."""
    result = Result()
    old = result.facts("one")["file_name"]
    new = old.replace(".jpg", ".png")
    result.facts("one")["file_name"] = new
    result.images[new] = result.images.pop(old)
    assert "of the format jpeg" in " ".join(result.differences(tmp_path))


def test_when_fewer_were_asked_for_others_may_be_surplus(tmp_path: Path) -> None:
    """Exactly the number is kept; what was valid beyond it is surplus or was never tried."""
    result = Result()
    result.drop("one", "surplus")
    result.drop("moved", "surplus")
    result.outcomes.remove(result.row("404"))
    assert result.differences(tmp_path, requested=2) == []


def test_the_number_must_be_exact(tmp_path: Path) -> None:
    """One image more or less than asked for is a difference, also where others are surplus."""
    result = Result()
    result.drop("one", "surplus")
    for requested in (2, 4):
        assert "are kept, must be" in " ".join(result.differences(tmp_path, requested=requested))


def test_a_copy_may_be_surplus_once_the_number_is_reached(tmp_path: Path) -> None:
    """With just the supply asked for: a late copy may be surplus, an image of its own may not."""
    result = Result()
    result.row("near").update(outcome="surplus", duplicate_of=None)
    assert result.differences(tmp_path, requested=4) == []
    assert "is surplus" in " ".join(result.differences(tmp_path, requested=5))
    result.drop("one", "surplus")
    assert "is surplus, must be kept" in " ".join(result.differences(tmp_path, requested=4))


def test_surplus_is_for_valid_images(tmp_path: Path) -> None:
    """A file that could not be kept is no surplus."""
    result = Result()
    result.drop("one", "surplus")
    result.row("cut")["outcome"] = "surplus"
    assert "must be corrupt" in " ".join(result.differences(tmp_path, requested=3))


def test_a_url_list_knows_nothing_about_its_images(tmp_path: Path) -> None:
    """With the source `urls` licence, creator and title are empty, and must be."""
    result = Result()
    empty = dict.fromkeys(("keyword", "license", "license_url", "creator", "title"), "")
    for row in result.outcomes:
        row.update(source="urls", keyword="")
    for row in result.metadata:
        row.update(empty, source="urls", landing_url="")
    assert result.differences(tmp_path) == []
    result.facts("one")["creator"] = "someone"
    assert "creator is 'someone'" in " ".join(result.differences(tmp_path))


def test_tar_archives_are_read(tmp_path: Path) -> None:
    """WebDataset archives hold images and one JSON file for each."""
    result = Result()
    path = tmp_path / "chunk_0.tar"
    with tarfile.open(path, "w") as tar:
        for row in result.metadata:
            name = row["file_name"]
            said = json.dumps(row).encode()
            for entry, body in ((name, DATA[row["sha256"]]), (f"{name[:-4]}.json", said)):
                info = tarfile.TarInfo(entry)
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
    assert compare(TRUTH, result.outcomes, result.metadata, [path]) == []
    assert archive_metadata([path]) == result.metadata


def test_a_dataset_is_compared_from_its_folder(tmp_path: Path) -> None:
    """Parquet files and archives of a dataset's folder are found and read."""
    result = Result()
    result.archive(tmp_path)
    parquet.write_table(pa.Table.from_pylist(result.outcomes), tmp_path / "outcomes.parquet")
    parquet.write_table(pa.Table.from_pylist(result.metadata), tmp_path / "images.parquet")
    assert compare_dataset(TRUTH, tmp_path) == []
    assert archive_metadata(sorted(tmp_path.glob("*.zip"))) == result.metadata
