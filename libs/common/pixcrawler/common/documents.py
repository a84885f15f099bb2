"""The objects in the blob store as values: what each stage decided, and how it reads as JSON.

`candidates.jsonl` and `verdicts.jsonl` are JSON Lines: a head with the facts of the whole, then one
line per candidate in candidate order. `result.json` and `dataset.json` are one JSON document. The
same value gives the same bytes; nothing in them depends on an attempt, a worker or the clock.
"""

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import ConfigDict, Field

from pixcrawler.common.events import ImageTotals, JobFacts, Slice, Value
from pixcrawler.common.outcomes import Outcome


class Candidate(Value):
    """A URL that a search gave, and who made what it shows. Unknown text is empty.

    `position` counts from 0 within the chunk; `license` is an SPDX id where there is one.
    """

    position: int = Field(ge=0)
    url: str
    source: str
    keyword: str = ""
    title: str = ""
    creator: str = ""
    license: str = ""
    license_url: str = ""
    landing_url: str = ""


class Stream(Value):
    """One search: a keyword asked of a source."""

    source: str
    keyword: str


class Unanswered(Slice):
    """A slice whose search could not be asked: nothing is known of it."""

    reason: str = ""
    """Why, for people."""

    @property
    def stream(self) -> Stream:
        """Which search."""
        return Stream(source=self.source, keyword=self.keyword)


class CandidatesHead(Value):
    """The first line of `candidates.jsonl`.

    `exhausted` names the searches that had no more to give than what stands here; `unanswered` the
    slices of which nothing stands here, because their searches could not be asked.
    """

    chunk_id: str
    count: int
    exhausted: tuple[Stream, ...] = ()
    unanswered: tuple[Unanswered, ...] = ()


class Candidates(Value):
    """What a chunk's candidates are: in order, unique by URL within the chunk."""

    head: CandidatesHead
    items: tuple[Candidate, ...]

    def dump(self) -> bytes:
        """As `candidates.jsonl`."""
        return dump_lines([self.head, *self.items])

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From `candidates.jsonl`."""
        head, *items = data.splitlines()
        return cls(
            head=CandidatesHead.model_validate_json(head),
            items=tuple(map(Candidate.model_validate_json, items)),
        )


class Fetched(Value):
    """What became of one candidate at the downloader: a line of a part's `outcomes.jsonl`.

    Attributes:
        position: The candidate's position within the chunk.
        outcome: A terminal outcome, or None when bytes are there for the validator to judge.
        detail: Why, for people; empty when there is nothing to say.
        http_status: The last answer's status, 0 when there was none.
        final_url: Where the bytes came from, after redirects; empty when there are none.
        bytes: The number of bytes stored.
        elapsed_ms: From the first try to the end of the last.
    """

    position: int
    outcome: Outcome | None = None
    detail: str = ""
    http_status: int = 0
    final_url: str = ""
    bytes: int = 0
    elapsed_ms: int = 0


PART_OUTCOMES = "outcomes.jsonl"
"""The member of a part that says what became of each of its candidates; it is the first member.

The images follow in the order of their positions; readers rely on it.
"""


def part_member(position: int) -> str:
    """The member of a part that holds a candidate's bytes, such as `000150`."""
    return f"{position:06d}"


class Verdict(Value):
    """The outcome of one candidate: a line of `verdicts.jsonl`.

    `phash` is 16 hex digits as `imagehash.phash` prints it, empty where nothing was decoded;
    `format` is the true format from content (`jpeg`, `png`, …); `duplicate_of` is the URL of the
    image that is kept instead; widths, heights and bytes are 0 where unknown. Width and height are
    those of the stored file as it is (before EXIF rotation).
    """

    position: int
    url: str
    outcome: Outcome
    detail: str = ""
    http_status: int = 0
    final_url: str = ""
    bytes: int = 0
    elapsed_ms: int = 0
    sha256: str = ""
    phash: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    duplicate_of: str = ""


class VerdictsHead(Value):
    """The first line of `verdicts.jsonl`; `valid_images` counts good images, kept or not.

    `decided_with` names the libraries whose versions the hashes and verdicts depend on.
    """

    chunk_id: str
    images: ImageTotals
    valid_images: int
    decided_with: tuple[str, ...] = ()


class Verdicts(Value):
    """The outcome of every candidate of a chunk, in candidate order."""

    head: VerdictsHead
    items: tuple[Verdict, ...]

    def dump(self) -> bytes:
        """As `verdicts.jsonl`."""
        return dump_lines([self.head, *self.items])

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From `verdicts.jsonl`."""
        head, *items = data.splitlines()
        return cls(
            head=VerdictsHead.model_validate_json(head),
            items=tuple(map(Verdict.model_validate_json, items)),
        )


class ImageFile(Value):
    """The file that a kept image is in its archive: a line of `files.jsonl`.

    Attributes:
        position: The candidate's position within the chunk.
        transformed: Whether it is another file than the one that was fetched.
        width: In pixels, as are the other facts, of this file.
        height: Likewise.
        format: Its true format.
        bytes: Its size.
        sha256: In hex.
    """

    position: int
    transformed: bool
    width: int
    height: int
    format: str
    bytes: int
    sha256: str


class FilesHead(Value):
    """The first line of `files.jsonl`; `made_with` names the libraries, with versions."""

    chunk_id: str
    made_with: tuple[str, ...] = ()


class Files(Value):
    """The files of a chunk's kept images, or of those of one part, by position."""

    head: FilesHead
    items: tuple[ImageFile, ...]

    def dump(self) -> bytes:
        """As `files.jsonl`."""
        return dump_lines([self.head, *self.items])

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """From `files.jsonl`."""
        head, *items = data.splitlines()
        return cls(
            head=FilesHead.model_validate_json(head),
            items=tuple(map(ImageFile.model_validate_json, items)),
        )


PART_FILES = "files.jsonl"
"""The first member of a part of transformed images: its `Files`. Those that were transformed
follow, in the order of their positions, each as `part_member`."""


class StoredFile(Value):
    """A file of a dataset."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    """Of the object that holds it."""
    size: int
    """In bytes."""
    sha256: str
    """In hex."""


class ChunkResult(Value):
    """How a chunk ended, for everyone, for ever.

    Attributes:
        chunk_id: Which chunk.
        status: `completed` by the uploader, `failed` by the planner.
        error: Why it failed, a short word (`cancelled`, `no_valid_images`, …); empty otherwise.
        message: Likewise, one sentence for people.
        images: What became of its candidates. Of a chunk that was given up, those without a verdict
            count as `failed` or `cancelled`.
        archive: Its archive; None when nothing was kept or it failed.
        exhausted: Searches that have no more to give (from the candidates).
        unanswered: Slices whose searches could not be asked (likewise): a later chunk's matter.
    """

    chunk_id: str
    status: Literal["completed", "failed"]
    error: str = ""
    message: str = ""
    images: ImageTotals = ImageTotals()
    archive: StoredFile | None = None
    exhausted: tuple[Stream, ...] = ()
    unanswered: tuple[Unanswered, ...] = ()


class DatasetIndex(Value):
    """`dataset.json`: the dataset as of a round. Written last, so it stands for the whole index.

    `files` are all files of the dataset but this one, index files first, then archives in chunk
    order; `path` in them is relative to the dataset.
    """

    job_id: str
    round: int
    name: str = ""
    facts: JobFacts
    images: ImageTotals
    files: tuple["DatasetFile", ...]


class DatasetFile(Value):
    """A file of the dataset: its path within it, and the object that holds it."""

    path: str
    object: str
    size: int
    sha256: str


DatasetIndex.model_rebuild()


def dump_lines(values: Iterable[Value]) -> bytes:
    """Values as JSON Lines, each line ended."""
    return b"".join(value.model_dump_json().encode() + b"\n" for value in values)
