"""Transforming the kept images of a chunk as its job wants them: upright, resized, converted.

What an image becomes is decided once. Encoders give other bytes in another version, or on another
kind of machine, and a chunk may be taken over by a newer uploader in the middle. So the images of
each part are transformed into one object, which is created once and stands for ever; whoever comes
second reads it, and an archive is a pure function of what is stored, as ever. `files.jsonl` says
what became of every image, for whoever comes when staging has gone.

No image fails a chunk. The validator has tried everything but encoding before it let an image be
kept; should one refuse here all the same, it stays as it was found, and its record says so.
"""

import asyncio
import hashlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple, TypeVar

from pixcrawler.common import logs, names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.chunk_outcomes import files_of
from pixcrawler.common.context import Context, decide
from pixcrawler.common.documents import (
    PART_FILES,
    Files,
    FilesHead,
    ImageFile,
    Verdict,
    Verdicts,
    part_member,
)
from pixcrawler.common.errors import BlobNotFound, GiveUp, Retry
from pixcrawler.common.outcomes import Outcome
from pixcrawler.common.transform import Transform
from pixcrawler.uploader import parts
from pixcrawler.uploader.parts import Extent

log = logs.get(__name__)

SPOOL_BYTES = 8 << 20
"""Of a part of transformed images, in memory; what is more goes to a temporary file."""
PIECE_BYTES = 1 << 20

T = TypeVar("T")

Report = Callable[[], None]
"""Called after each image."""


class Transformer:
    """Threads that transform images, of all chunks in hand together.

    An image in hand is its file, its decoded picture (four bytes a pixel), and the file that it
    becomes. There are never more than `threads`, and at most one of them is huge.

    Args:
        threads: Images transformed at a time.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="transform")
        self._gate = asyncio.Semaphore(threads)
        self._heavy = threading.Lock()

    async def files(
        self,
        verdicts: Verdicts,
        how: Transform | None,
        *,
        context: Context,
        blobs: BlobStore,
        report: Report,
    ) -> Files | None:
        """What becomes of the kept images of a chunk, decided now unless it was before.

        None where the job wants them as they are.

        Args:
            verdicts: The chunk's.
            how: What the job wants.
            context: The work in hand.
            blobs: Where the parts are.
            report: Told of each image.

        Raises:
            BlobNotFound: a part is missing.
            GiveUp: the parts do not hold what was judged.
            Stopped: the job is no longer wanted.
        """
        if how is None:
            return None
        chunk = verdicts.head.chunk_id
        if (decided := await files_of(blobs, chunk)) is not None:
            return decided
        found = []
        for number, kept in _kept_by_part(verdicts):
            part = _Part(chunk, names.transformed_part(chunk, number), kept, how, report)
            found.append(await self._part(part, context, blobs))
        files = _joined(chunk, found)
        if await decide(context, blobs, names.files(chunk), files.dump()):
            return files
        return Files.parse(await blobs.read(names.files(chunk)))

    async def _part(self, part: "_Part", context: Context, blobs: BlobStore) -> Files:
        """One part, as it was decided before, or as it is now."""
        try:
            return await parts.files_of_part(blobs, part.name)
        except BlobNotFound:
            pass
        positions = [verdict.position for verdict in part.kept]
        extents = await parts.locate(blobs, part.chunk, positions)
        with SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
            writing = _Writing(part.chunk, spool)
            await self._transform_all(part, extents, blobs, writing)
            await decide(context, blobs, part.name, writing.content())
        return await parts.files_of_part(blobs, part.name)

    async def _transform_all(
        self, part: "_Part", extents: Mapping[int, Extent], blobs: BlobStore, writing: "_Writing"
    ) -> None:
        """Transform images side by side, and write them down in their order.

        Each waits at the gate before its bytes are read, and holds it until it is written. The gate
        is fair and they come to it in that order, so the next to be written never waits for others
        of its part.
        """
        running: deque[asyncio.Task[_Made]] = deque()
        waiting = iter(part.kept)
        try:
            while True:
                running.extend(self._started(part, waiting, extents, blobs, len(running)))
                if not running:
                    return
                made = await running[0]
                await self._in_thread(writing.add, made)
                running.popleft()
                self._gate.release()
                part.report()
        finally:
            for task in running:
                task.cancel()
            for left in await asyncio.gather(*running, return_exceptions=True):
                if isinstance(left, _Made):
                    self._gate.release()

    def _started(
        self,
        part: "_Part",
        waiting: Iterator[Verdict],
        extents: Mapping[int, Extent],
        blobs: BlobStore,
        running: int,
    ) -> Iterator["asyncio.Task[_Made]"]:
        """As many more as there are threads."""
        for _ in range(self._threads - running):
            verdict = next(waiting, None)
            if verdict is None:
                return
            work = self._one(verdict, extents[verdict.position], part.how, blobs)
            yield asyncio.create_task(work)

    async def _one(
        self, verdict: Verdict, extent: Extent, how: Transform, blobs: BlobStore
    ) -> "_Made":
        """One image; whoever gets it lets the next one through the gate."""
        await self._gate.acquire()
        try:
            data = b"".join([piece async for piece in parts.image(blobs, extent)])
            return await self._in_thread(self._made, verdict, data, how)
        except BaseException:
            self._gate.release()
            raise

    def _made(self, verdict: Verdict, data: bytes, how: Transform) -> "_Made":
        """In a thread.

        Raises:
            GiveUp: these are not the bytes that were judged.
            Retry: there is not enough memory now.
        """
        # 25 MB of memory, for jobs that want it only.
        from pixcrawler.common import pictures

        if len(data) != verdict.bytes or hashlib.sha256(data).hexdigest() != verdict.sha256:
            raise GiveUp(
                f"the staged bytes of {verdict.url} are not those that were judged",
                error="staging_damaged",
                retriable=True,
            )
        try:
            picture = pictures.transformed(data, verdict.format, how, heavy=self._heavy)
        except MemoryError as error:
            raise Retry(f"no memory to transform {verdict.url}", error="memory") from error
        except Exception as error:  # noqa: BLE001 - whatever an encoder says, no image fails a chunk
            log.warning("left as it is", action="transform", url=verdict.url, error=repr(error))
            picture = None
        if picture is None:
            return _Made(_as_it_is(verdict), b"", ())
        file = ImageFile(
            position=verdict.position,
            transformed=True,
            width=picture.width,
            height=picture.height,
            format=picture.format,
            bytes=len(picture.data),
            sha256=hashlib.sha256(picture.data).hexdigest(),
        )
        return _Made(file, picture.data, pictures.libraries())

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)


class _Part(NamedTuple):
    """The kept images of a part, in their order, and what becomes of them under which name."""

    chunk: str
    name: str
    kept: Sequence[Verdict]
    how: Transform
    report: Report


class _Made(NamedTuple):
    """What became of an image; its bytes and what made them, if they are others."""

    file: ImageFile
    data: bytes
    made_with: tuple[str, ...]


class _Writing:
    """A part of transformed images being written: they come first, what is said of them last."""

    def __init__(self, chunk: str, spool: IO[bytes]) -> None:
        self._chunk = chunk
        self._spool = spool
        self._files: list[ImageFile] = []
        self._made_with: dict[str, None] = {}

    def add(self, made: _Made) -> None:
        """Write one; they come in the order of their positions."""
        self._files.append(made.file)
        self._made_with.update(dict.fromkeys(made.made_with))
        if made.file.transformed:
            size = len(made.data)
            self._spool.write(parts.header(part_member(made.file.position), size))
            self._spool.write(made.data)
            self._spool.write(parts.padding(size))

    async def content(self) -> AsyncIterator[bytes]:
        """The whole part."""
        head = FilesHead(chunk_id=self._chunk, made_with=tuple(self._made_with))
        lines = Files(head=head, items=tuple(self._files)).dump()
        yield parts.header(PART_FILES, len(lines)) + lines + parts.padding(len(lines))
        self._spool.seek(0)
        while piece := await asyncio.to_thread(self._spool.read, PIECE_BYTES):
            yield piece
        yield parts.END


def _kept_by_part(verdicts: Verdicts) -> Iterator[tuple[int, list[Verdict]]]:
    """Each part that has kept images, by number, and their verdicts by position."""
    kept = (verdict for verdict in verdicts.items if verdict.outcome is Outcome.KEPT)
    for number, group in groupby(kept, lambda verdict: verdict.position // names.PART_SIZE):
        yield number, list(group)


def _as_it_is(verdict: Verdict) -> ImageFile:
    return ImageFile(
        **verdict.model_dump(include={"position", "width", "height", "format", "bytes", "sha256"}),
        transformed=False,
    )


def _joined(chunk: str, found: Sequence[Files]) -> Files:
    """What the parts say, together."""
    made_with = dict.fromkeys(library for files in found for library in files.head.made_with)
    return Files(
        head=FilesHead(chunk_id=chunk, made_with=tuple(made_with)),
        items=tuple(file for files in found for file in files.items),
    )
