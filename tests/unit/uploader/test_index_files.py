"""The files of a dataset's index: tables of fixed bytes, a card and a Croissant that read well."""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from pixcrawler.common.chunk_outcomes import OutcomeRow
from pixcrawler.common.documents import DatasetFile
from pixcrawler.common.events import ImageTotals, JobFacts
from pixcrawler.common.jobs import Job, Options
from pixcrawler.common.outcomes import Outcome
from pixcrawler.uploader import card
from pixcrawler.uploader.croissant import CONTEXT, croissant
from pixcrawler.uploader.images import Format, kept_images
from pixcrawler.uploader.tables import (
    IMAGE_COLUMNS,
    OUTCOME_COLUMNS,
    ROW_GROUP,
    ImageRow,
    LicenseTable,
    ParquetTable,
    counted_outcomes,
)
from tests.unit.uploader.made import make_chunk
from tests.unit.uploader.test_archive import FIELDS

CHUNK = "0198c0de-0000-7000-8000-000000000001-00000"
FACTS = JobFacts(
    round=2,
    closed_round=2,
    status="incomplete",
    reason="exhausted",
    total_chunks=3,
    requested=10,
    kept=4,
    closed_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
)
TOTALS = ImageTotals(candidates=7, downloaded=5, valid=4, dropped={"timeout": 2, "surplus": 1})


def job(form: Format = "zip", *, name: str = "") -> Job:
    return Job(
        job_id=CHUNK[:36],
        owner="o",
        name=name,
        keywords=("red panda", "*bold* | [link](x)\nnext"),
        sources=("openverse", "commons"),
        max_images=10,
        chunk_size=500,
        priority=5,
        options=Options(format=form),
        round=2,
        cancelled=False,
        deleted=False,
    )


def rows(number: int) -> list[OutcomeRow]:
    return [
        OutcomeRow(url=f"https://example.org/{at}", outcome=Outcome.TIMEOUT, chunk_id=CHUNK)
        for at in range(number)
    ]


def test_tables_have_the_same_bytes_however_rows_come(tmp_path: Path) -> None:
    """Rows in one go or in many give the same Parquet file, over more than one row group."""
    many = rows(2 * ROW_GROUP + 5)
    with ParquetTable(tmp_path / "a", OUTCOME_COLUMNS) as table:
        table.add(many)
    with ParquetTable(tmp_path / "b", OUTCOME_COLUMNS) as table:
        for at in range(0, len(many), 777):
            table.add(many[at : at + 777])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert pq.ParquetFile(tmp_path / "a").num_row_groups == 3


def test_outcomes_are_counted_as_they_were_written(tmp_path: Path) -> None:
    """Reading `outcomes.parquet` back gives every row's outcome, size and hash in order."""
    row = OutcomeRow(url="u", outcome=Outcome.KEPT, chunk_id=CHUNK, bytes=5, sha256="ab")
    with ParquetTable(tmp_path / "o", OUTCOME_COLUMNS) as table:
        table.add([row, *rows(2)])
    counted = list(counted_outcomes(tmp_path / "o"))
    assert counted == [(Outcome.KEPT, 5, "ab"), (Outcome.TIMEOUT, 0, ""), (Outcome.TIMEOUT, 0, "")]


def test_an_empty_table_has_its_columns(tmp_path: Path) -> None:
    """A dataset without images still has tables that load, with the columns that users rely on."""
    with ParquetTable(tmp_path / "i", IMAGE_COLUMNS), ParquetTable(tmp_path / "o", OUTCOME_COLUMNS):
        pass
    assert pq.read_table(tmp_path / "i").column_names == [*FIELDS, "chunk_id"]
    assert pq.read_table(tmp_path / "o").column_names == [
        *("url", "outcome", "detail", "source", "keyword", "chunk_id", "http_status"),
        *("final_url", "bytes", "sha256", "phash", "duplicate_of", "elapsed_ms"),
    ]


def test_images_and_licenses_say_the_same(tmp_path: Path) -> None:
    """Both tables have one row per image, in the same order, with text as it was found."""
    made = make_chunk(CHUNK, [b"a", b"b", b"c"])
    images = [
        ImageRow(**image.record.model_dump(), chunk_id=CHUNK)
        for image in kept_images(made.candidates, made.verdicts, "zip")
    ]
    with ParquetTable(tmp_path / "i", IMAGE_COLUMNS) as table:
        table.add(images)
    with LicenseTable(tmp_path / "l") as licenses:
        licenses.add(images)
    read = pq.read_table(tmp_path / "i").to_pylist()
    with (tmp_path / "l").open(encoding="utf-8", newline="") as file:
        listed = list(csv.DictReader(file))
    assert [row["file_name"] for row in read] == [row["file_name"] for row in listed]
    for row, license_row in zip(read, listed, strict=True):
        assert {name: row[name] for name in license_row} == license_row
        assert None not in row.values()


def test_the_card_loads_the_archives_and_nothing_else() -> None:
    """The YAML head is YAML, names the archives by pattern, and survives any name of a job."""
    patterns: tuple[tuple[Format, str], ...] = (
        ("zip", "chunk_*.zip"),
        ("webdataset", "chunk_*.tar"),
    )
    for form, pattern in patterns:
        text = card.card(
            job(form, name='a: "b"\n---\n# c'),
            FACTS,
            TOTALS,
            licenses={"": 1},
            archives=2,
        ).decode()
        _, head, body = text.split("---\n", 2)
        read = yaml.safe_load(head)
        assert read["configs"] == [{"config_name": "default", "data_files": pattern}]
        assert read["pretty_name"] == 'a: "b"\n---\n# c'
        assert "\n# c" not in body


def test_the_card_of_nothing() -> None:
    """A dataset without an image says so; its licences are no promise."""
    text = card.card(
        job(), FACTS, ImageTotals(candidates=7, dropped={"timeout": 7}), licenses={}, archives=0
    )
    assert "\nNo images found by searching for red panda" in text.decode()


def test_the_card_tells_what_decided() -> None:
    """Hashes depend on the versions of what made them."""
    text = card.card(
        job(), FACTS, TOTALS, licenses={}, archives=1, decided_with=["Pillow 13.0.0"]
    ).decode()
    assert "- Decoded and hashed with Pillow 13.0.0." in text


def test_the_card_counts() -> None:
    """Every outcome and licence is in its table, and text of others has no meaning as Markdown."""
    text = card.card(job(), FACTS, TOTALS, licenses={"CC0-1.0": 3, "": 1}, archives=2).decode()
    assert "| kept | 4 | in an archive |" in text
    assert "| timeout | 2 |" in text
    assert "| all | 7 |" in text
    assert "| CC0-1.0 | 3 |" in text
    assert "| not stated | 1 |" in text
    assert "Asked for 10 images, kept 4: incomplete (the sources have no more)" in text
    assert "\\*bold\\* \\| \\[link\\](x) next" in text


def described(form: Format, archives: int) -> dict[str, Any]:
    def file(path: str) -> DatasetFile:
        return DatasetFile(path=path, object=f"x/{path}", size=3, sha256="0" * 64)

    document = croissant(
        job(form),
        name="n",
        description="d",
        published="2026-01-02T03:04:00+00:00",
        round_number=2,
        licenses=["CC0-1.0"],
        extensions={"png", "jpg"},
        images=file("images.parquet"),
        archives=[file(f"chunk_{at}.zip") for at in range(archives)],
    )
    read: dict[str, Any] = json.loads(document)
    return read


def test_croissant_says_where_everything_is() -> None:
    """Files with their hashes, `images` first from the table, then the images in the archives."""
    document = described("zip", 2)
    assert document["@context"] == CONTEXT
    assert CONTEXT["containedIn"] == "cr:containedIn"
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    table, first, second, files = document["distribution"]
    assert table["sha256"] == first["sha256"] == "0" * 64
    assert files["containedIn"] == [{"@id": first["@id"]}, {"@id": second["@id"]}]
    images, contents = document["recordSet"]
    assert images["@id"] == "images"
    assert [field["name"] for field in images["field"]] == list(IMAGE_COLUMNS)
    assert {f["source"]["fileObject"]["@id"] for f in images["field"]} == {table["@id"]}
    assert contents["field"][1]["dataType"] == "sc:ImageObject"


def test_croissant_without_archives_has_no_files() -> None:
    """A dataset without images describes its empty table and nothing that is not there."""
    document = described("webdataset", 0)
    assert [file["@id"] for file in document["distribution"]] == ["images.parquet"]
    assert [records["@id"] for records in document["recordSet"]] == ["images"]
