"""Compares what a job left behind with the truth of the miniature web.

Rows are those of the dataset: `outcomes` as in outcomes.parquet, `metadata` as in images.parquet
or metadata.jsonl, archives as ZIP or tar files. The answer is a list of sentences, one for each
difference; none means that everything is as it must be.
"""

import hashlib
import json
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixcrawler.miniweb import hashes
from pixcrawler.miniweb.truth import (
    DUPLICATE,
    KEPT,
    NEAR_DUPLICATE,
    SURPLUS,
    Listing,
    Truth,
    supply,
)

Row = Mapping[str, Any]
Truths = Mapping[str, Truth]

URL_LIST = "urls"
"""The source of a job that was given a list: nothing is known about its images."""
HASH_SLACK = 6
"""Bits by which a stated perceptual hash may differ from that of the image at its full size."""
SAME_FORMAT = {"jpg": "jpeg", "tif": "tiff"}


@dataclass(frozen=True, slots=True)
class Archived:
    """An image in an archive, and what the archive's own metadata.jsonl or .json says of it."""

    archive: str
    name: str
    sha256: str
    extension: str


def compare(
    truth: Truths,
    outcomes: Iterable[Row],
    metadata: Iterable[Row],
    archives: Sequence[Path],
    *,
    requested: int | None = None,
) -> list[str]:
    """The differences between a job's result and the truth, in words; empty if there are none.

    `requested` is the number of images that the job asked for. Below the supply, exactly that
    many are kept, others may be `surplus`, and URLs that were not needed need not appear. None,
    or the supply, or more, means that every URL appears and everything is kept that can be (with
    just the supply, a copy of a kept image that is decided last may be `surplus` as well).
    """
    rows = list(outcomes)
    facts = list(metadata)
    possible = supply(truth.values())
    short = requested is not None and requested < possible
    reached = requested is not None and requested <= possible
    by_url = {str(row["url"]): row for row in rows if row["url"] in truth}
    return [
        *_repeated(rows),
        *_unknown(truth, rows),
        *([] if short else _missing(truth, by_url)),
        *_wrong_outcomes(truth, by_url, short=short, reached=reached),
        *_wrong_groups(truth, by_url, short=short),
        *_wrong_number(truth, by_url, requested if short else None),
        *_wrong_details(truth, by_url),
        *_wrong_metadata(truth, by_url, facts),
        *_wrong_archives(truth, by_url, facts, archives),
    ]


def compare_dataset(truth: Truths, folder: Path, *, requested: int | None = None) -> list[str]:
    """`compare` for a dataset's folder as the product leaves it."""
    from pyarrow import parquet

    outcomes = parquet.read_table(folder / "outcomes.parquet").to_pylist()
    images = parquet.read_table(folder / "images.parquet").to_pylist()
    archives = sorted([*folder.glob("chunk_*.zip"), *folder.glob("chunk_*.tar")])
    return compare(truth, outcomes, images, archives, requested=requested)


# --- outcomes -----------------------------------------------------------------------------------


def _repeated(rows: Sequence[Row]) -> Iterator[str]:
    for url, times in Counter(row["url"] for row in rows).items():
        if times > 1:
            yield f"{url} has {times} outcomes"


def _unknown(truth: Truths, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row["url"] not in truth:
            yield f"{row['url']} is no URL of this web"


def _missing(truth: Truths, by_url: Mapping[str, Row]) -> Iterator[str]:
    for url, true in truth.items():
        if url not in by_url:
            yield f"{_name(true)} has no outcome, must be {true.outcome}"


def _wrong_outcomes(
    truth: Truths, by_url: Mapping[str, Row], *, short: bool, reached: bool
) -> Iterator[str]:
    for url, row in by_url.items():
        true = truth[url]
        valid = true.outcome == KEPT and (short or (reached and bool(true.group)))
        spare = {SURPLUS} if valid else set()
        if row["outcome"] not in true.allowed | spare:
            wanted = " or ".join(sorted(true.allowed))
            yield f"{_name(true)} is {row['outcome']}, must be {wanted}{_because(row)}"


def _wrong_groups(truth: Truths, by_url: Mapping[str, Row], *, short: bool) -> Iterator[str]:
    groups: dict[str, list[Truth]] = defaultdict(list)
    for true in truth.values():
        if true.group and true.url in by_url:
            groups[true.group].append(true)
    for name, members in groups.items():
        kept = [one for one in members if by_url[one.url]["outcome"] == KEPT]
        if len(kept) > 1 or (not kept and not short):
            urls = ", ".join(one.url for one in kept)
            yield f"group {name} has {len(kept)} kept images, must have one: {urls}"
        elif kept:
            yield from _wrong_copies(kept[0], members, by_url)


def _wrong_copies(
    kept: Truth, members: Sequence[Truth], by_url: Mapping[str, Row]
) -> Iterator[str]:
    for one in members:
        row = by_url[one.url]
        if one is kept or row["outcome"] not in {DUPLICATE, NEAR_DUPLICATE}:
            continue
        wanted = DUPLICATE if one.sha256 == kept.sha256 else NEAR_DUPLICATE
        if row["outcome"] != wanted:
            yield f"{_name(one)} is {row['outcome']}, must be {wanted} of {kept.url}"
        if row.get("duplicate_of") != kept.url:
            said = row.get("duplicate_of")
            yield f"{_name(one)} is called a duplicate of {said}, must be of {kept.url}"


def _wrong_number(truth: Truths, by_url: Mapping[str, Row], number: int | None) -> Iterator[str]:
    wanted = supply(truth.values()) if number is None else number
    found = sum(row["outcome"] == KEPT for row in by_url.values())
    if found != wanted:
        yield f"{found} images are kept, must be {wanted}"


def _wrong_details(truth: Truths, by_url: Mapping[str, Row]) -> Iterator[str]:
    for url, row in by_url.items():
        true = truth[url]
        if true.http_status and row["outcome"] == "http_error":
            yield from _differs(true, "http_status", row.get("http_status"), true.http_status)
        if row["outcome"] == KEPT:
            yield from _differs(true, "sha256", row.get("sha256"), true.sha256)
            yield from _differs(true, "bytes", row.get("bytes"), true.bytes)
            if true.final_url:
                yield from _differs(true, "final_url", row.get("final_url"), true.final_url)
        if _listing(true, row) is None:
            yield f"{_name(true)} is not found by {row.get('source')} for {row.get('keyword')!r}"


# --- kept images --------------------------------------------------------------------------------


def _wrong_metadata(
    truth: Truths, by_url: Mapping[str, Row], facts: Sequence[Row]
) -> Iterator[str]:
    said = Counter(str(row["url"]) for row in facts)
    for url, row in by_url.items():
        wanted = int(row["outcome"] == KEPT)
        if said[url] != wanted:
            yield f"{_name(truth[url])} is {row['outcome']} and has {said[url]} rows of metadata"
    for row in facts:
        true = truth.get(str(row["url"]))
        if true is None or row["url"] not in by_url:
            yield f"metadata for {row['url']}, which is no candidate"
        else:
            yield from _wrong_facts(true, row)


def _wrong_facts(true: Truth, row: Row) -> Iterator[str]:
    listing = _listing(true, row)
    if listing is None:
        yield f"{_name(true)}: metadata from {row.get('source')} for {row.get('keyword')!r}"
        return
    for name in ("license", "license_url", "creator", "title", "landing_url"):
        yield from _differs(true, name, row.get(name), getattr(listing, name))
    for name in ("sha256", "bytes"):
        yield from _differs(true, name, row.get(name), getattr(true, name))
    yield from _differs(true, "format", _format(row.get("format")), true.format)
    if true.width:
        size = (row.get("width"), row.get("height"))
        yield from _differs(true, "size", size, (true.width, true.height))
    if true.phash:
        apart = hashes.distance(int(str(row.get("phash")), 16), int(true.phash, 16))
        if apart > HASH_SLACK:
            yield f"{_name(true)}: phash {row.get('phash')} is {apart} bits from {true.phash}"


def _listing(true: Truth, row: Row) -> Listing | None:
    source = str(row.get("source"))
    if source == URL_LIST:
        return Listing(URL_LIST, "", "", "", "", "", "")
    return true.listing(source, str(row.get("keyword")))


def _wrong_archives(
    truth: Truths, by_url: Mapping[str, Row], facts: Sequence[Row], archives: Sequence[Path]
) -> Iterator[str]:
    stored = [image for path in archives for image in archived(path)]
    kept = {truth[url].sha256: truth[url] for url, row in by_url.items() if row["outcome"] == KEPT}
    names = {str(row["sha256"]): str(row["file_name"]) for row in facts}
    times = Counter(image.sha256 for image in stored)
    for sha256, true in kept.items():
        if times[sha256] != 1:
            yield f"{_name(true)} is kept, and its bytes are {times[sha256]} times in the archives"
    for image in stored:
        here = f"{image.archive}: {image.name}"
        if image.sha256 not in kept:
            yield f"{here} has the bytes of no kept image"
            continue
        if Path(image.name).stem != image.sha256[:20]:
            yield f"{here} is not named after its sha256 {image.sha256}"
        if _format(image.extension) != kept[image.sha256].format:
            yield f"{here} is of the format {kept[image.sha256].format}"
        if names.get(image.sha256) != image.name:
            yield f"{here} is called {names.get(image.sha256)} in the metadata"


def archived(path: Path) -> Iterator[Archived]:
    """The images in a ZIP or tar archive; metadata is left out."""
    for name, data in _members(path):
        entry = Path(name)
        if entry.suffix not in {".json", ".jsonl"}:
            digest = hashlib.sha256(data).hexdigest()
            yield Archived(path.name, name, digest, entry.suffix.removeprefix("."))


def archive_metadata(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The rows of the metadata inside ZIP (metadata.jsonl) or tar archives (one .json an image)."""
    return [
        json.loads(line)
        for path in paths
        for name, data in _members(path)
        if Path(name).suffix in {".json", ".jsonl"}
        for line in data.decode().splitlines()
        if line.strip()
    ]


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix == ".tar":
        with tarfile.open(path) as tar:
            for member in tar:
                entry = tar.extractfile(member)
                if entry is not None:
                    yield member.name, entry.read()
    else:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield name, archive.read(name)


# --- words --------------------------------------------------------------------------------------


def _differs(true: Truth, name: str, found: object, wanted: object) -> Iterator[str]:
    if found != wanted:
        yield f"{_name(true)}: {name} is {found!r}, must be {wanted!r}"


def _format(name: object) -> str:
    lower = str(name).lower()
    return SAME_FORMAT.get(lower, lower)


def _name(true: Truth) -> str:
    return f"{true.url} ({true.kind})"


def _because(row: Row) -> str:
    detail = row.get("detail")
    return f" ({detail})" if detail else ""
