"""Bytes on their way: in memory while they are few, in nameless temporary files beyond.

What a process holds in memory has one budget (`Memory`), which never blocks: where it is spent,
bytes go to a file at once. So memory does not grow with a chunk, an image or a slow store.
"""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple, ParamSpec, TypeVar

from pixcrawler.common.errors import Retry

PIECE = 1 << 20
"""Bytes moved by one step through a thread: enough that the hand-over costs nothing."""
WRITE = 1 << 18
"""Bytes of one image gathered before they are written to its file."""
IN_MEMORY = 1 << 20
"""One image's bytes in memory at most."""

P = ParamSpec("P")
R = TypeVar("R")


class Memory:
    """How many bytes may be held.

    Args:
        size: That many.
    """

    def __init__(self, size: int) -> None:
        self._left = size

    @property
    def left(self) -> int:
        """Bytes that may still be taken."""
        return self._left

    def take(self, size: int) -> bool:
        """Take some, or nothing if there is not that much."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._left += size


class Spooler:
    """Where bytes may be put: the memory's budget, the folder of files, the threads that write.

    Args:
        memory: Bytes held in memory at most.
        directory: Of temporary files.
    """

    def __init__(self, memory: int, directory: Path) -> None:
        self.memory = Memory(memory)
        self._directory = directory
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="spool")

    def body(self) -> "Body":
        """An empty body."""
        return Body(self)

    def open(self) -> IO[bytes]:
        """A nameless temporary file (blocking)."""
        return tempfile.TemporaryFile(dir=self._directory, buffering=0)

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call something that blocks, in a thread.

        Raises:
            Retry: the file system refused; no fault of what is stored.
        """
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, lambda: call(*args, **kwargs))
        except OSError as error:
            raise Retry(f"temporary file: {error}", error="spool") from error

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=False)


class Body:
    """The bytes of one image: pieces in memory, or a file of its own.

    Args:
        spooler: Where they go.
    """

    __slots__ = ("_pieces", "_spooler", "_taken", "_waiting", "file", "size")

    def __init__(self, spooler: Spooler) -> None:
        self._spooler = spooler
        self._pieces: list[bytes] = []
        self._waiting = 0  # bytes in the pieces
        self._taken = 0  # of the memory's budget
        self.file: IO[bytes] | None = None
        self.size = 0

    @property
    def pieces(self) -> Sequence[bytes]:
        """What is in memory; with a file, what comes after it."""
        return self._pieces

    async def write(self, piece: bytes) -> None:
        """Add some bytes.

        Raises:
            Retry: there is no room for them.
        """
        size = len(piece)
        self.size += size
        self._waiting += size
        self._pieces.append(piece)
        if self.file is None and self.size <= IN_MEMORY and self._spooler.memory.take(size):
            self._taken += size
        elif self.file is None or self._waiting >= WRITE:
            await self._spill()

    async def read(self) -> bytes:
        """All of it."""
        if self.file is None:
            return b"".join(self._pieces)
        await self._spill()
        return await self._spooler.run(os.pread, self.file.fileno(), self.size, 0)

    async def _spill(self) -> None:
        pieces, self._pieces, self._waiting = self._pieces, [], 0
        if self.file is None:
            self.file = await self._spooler.run(self._spooler.open)
        await self._spooler.run(write_all, self.file, pieces)
        self._give()

    def _give(self) -> None:
        self._spooler.memory.give(self._taken)
        self._taken = 0

    def close(self) -> None:
        """Forget the bytes; harmless when repeated."""
        self._pieces = []
        self._give()
        if self.file is not None:
            self.file.close()
            self.file = None


class Extent(NamedTuple):
    """Where an image's bytes stand in a store's file."""

    offset: int
    size: int


class Store:
    """The images of one part, by position: in memory while they are few, in one file beyond.

    Args:
        spooler: Where they go.
    """

    def __init__(self, spooler: Spooler) -> None:
        self._spooler = spooler
        self._loose: dict[int, Body] = {}
        self._placed: dict[int, Extent] = {}
        self._waiting = 0  # bytes of the loose ones
        self._file: IO[bytes] | None = None
        self._end = 0
        self._lock = asyncio.Lock()

    async def add(self, position: int, body: Body) -> None:
        """Take over an image.

        Raises:
            Retry: there is no room for it.
        """
        self._loose[position] = body
        self._waiting += body.size
        if body.file is not None or self._waiting >= PIECE or self._spooler.memory.left < IN_MEMORY:
            await self._flush()

    async def _flush(self) -> None:
        async with self._lock:
            loose = dict(self._loose)
            if not loose:
                return
            if self._file is None:
                self._file = await self._spooler.run(self._spooler.open)
            await self._spooler.run(_write_bodies, self._file, loose.values())
            for position, body in loose.items():
                self._placed[position] = Extent(self._end, body.size)
                self._end += body.size
                self._waiting -= body.size
                del self._loose[position]
                body.close()

    async def read(self, position: int) -> AsyncIterator[bytes]:
        """An image's bytes, in pieces of `PIECE` at most."""
        body = self._loose.get(position)
        if body is not None:
            for piece in body.pieces:
                yield piece
            return
        assert self._file is not None
        offset, size = self._placed[position]
        for start in range(offset, offset + size, PIECE):
            length = min(PIECE, offset + size - start)
            yield await self._spooler.run(os.pread, self._file.fileno(), length, start)

    def close(self) -> None:
        """Forget everything; harmless when repeated."""
        for body in self._loose.values():
            body.close()
        self._loose.clear()
        if self._file is not None:
            self._file.close()
            self._file = None


def write_all(file: IO[bytes], pieces: Iterable[bytes]) -> None:
    """Write pieces at the end of an unbuffered file."""
    data = memoryview(b"".join(pieces))
    while data:
        data = data[file.write(data) :]


def _write_bodies(file: IO[bytes], bodies: Iterable[Body]) -> None:
    small: list[bytes] = []
    for body in bodies:
        if body.file is None:
            small.extend(body.pieces)
            continue
        write_all(file, small)
        small.clear()
        body.file.seek(0)
        while data := body.file.read(WRITE):
            write_all(file, [data])
        write_all(file, body.pieces)
    write_all(file, small)
