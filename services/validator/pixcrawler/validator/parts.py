"""Reading a part: what became of 50 candidates, and the bytes of those that have some.

A part is a tar: `outcomes.jsonl` (a line of `documents.Fetched` per candidate), then one member per
candidate with bytes, named `documents.part_member(position)`. It is read as a stream, one member at
a time, so memory does not grow with it.
"""

import tarfile
from typing import NamedTuple

from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.documents import PART_OUTCOMES, Fetched
from pixcrawler.common.errors import GiveUp

_BLOCK = tarfile.BLOCKSIZE
_OUTCOMES_MOST = 16 << 20
"""Bytes of `outcomes.jsonl` at most: 50 lines with two long URLs each are far below."""


class Member(NamedTuple):
    """The bytes of one candidate, not read yet: its position within the chunk, and their number."""

    position: int
    size: int


class PartReader:
    """A part, read once from its beginning to its end.

    Args:
        blobs: Where it is.
        name: Its name.
    """

    def __init__(self, blobs: BlobStore, name: str) -> None:
        self._name = name
        self._pieces = blobs.stream(name)
        self._rest = b""
        self._unread = 0  # bytes of the member in hand, padding included

    async def outcomes(self) -> tuple[Fetched, ...]:
        """What became of its candidates. Call it once, first.

        Raises:
            BlobNotFound: there is no such part.
            GiveUp: it is not what the downloader writes.
        """
        head = await self._header()
        if head is None or head.name != PART_OUTCOMES or head.size > _OUTCOMES_MOST:
            raise self._damaged(f"it does not begin with {PART_OUTCOMES}")
        lines = (await self._content(head.size)).splitlines()
        try:
            return tuple(map(Fetched.model_validate_json, lines))
        except ValueError as error:
            raise self._damaged(str(error)) from error

    async def member(self) -> Member | None:
        """The next candidate's bytes, skipping those of the last one if they were not read.

        None at the end of the part.
        """
        await self._skip(self._unread)
        self._unread = 0
        head = await self._header()
        if head is None:
            return None
        if not head.name.isdigit():
            raise self._damaged(f"a member {head.name!r}")
        return Member(int(head.name), head.size)

    async def read(self, member: Member) -> bytes:
        """The bytes of the member that was given last."""
        return await self._content(member.size)

    async def aclose(self) -> None:
        """Let go of the stream."""
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()

    async def _header(self) -> tarfile.TarInfo | None:
        """The next member's header, None where the tar ends (at a block of zeros)."""
        block = await self._take(_BLOCK)
        if not block.strip(b"\0"):
            return None
        try:
            head = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise self._damaged(str(error)) from error
        if not head.isreg():
            raise self._damaged(f"{head.name!r} is no file")
        self._unread = head.size + -head.size % _BLOCK
        return head

    async def _content(self, size: int) -> bytes:
        data = await self._take(size)
        await self._skip(self._unread - size)
        self._unread = 0
        return data

    async def _take(self, size: int) -> bytes:
        """Exactly so many bytes."""
        if len(self._rest) >= size:
            data, self._rest = self._rest[:size], self._rest[size:]
            return data
        gathered, missing = [self._rest], size - len(self._rest)
        self._rest = b""
        while missing > 0:
            piece = await self._next()
            gathered.append(piece[:missing])
            self._rest = piece[missing:]
            missing -= len(piece)
        return b"".join(gathered)

    async def _skip(self, size: int) -> None:
        while size > len(self._rest):
            size -= len(self._rest)
            self._rest = await self._next()
        self._rest = self._rest[size:]

    async def _next(self) -> bytes:
        piece = await anext(self._pieces, None)
        if piece is None:
            raise self._damaged("it ends too early")
        return piece

    def _damaged(self, why: str) -> GiveUp:
        return damaged(f"{self._name}: {why}")


def damaged(why: str) -> GiveUp:
    """What the stage says of parts that the downloader cannot have written so."""
    return GiveUp(why, error="staging_damaged", retriable=True)
