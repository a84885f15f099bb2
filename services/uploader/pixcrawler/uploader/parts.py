"""Where the images of a chunk are among its parts, and their bytes.

A part is a tar: `outcomes.jsonl`, then one member for each candidate that has bytes, by position,
each behind a header of one block. So its first lines say where every image is. An archive takes
images in the order of their names, which is the order of their hashes: any image of any part at any
time. Each is one ranged read, with its header in front as proof that it is the right one. The parts
of transformed images (`transforming`) are built alike.
"""

import asyncio
import tarfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.documents import (
    PART_FILES,
    PART_OUTCOMES,
    Fetched,
    Files,
    part_member,
)
from pixcrawler.common.errors import GiveUp

BLOCK = tarfile.BLOCKSIZE
PARTS_AT_ONCE = 8
"""Parts whose first lines are read at a time: hides the store's latency."""
HEAD_BYTES = 1 << 16
"""Read of a part at once: its `outcomes.jsonl`, as a rule."""


class Extent(NamedTuple):
    """A member of a part: where its header is, and the number of bytes behind the header."""

    part: str
    member: str
    offset: int
    size: int


async def locate(blobs: BlobStore, chunk: str, positions: Iterable[int]) -> Mapping[int, Extent]:
    """Where the images at these positions are, as they were fetched.

    Raises:
        BlobNotFound: a part is missing.
        GiveUp: a part is not what the downloader writes, or an image is not in it.
    """
    return await _locate(blobs, chunk, positions, _FETCHED)


async def locate_transformed(
    blobs: BlobStore, chunk: str, positions: Iterable[int]
) -> Mapping[int, Extent]:
    """The same of images that were transformed.

    Raises:
        BlobNotFound: a part is missing.
        GiveUp: a part is not what `transforming` writes, or an image is not in it.
    """
    return await _locate(blobs, chunk, positions, _TRANSFORMED)


async def files_of_part(blobs: BlobStore, part: str) -> Files:
    """What a part of transformed images says about its images.

    Raises:
        BlobNotFound: it is not there.
        GiveUp: it is not what `transforming` writes.
    """
    return Files.parse(await _first_member(blobs, part, PART_FILES))


async def _locate(
    blobs: BlobStore, chunk: str, positions: Iterable[int], kind: "_Kind"
) -> Mapping[int, Extent]:
    wanted = sorted(set(positions))
    parts = sorted({position // names.PART_SIZE for position in wanted})
    gate = asyncio.Semaphore(PARTS_AT_ONCE)

    async def members(part: str) -> Mapping[int, Extent]:
        async with gate:
            lines = await _first_member(blobs, part, kind.first)
            return _extents(part, BLOCK + _padded(len(lines)), kind.sizes(lines))

    found: dict[int, Extent] = {}
    for extents in await asyncio.gather(*(members(kind.name(chunk, number)) for number in parts)):
        found.update(extents)
    if missing := [position for position in wanted if position not in found]:
        raise _damaged(f"no bytes of candidate {missing[0]} of {chunk}")
    return {position: found[position] for position in wanted}


async def _first_member(blobs: BlobStore, part: str, member: str) -> bytes:
    """The lines with which a part begins."""
    head = await _read(blobs, part, 0, HEAD_BYTES)
    size = _size_of(head[:BLOCK], member, part)
    if len(head) < BLOCK + size:
        head += await _read(blobs, part, len(head), BLOCK + size - len(head))
    return head[BLOCK : BLOCK + size]


def _fetched(lines: bytes) -> Mapping[int, int]:
    """The size of each image that was fetched, by position."""
    fetched = map(Fetched.model_validate_json, lines.splitlines())
    return {line.position: line.bytes for line in fetched if line.outcome is None}


def _transformed(lines: bytes) -> Mapping[int, int]:
    """The size of each image that was transformed, by position."""
    return {file.position: file.bytes for file in Files.parse(lines).items if file.transformed}


class _Kind(NamedTuple):
    """A kind of parts: their names, their first member, the size of each further one in it."""

    name: Callable[[str, int], str]
    first: str
    sizes: Callable[[bytes], Mapping[int, int]]


_FETCHED = _Kind(names.part, PART_OUTCOMES, _fetched)
_TRANSFORMED = _Kind(names.transformed_part, PART_FILES, _transformed)


def _extents(part: str, offset: int, sizes: Mapping[int, int]) -> Mapping[int, Extent]:
    """Where members of these sizes are that begin at this offset."""
    extents = {}
    for position, size in sorted(sizes.items()):
        extents[position] = Extent(part, part_member(position), offset, size)
        offset += BLOCK + _padded(size)
    return extents


async def image(blobs: BlobStore, extent: Extent) -> AsyncIterator[bytes]:
    """The bytes of an image, in pieces of 1 MiB at most.

    Raises:
        BlobNotFound: the part is gone.
        GiveUp: something else is at that place.
    """
    header = b""
    pieces = blobs.stream(extent.part, offset=extent.offset, length=BLOCK + extent.size)
    async for piece in pieces:
        if len(header) == BLOCK:
            yield piece
            continue
        header += piece
        if len(header) < BLOCK:
            continue
        header, first = header[:BLOCK], header[BLOCK:]
        if _size_of(header, extent.member, extent.part) != extent.size:
            raise _damaged(f"{extent.part}: {extent.member} has another size than its line")
        if first:
            yield first


class ReadAhead:
    """Reads images in a known order, the next few while one is being used.

    Images up to `whole_bytes` are read whole in advance; a larger one is streamed when its turn
    comes, so at most `ahead * whole_bytes` bytes wait here.

    Args:
        blobs: Where the parts are.
        extents: Where each image is, in the order in which they will be asked for.
        ahead: How many images are read in advance.
        whole_bytes: The largest that is.
    """

    def __init__(
        self,
        blobs: BlobStore,
        extents: Sequence[tuple[int, Extent]],
        *,
        ahead: int = 8,
        whole_bytes: int = 1 << 20,
    ) -> None:
        self._blobs = blobs
        self._extents = dict(extents)
        self._waiting = iter(extents)
        self._reading: dict[int, asyncio.Task[bytes]] = {}
        self._ahead = ahead
        self._whole_bytes = whole_bytes

    async def __call__(self, position: int) -> AsyncIterator[bytes]:
        """The bytes of the image at this position."""
        self._read_more()
        if (task := self._reading.get(position)) is not None:
            yield await task
            del self._reading[position]
        else:
            async for piece in image(self._blobs, self._extents[position]):
                yield piece

    def _read_more(self) -> None:
        while len(self._reading) < self._ahead:
            position, extent = next(self._waiting, (-1, None))
            if extent is None:
                return
            if extent.size <= self._whole_bytes:
                self._reading[position] = asyncio.create_task(self._whole(extent))

    async def _whole(self, extent: Extent) -> bytes:
        return b"".join([piece async for piece in image(self._blobs, extent)])

    async def close(self) -> None:
        """Stop reading."""
        tasks = list(self._reading.values())
        self._reading.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(blobs: BlobStore, name: str, offset: int, length: int) -> bytes:
    return b"".join([piece async for piece in blobs.stream(name, offset=offset, length=length)])


def _size_of(header: bytes, member: str, part: str) -> int:
    """The size that the header of this member states.

    Raises:
        GiveUp: it is no header, or another member's.
    """
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise _damaged(f"{part}: {error} where {member} should be") from error
    if info.name != member:
        raise _damaged(f"{part}: {info.name} where {member} should be")
    return info.size


def header(member: str, size: int) -> bytes:
    """What stands in front of a member of a part that we write."""
    info = tarfile.TarInfo(member)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def padding(size: int) -> bytes:
    """What stands behind a member of this size."""
    return bytes(-size % BLOCK)


END = bytes(2 * BLOCK)
"""What stands at the end of a part."""


def _padded(size: int) -> int:
    return size + -size % BLOCK


def _damaged(message: str) -> GiveUp:
    return GiveUp(message, error="staging_damaged", retriable=True)
