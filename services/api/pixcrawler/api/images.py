"""What was kept, page by page, also while the job runs: from what the chunks have decided."""

from typing import NamedTuple

from pydantic import ConfigDict

from pixcrawler.api.outcomes import Position
from pixcrawler.api.store import ChunkState
from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.chunk_outcomes import files_of, read_objects
from pixcrawler.common.documents import Candidate, ImageFile, Verdict, Verdicts
from pixcrawler.common.events import Value
from pixcrawler.common.outcomes import Outcome

CHUNKS_A_PAGE = 100
"""Chunks that one page looks through at most."""


class ImageView(Value):
    """A kept image: what is known of it, and whose it is. Unknown text is empty."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    url: str
    """The candidate's, before redirects."""
    source: str
    """Where it was found."""
    keyword: str
    """What was looked for."""
    title: str
    """As the source says."""
    creator: str
    """Likewise."""
    license: str
    """An SPDX id where there is one, else what the source calls it."""
    license_url: str
    """Where its text is."""
    landing_url: str
    """The page that shows it."""
    width: int
    """In pixels, of the file in the archive."""
    height: int
    """Likewise."""
    format: str
    """Its true format, such as `jpeg`."""
    bytes: int
    """Its size."""
    sha256: str
    """Of that file, in hex."""
    original_sha256: str
    """Of the file that was found: another one where the job wanted it transformed."""
    chunk_id: str
    """Which chunk has it."""
    path: str
    """Where this API has its bytes."""


class ImagesPage(NamedTuple):
    """Images, and where the list goes on (None: nowhere)."""

    images: tuple[ImageView, ...]
    after: Position | None


async def page(
    blobs: BlobStore,
    job_id: str,
    chunks: list[ChunkState],
    *,
    start: Position,
    limit: int,
    transformed: bool = False,
) -> ImagesPage:
    """Some images of a job, in the order of its chunks and their candidates.

    Only those in an archive: a chunk keeps nothing for sure before it is completed.

    Args:
        blobs: Where the stages' decisions are.
        job_id: Whose.
        chunks: The job's chunks by index, as they are now.
        start: Where to begin: at the candidate of this position or after.
        limit: How many at most.
        transformed: Whether the job wants its images transformed.
    """
    images: list[ImageView] = []
    completed = [c for c in chunks if c.status == "completed" and c.index >= start.chunk]
    for number, chunk in enumerate(completed):
        if number == CHUNKS_A_PAGE:
            return ImagesPage(tuple(images), Position(chunk.index, 0))
        _, candidates, verdicts, _, files = await read_objects(
            blobs, chunk.chunk_id, files=transformed
        )
        if candidates is None or verdicts is None:
            continue
        by_position = {candidate.position: candidate for candidate in candidates.items}
        made = {file.position: file for file in files.items} if files else {}
        first = start.row if chunk.index == start.chunk else 0
        for verdict in verdicts.items:
            if verdict.position < first or verdict.outcome is not Outcome.KEPT:
                continue
            if len(images) == limit:
                return ImagesPage(tuple(images), Position(chunk.index, verdict.position))
            candidate = by_position[verdict.position]
            file = made.get(verdict.position, verdict)
            images.append(_view(job_id, chunk, candidate, verdict, file))
    return ImagesPage(tuple(images), None)


async def original_of(blobs: BlobStore, chunk: str, sha256: str) -> str:
    """The sha256 of what was fetched, of a file that was made of it: images are named by that.

    Where several became the same file it is one of them; empty where none did.

    Raises:
        BlobNotFound: the chunk's verdicts are gone.
    """
    files = await files_of(blobs, chunk)
    positions = {file.position for file in files.items if file.sha256 == sha256} if files else set()
    if not positions:
        return ""
    verdicts = Verdicts.parse(await blobs.read(names.verdicts(chunk)))
    return next((v.sha256 for v in verdicts.items if v.position in positions), "")


def _view(
    job_id: str,
    chunk: ChunkState,
    candidate: Candidate,
    verdict: Verdict,
    file: ImageFile | Verdict,
) -> ImageView:
    return ImageView(
        **candidate.model_dump(exclude={"position"}),
        **file.model_dump(include={"width", "height", "format", "bytes", "sha256"}),
        original_sha256=verdict.sha256,
        chunk_id=chunk.chunk_id,
        path=f"/v1/jobs/{job_id}/chunks/{chunk.index}/images/{verdict.sha256}",
    )
