"""What is kept of a chunk, as users read it: one record per image, the same in every place.

`metadata.jsonl` (or one JSON file per image in a WebDataset) holds these records, `images.parquet`
holds them for the whole dataset. Every field is in every record and never null, since readers infer
the columns of each archive on their own: a column that is null in one and text in the next fails.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from pixcrawler.common.documents import Candidates, Files, ImageFile, Verdict, Verdicts
from pixcrawler.common.events import Value
from pixcrawler.common.outcomes import Outcome

Format = Literal["zip", "webdataset"]
"""How a job's archives are packed (`jobs.Options.format`)."""

ARCHIVE_EXTENSION: dict[Format, str] = {"zip": "zip", "webdataset": "tar"}

NAME_DIGITS = 20
"""Hex digits of the fetched bytes' sha256 in a file's name: 80 bits, unique in a job."""

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


class TransformedRecord(ImageRecord):
    """The same where a job wants its images changed, whether or not this one had to be.

    Width, height, format, bytes and sha256 are those of the file in the archive; `original_…` those
    of the file that was fetched, as is `phash`.
    """

    original_width: int
    original_height: int
    original_format: str
    original_bytes: int
    original_sha256: str


class KeptImage(NamedTuple):
    """A kept image: its candidate's position within the chunk, and its record."""

    position: int
    record: ImageRecord


def file_name(sha256: str, image_format: str, form: Format) -> str:
    """An image's path within its archive.

    Args:
        sha256: Of the bytes that were fetched. They are unique within a job, and so are the names;
            two images may well become the same bytes when they are made smaller.
        image_format: What the file in the archive is.
        form: How archives are packed.
    """
    extension = _EXTENSIONS.get(image_format, image_format)
    name = f"{sha256[:NAME_DIGITS]}.{extension}"
    return f"images/{name}" if form == "zip" else name


def kept_images(
    candidates: Candidates, verdicts: Verdicts, form: Format, files: Files | None = None
) -> tuple[KeptImage, ...]:
    """What the verdicts keep of the candidates, in the order of the names in the archive.

    Args:
        candidates: The chunk's.
        verdicts: The chunk's.
        form: How archives are packed.
        files: What the images are in the archive, where the job wants them changed.
    """
    by_position = {candidate.position: candidate for candidate in candidates.items}
    made = None if files is None else {file.position: file for file in files.items}
    kept = (
        KeptImage(
            verdict.position,
            _record(
                by_position[verdict.position].model_dump(exclude={"position"}),
                verdict,
                form,
                None if made is None else made[verdict.position],
            ),
        )
        for verdict in verdicts.items
        if verdict.outcome is Outcome.KEPT
    )
    return tuple(sorted(kept, key=lambda image: image.record.file_name))


_OF_FILE = ("width", "height", "format", "bytes", "sha256")


def _record(
    known: Mapping[str, str], verdict: Verdict, form: Format, file: ImageFile | None
) -> ImageRecord:
    fetched = {name: getattr(verdict, name) for name in _OF_FILE}
    common = {**known, "phash": verdict.phash}
    if file is None:
        name = file_name(verdict.sha256, verdict.format, form)
        return ImageRecord(**common, **fetched, file_name=name)
    return TransformedRecord(
        **common,
        **{name: getattr(file, name) for name in _OF_FILE},
        **{f"original_{name}": value for name, value in fetched.items()},
        file_name=file_name(verdict.sha256, file.format, form),
    )


def metadata_lines(images: Iterable[KeptImage]) -> bytes:
    """`metadata.jsonl`."""
    return b"".join(image.record.model_dump_json().encode() + b"\n" for image in images)
