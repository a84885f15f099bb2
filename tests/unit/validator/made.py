"""Chunks as the downloader leaves them."""

import io
import tarfile
from collections.abc import Mapping, Sequence

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.documents import (
    PART_OUTCOMES,
    Candidate,
    Candidates,
    CandidatesHead,
    Fetched,
    dump_lines,
    part_member,
)
from pixcrawler.common.outcomes import Outcome

Content = bytes | Outcome
"""What a candidate gave: its bytes, or why there are none."""


def candidates_of(chunk: str, count: int) -> Candidates:
    """So many candidates."""
    items = tuple(
        Candidate(position=place, url=url_of(chunk, place), source="openverse")
        for place in range(count)
    )
    return Candidates(head=CandidatesHead(chunk_id=chunk, count=count), items=items)


def url_of(chunk: str, position: int) -> str:
    """The URL of a candidate."""
    return f"https://example.org/{chunk}/{position}"


def fetched(position: int, content: Content) -> Fetched:
    """What the downloader says of a candidate."""
    if isinstance(content, Outcome):
        return Fetched(position=position, outcome=content, detail="why", http_status=404)
    return Fetched(
        position=position,
        http_status=200,
        final_url=f"https://cdn.example.org/{position}",
        bytes=len(content),
        elapsed_ms=7,
    )


def part(contents: Mapping[int, Content], *, lines: Sequence[Fetched] | None = None) -> bytes:
    """A part of these candidates; other `lines` than the true ones make it a damaged one."""
    told = [fetched(*item) for item in contents.items()] if lines is None else lines
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _add(tar, PART_OUTCOMES, dump_lines(told))
        for position, content in contents.items():
            if isinstance(content, bytes):
                _add(tar, part_member(position), content)
    return out.getvalue()


def parts(contents: Sequence[Content]) -> list[bytes]:
    """All parts of a chunk."""
    numbered = list(enumerate(contents))
    size = names.PART_SIZE
    return [part(dict(numbered[at : at + size])) for at in range(0, len(numbered), size)]


async def store_chunk(blobs: BlobStore, chunk: str, contents: Sequence[Content]) -> None:
    """Everything that the downloader leaves of a chunk."""
    await blobs.create(names.candidates(chunk), candidates_of(chunk, len(contents)).dump())
    for number, data in enumerate(parts(contents)):
        await blobs.create(names.part(chunk, number), data)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
