"""Where the images of a chunk are among its parts, and their bytes.

A part is a tar: `outcomes.jsonl`, then the bytes of its candidates in any order. An archive takes
images in the order of their names, which is the order of their hashes, so it needs any image of any
part at any time: the headers are read first, and each image by one ranged read when its turn comes.
"""

import asyncio
import tarfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import NamedTuple

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.errors import BlobNotFound, GiveUp

BLOCK = tarfile.BLOCKSIZE
PARTS_AT_ONCE = 8
"""Parts whose headers are read at a time: hides the store's latency."""


class Extent(NamedTuple):
    """Some bytes of a part."""

    part: str
    offset: int
    size: int


async def locate(blobs: BlobStore, chunk: str, positions: Iterable[int]) -> Mapping[int, Extent]:
    """Where the images at these positions are.

    Raises:
        BlobNotFound: a part is missing.
        GiveUp: a part is not what the downloader writes, or an image is not in it.
    """
    wanted = sorted(set(positions))
    parts = sorted({position // names.PART_SIZE for position in wanted})
    gate = asyncio.Semaphore(PARTS_AT_ONCE)

    async def members(number: int) -> Mapping[int, Extent]:
        async with gate:
            return await _members(blobs, names.part(chunk, number))

    found: dict[int, Extent] = {}
    for extents in await asyncio.gather(*map(members, parts)):
        found.update(extents)
    if missing := [position for position in wanted if position not in found]:
        raise _damaged(f"no bytes of candidate {missing[0]} of {chunk}")
    return {position: found[position] for position in wanted}


async def _members(blobs: BlobStore, part: str) -> Mapping[int, Extent]:
    """Where each image of a part is: its headers are read one after the other, and little else."""
    info = await blobs.stat(part)
    if info is None:
        raise BlobNotFound(part)
    extents, offset = {}, 0
    while offset < info.size:
        header = await _read(blobs, part, offset, BLOCK)
        if not header.strip(b"\0"):
            break  # the end of a tar is a block of zeros
        member = _member(header, part)
        if member.name.isdigit():
            extents[int(member.name)] = Extent(part, offset + BLOCK, member.size)
        offset += BLOCK + _padded(member.size)
    return extents


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
            async for piece in self._stream(self._extents[position]):
                yield piece

    def _read_more(self) -> None:
        while len(self._reading) < self._ahead:
            position, extent = next(self._waiting, (-1, None))
            if extent is None:
                return
            if extent.size <= self._whole_bytes:
                self._reading[position] = asyncio.create_task(self._whole(extent))

    async def _whole(self, extent: Extent) -> bytes:
        return b"".join([piece async for piece in self._stream(extent)])

    def _stream(self, extent: Extent) -> AsyncIterator[bytes]:
        return self._blobs.stream(extent.part, offset=extent.offset, length=extent.size)

    async def close(self) -> None:
        """Stop reading."""
        tasks = list(self._reading.values())
        self._reading.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(blobs: BlobStore, name: str, offset: int, length: int) -> bytes:
    return b"".join([piece async for piece in blobs.stream(name, offset=offset, length=length)])


def _member(header: bytes, part: str) -> tarfile.TarInfo:
    """What a member's header says.

    Raises:
        GiveUp: it is no header.
    """
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise _damaged(f"{part}: {error}") from error


def _padded(size: int) -> int:
    return size + -size % BLOCK


def _damaged(message: str) -> GiveUp:
    return GiveUp(message, error="staging_damaged", retriable=True)
