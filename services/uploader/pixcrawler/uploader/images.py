"""What is kept of a chunk, as users read it: one record per image, the same in every place.

`metadata.jsonl` (or one JSON file per image in a WebDataset) holds these records, `images.parquet`
holds them for the whole dataset. Every field is in every record and never null, since readers infer
the columns of each archive on their own: a column that is null in one and text in the next fails.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from pixcrawler.common.documents import Candidates, Verdict, Verdicts
from pixcrawler.common.events import Value
from pixcrawler.common.outcomes import Outcome

Format = Literal["zip", "webdataset"]
"""How a job's archives are packed (`jobs.Options.format`)."""

ARCHIVE_EXTENSION: dict[Format, str] = {"zip": "zip", "webdataset": "tar"}

NAME_DIGITS = 20
"""Hex digits of the sha256 in a file's name: 80 bits, unique among a job's images."""

_EXTENSIONS = {"jpeg": "jpg"}
"""File extensions that differ from the format's name."""


class ImageRecord(Value):
    """What is known about a kept image; unknown text is empty.

    `url` is the candidate's, before redirects; `license` an SPDX id where there is one; `width` and
    `height` in pixels of the stored file; `bytes` its size; `sha256` and `phash` in hex.
    """

    file_name: str
    url: str
    source: str
    keyword: str
    title: str
    creator: str
    license: str
    license_url: str
    landing_url: str
    width: int
    height: int
    format: str
    bytes: int
    sha256: str
    phash: str


class KeptImage(NamedTuple):
    """A kept image: its candidate's position within the chunk, and its record."""

    position: int
    record: ImageRecord


def file_name(verdict: Verdict, form: Format) -> str:
    """The image's path within its archive."""
    extension = _EXTENSIONS.get(verdict.format, verdict.format)
    name = f"{verdict.sha256[:NAME_DIGITS]}.{extension}"
    return f"images/{name}" if form == "zip" else name


def kept_images(candidates: Candidates, verdicts: Verdicts, form: Format) -> tuple[KeptImage, ...]:
    """What the verdicts keep of the candidates, in the order of the names in the archive."""
    by_position = {candidate.position: candidate for candidate in candidates.items}
    kept = (
        KeptImage(
            verdict.position,
            ImageRecord(
                **by_position[verdict.position].model_dump(exclude={"position"}),
                **verdict.model_dump(include={"width", "height", "format", "bytes"}),
                file_name=file_name(verdict, form),
                sha256=verdict.sha256,
                phash=verdict.phash,
            ),
        )
        for verdict in verdicts.items
        if verdict.outcome is Outcome.KEPT
    )
    return tuple(sorted(kept, key=lambda image: image.record.file_name))


def metadata_lines(images: Iterable[KeptImage]) -> bytes:
    """`metadata.jsonl`."""
    return b"".join(image.record.model_dump_json().encode() + b"\n" for image in images)
