"""One image out of a chunk's archive, by ranged reads: no archive is ever read whole.

A ZIP says at its end where everything is; the directory of `zipfile` is read from there. A tar says
it in front of each member: its headers are read one after the other, once. Archives never change,
so what was found is remembered for those that were asked for last.
"""

import asyncio
import io
import tarfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple
from zipfile import ZipFile

from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.documents import StoredFile

REMEMBERED_MEMBERS = 50_000
"""Members that are remembered over all archives, about 10 MB; the last archive always is."""

TAIL_BYTES = 1 << 16
"""Read of a ZIP's end at once: the directory of 700 images, as a rule all of it."""

HOP_BYTES = 1 << 13
"""Read of a tar at once: the headers that stand behind an image, with the small file among them."""

NAME_DIGITS = 20
"""Hex digits that begin an image's name in an archive: of the sha256 of what was fetched."""

_ZIP_HEADER_BYTES = (
    30  # in front of each file, without its name and extra field (APPNOTE.TXT, 4.3.7)
)
_ZIP_NAME_LENGTHS = slice(26, 30)  # of the two, two bytes each


class Member(NamedTuple):
    """Where a file of an archive is: its name, where its bytes begin, and how many there are.

    In a ZIP `offset` is that of its header (`headed`), since only that says where its bytes begin.
    """

    name: str
    offset: int
    size: int
    headed: bool


Members = Mapping[str, Member]
"""By the first `NAME_DIGITS` of their names; `metadata.jsonl` and the like are left out."""


class Archives:
    """Finds images in archives.

    Args:
        blobs: Where the archives are.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._known: OrderedDict[str, Members] = OrderedDict()
        self._reading: dict[str, asyncio.Lock] = {}

    async def find(self, archive: StoredFile, sha256: str) -> Member | None:
        """The image with this hash; None if it is not in this archive.

        Raises:
            BlobNotFound: the archive is gone.
        """
        members = await self._members(archive)
        return members.get(sha256[:NAME_DIGITS])

    async def stream(self, archive: StoredFile, member: Member) -> AsyncIterator[bytes]:
        """Its bytes, in pieces of 1 MiB at most.

        Raises:
            BlobNotFound: the archive is gone.
        """
        offset = member.offset
        if member.headed:
            header = await self._read(archive.name, offset, _ZIP_HEADER_BYTES)
            lengths = header[_ZIP_NAME_LENGTHS]
            offset += _ZIP_HEADER_BYTES
            offset += int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        async for piece in self._blobs.stream(archive.name, offset=offset, length=member.size):
            yield piece

    async def _members(self, archive: StoredFile) -> Members:
        """What is in an archive; whoever asks meanwhile waits for the same answer."""
        lock = self._reading.setdefault(archive.name, asyncio.Lock())
        async with lock:
            if archive.name not in self._known:
                read = self._of_tar if archive.name.endswith(".tar") else self._of_zip
                self._known[archive.name] = await read(archive)
            self._known.move_to_end(archive.name)
        self._reading.pop(archive.name, None)
        members = self._known[archive.name]
        self._forget()
        return members

    def _forget(self) -> None:
        while len(self._known) > 1 and sum(map(len, self._known.values())) > REMEMBERED_MEMBERS:
            self._known.popitem(last=False)

    async def _of_zip(self, archive: StoredFile) -> Members:
        tail = _Tail(archive.size)
        wanted = max(archive.size - TAIL_BYTES, 0)
        while True:
            tail.extend(await self._read(archive.name, wanted, tail.start - wanted))
            try:
                return await asyncio.to_thread(_zip_members, tail)
            except _Earlier as earlier:
                wanted = earlier.offset

    async def _of_tar(self, archive: StoredFile) -> Members:
        found: dict[str, Member] = {}
        start, piece, offset = 0, b"", 0
        while offset + tarfile.BLOCKSIZE <= archive.size:
            if offset + tarfile.BLOCKSIZE > start + len(piece):
                start = offset
                piece = await self._read(archive.name, start, min(HOP_BYTES, archive.size - start))
            header = piece[offset - start : offset - start + tarfile.BLOCKSIZE]
            if not any(header):
                break
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            offset += tarfile.BLOCKSIZE
            if not info.name.endswith(".json"):
                member = Member(info.name, offset, info.size, headed=False)
                found[_digits(info.name)] = member
            offset += info.size + -info.size % tarfile.BLOCKSIZE
        return found

    async def _read(self, name: str, offset: int, length: int) -> bytes:
        pieces = self._blobs.stream(name, offset=offset, length=length)
        return b"".join([piece async for piece in pieces])


class _Earlier(Exception):
    """What is wanted stands further in front."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


class _Tail(io.RawIOBase):
    """A file of which only the end is here.

    Args:
        size: Of the whole.
    """

    def __init__(self, size: int) -> None:
        self.start = size
        self._size = size
        self._end = b""
        self._at = 0

    def extend(self, before: bytes) -> None:
        """More of it, from in front of what is here."""
        self._end = before + self._end
        self.start = self._size - len(self._end)

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("before the beginning")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        if self._at < self.start:
            raise _Earlier(self._at)
        first = self._at - self.start
        end = len(self._end) if size < 0 else first + size
        piece = self._end[first:end]
        self._at += len(piece)
        return piece


def _zip_members(tail: _Tail) -> Members:
    tail.seek(0, io.SEEK_END)
    with ZipFile(tail) as archive:
        return {
            _digits(info.filename): Member(
                info.filename, info.header_offset, info.file_size, headed=True
            )
            for info in archive.infolist()
            if info.filename.startswith("images/")
        }


def _digits(name: str) -> str:
    return name.rpartition("/")[2][:NAME_DIGITS]
