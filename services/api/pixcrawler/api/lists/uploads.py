"""One upload: from the request's body through the reading process into the blob store, as it comes.

Nothing is held but what a pipe holds. The rows are one object, created when the last has come; if
the body breaks off, or the file is refused, nothing is created.
"""

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple, Self

from pixcrawler.api.lists.files import PIECE, Format
from pixcrawler.api.lists.reading import Answer, Order
from pixcrawler.api.problems import Problem
from pixcrawler.api.settings import Settings
from pixcrawler.common import logs, names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.errors import Retry

log = logs.get(__name__)

_BUSY_S = "10"


class Told(NamedTuple):
    """What the caller says about the file: its name, its format, and field → column."""

    name: str = ""
    format: Format | None = None
    columns: Mapping[str, str] = {}


class TakenIn(NamedTuple):
    """What an upload gave: the reader's answer, and how many bytes came."""

    answer: Answer
    size: int


class Uploads:
    """Takes lists in, a few at a time.

    Args:
        blobs: Where they go.
        settings: The bounds.
    """

    def __init__(self, blobs: BlobStore, settings: Settings) -> None:
        self._blobs = blobs
        self._settings = settings
        self._open = 0

    async def take(self, list_id: str, told: Told, body: AsyncIterator[bytes]) -> TakenIn:
        """Read a list and store its objects; there is none if this raises.

        Args:
            list_id: Of a list that is not there yet.
            told: What the caller says about it.
            body: The file.

        Raises:
            Problem: 422, it was refused; 429, too many at a time.
        """
        if self._open >= self._settings.api_list_uploads:
            raise Problem(
                429,
                f"{self._open} lists are being uploaded here; try again",
                headers={"Retry-After": _BUSY_S},
            )
        self._open += 1
        try:
            with _Files(self._settings.api_upload_dir) as files:
                return await self._take(list_id, told, body, files)
        except BaseException:
            with contextlib.suppress(Retry):  # else the sweep does it
                await asyncio.shield(self._blobs.delete_prefix(names.list_prefix(list_id)))
            raise
        finally:
            self._open -= 1

    async def _take(
        self, list_id: str, told: Told, body: AsyncIterator[bytes], files: "_Files"
    ) -> TakenIn:
        process = await self._start(told, files)
        feeding = asyncio.create_task(_feed(process, body))
        try:
            rows = _rows(process, feeding, files, told.name or "the file")
            if not await self._blobs.create(names.list_rows(list_id), rows):
                raise Retry(f"{names.list_rows(list_id)} is there already", error="blob_store")
        finally:
            await _end(process, feeding)
        answer = files.read_answer()
        if answer.rejected:
            await self._store(names.list_rejected(list_id), files.rejected)
            await self._store(names.list_rejected_index(list_id), files.rejected_index)
        await self._store(names.list_rows_index(list_id), files.rows_index)
        return TakenIn(answer, feeding.result())

    async def _start(self, told: Told, files: "_Files") -> Process:
        settings = self._settings
        order = Order(
            name=told.name,
            format=told.format,
            columns=told.columns,
            folder=str(settings.api_upload_dir),
            max_rows=settings.api_list_max_rows,
            max_unpacked=settings.api_list_max_unpacked_bytes,
            max_memory=settings.api_list_memory_bytes,
            **files.descriptors(),
        )
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "pixcrawler.api.lists.reading",
            json.dumps(order._asdict()),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=2 * PIECE,
            pass_fds=tuple(files.descriptors().values()),
        )

    async def _store(self, name: str, file: BinaryIO) -> None:
        await self._blobs.create(name, _pieces(file))


class _Files:
    """What the reader writes to beside its stdout: files without names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.rows_index, self.rejected, self.rejected_index, self.answer = (
            self._open.enter_context(_temporary(self._folder)) for _ in range(4)
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def descriptors(self) -> dict[str, int]:
        """By their names in an `Order`."""
        return {
            "rows_index": self.rows_index.fileno(),
            "rejected": self.rejected.fileno(),
            "rejected_index": self.rejected_index.fileno(),
            "answer": self.answer.fileno(),
        }

    def read_answer(self) -> Answer:
        """What the reader said at its end; nothing if it died before."""
        self.answer.seek(0)
        told = self.answer.read()
        return Answer.parse(told) if told else Answer()


def _temporary(folder: Path) -> AbstractContextManager[BinaryIO]:
    return TemporaryFile(dir=folder)


async def _feed(process: Process, body: AsyncIterator[bytes]) -> int:
    """Pass the body on, and how many bytes it has.

    A reader that has gone needs no more, but its sender wants to send it all before it listens.
    """
    pipe, size, wanted = process.stdin, 0, True
    assert pipe is not None
    async for piece in body:
        size += len(piece)
        if wanted and piece:
            try:
                pipe.write(piece)
                await pipe.drain()
            except (BrokenPipeError, ConnectionResetError):
                wanted = False
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        pipe.close()
        await pipe.wait_closed()
    return size


async def _rows(
    process: Process, feeding: "asyncio.Task[int]", files: _Files, called: str
) -> AsyncIterator[bytes]:
    """What the reader writes; raises at its end if it did not read everything, or refuses."""
    assert process.stdout is not None
    assert process.stderr is not None
    complaints = asyncio.create_task(_tail(process.stderr))
    try:
        while piece := await _next(process.stdout, feeding):
            yield piece
        await feeding
        code = await process.wait()
        answer = files.read_answer()
        if answer.refused:
            raise Problem(
                422, answer.refused, errors=[{"field": "body", "message": answer.refused}]
            )
        if code or not answer.rows:
            log.warning(
                "a list could not be read",
                action="upload",
                exit_code=code,
                error=(await complaints).decode(errors="replace"),
            )
            message = f"{called} could not be read: it is damaged, or not what it says"
            raise Problem(422, message, errors=[{"field": "body", "message": message}])
    finally:
        complaints.cancel()


async def _next(stdout: asyncio.StreamReader, feeding: "asyncio.Task[int]") -> bytes:
    """The next piece; raises at once what is wrong with the body, though the reader still waits."""
    reading = asyncio.create_task(stdout.read(PIECE))
    try:
        if not feeding.done():
            await asyncio.wait([reading, feeding], return_when=asyncio.FIRST_COMPLETED)
        if feeding.done():
            feeding.result()
        return await reading
    finally:
        reading.cancel()


async def _tail(stderr: asyncio.StreamReader, size: int = 4096) -> bytes:
    """The last that was said."""
    said = b""
    while piece := await stderr.read(size):
        said = (said + piece)[-size:]
    return said


async def _end(process: Process, feeding: "asyncio.Task[int]") -> None:
    """No process outlives its upload."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await asyncio.shield(process.wait())
    if not feeding.done():
        feeding.cancel()
        await asyncio.wait([feeding])


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    """A file that another process has written, from its beginning."""
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    while piece := await asyncio.to_thread(file.read, PIECE):
        yield piece
