"""Parts: what became of 50 candidates each, with their bytes, as one object.

A part is a tar: `outcomes.jsonl` first, then one member per candidate that has bytes, by position.
The same outcomes and bytes give the same tar. Many parts are on their way at once, so that a slow
candidate holds up its own part only; what they hold is bounded by the spooler and by the number of
open parts.
"""

import asyncio
import tarfile
from collections.abc import AsyncIterator, Sequence

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.context import Context, decide
from pixcrawler.common.documents import (
    PART_OUTCOMES,
    Candidate,
    Fetched,
    dump_lines,
    part_member,
)
from pixcrawler.downloader.concurrency import all_of, group
from pixcrawler.downloader.fetch import Fetcher
from pixcrawler.downloader.progress import Progress, Tally, pulse
from pixcrawler.downloader.spool import PIECE, Spooler, Store

STORES = 4
"""Parts on their way into the blob store at a time: each holds a few MiB while it is packed."""
_HEAD = 1 << 16
"""Bytes of a part that hold its `outcomes.jsonl`, as a rule."""


class Parts:
    """Stores the parts of chunks.

    Args:
        blobs: Where they go.
        fetcher: Fetches candidates.
        spooler: Where bytes wait.
        open_parts: Parts on their way at a time, over all chunks in hand.
    """

    def __init__(
        self, blobs: BlobStore, fetcher: Fetcher, spooler: Spooler, open_parts: int
    ) -> None:
        self._blobs = blobs
        self._fetcher = fetcher
        self._spooler = spooler
        self._places = asyncio.Semaphore(open_parts)
        self._storing = asyncio.Semaphore(STORES)

    async def complete(
        self, chunk: str, candidates: Sequence[Candidate], context: Context
    ) -> Tally:
        """Store every part that is missing; what is there is adopted.

        Raises:
            Stopped: the job is no longer wanted.
            Retry: something else than a candidate failed.
        """
        tally = Tally(len(candidates))
        progress = Progress(Tally(len(candidates)), context)
        there = {info.name async for info in self._blobs.list(names.staging_prefix(chunk))}
        missing = []
        for number, first in enumerate(range(0, len(candidates), names.PART_SIZE)):
            name = names.part(chunk, number)
            if name not in there:
                missing.append((name, candidates[first : first + names.PART_SIZE]))
                continue
            for fetched in await read_outcomes(self._blobs, name):
                tally.add(fetched)
                progress.add(fetched)
        async with pulse(progress.report), group() as tasks:
            for name, members in missing:
                await self._places.acquire()
                task = tasks.create_task(self._store(name, members, context, progress, tally))
                task.add_done_callback(lambda _: self._places.release())
        progress.report()
        return tally

    async def _store(
        self,
        name: str,
        members: Sequence[Candidate],
        context: Context,
        progress: Progress,
        tally: Tally,
    ) -> None:
        """Fetch the candidates of one part and create it, or adopt what someone else created."""
        store = Store(self._spooler)
        try:
            outcomes: Sequence[Fetched] = await all_of(
                self._fetch(candidate, store, progress) for candidate in members
            )
            async with self._storing:
                created = await decide(context, self._blobs, name, tar(outcomes, store))
            if not created:
                outcomes = await read_outcomes(self._blobs, name)
        finally:
            store.close()
        for fetched in outcomes:
            tally.add(fetched)

    async def _fetch(self, candidate: Candidate, store: Store, progress: Progress) -> Fetched:
        answer = await self._fetcher.fetch(candidate.position, candidate.url)
        if answer.body is not None:
            await store.add(candidate.position, answer.body)
        progress.add(answer.fetched)
        return answer.fetched


async def tar(outcomes: Sequence[Fetched], store: Store) -> AsyncIterator[bytes]:
    """A part's bytes, in pieces of about `PIECE`: a function of outcomes and images alone."""
    lines = dump_lines(outcomes)
    waiting = [_header(PART_OUTCOMES, len(lines)), lines, _padding(len(lines))]
    size = len(lines)
    for fetched in outcomes:
        if fetched.outcome is not None:
            continue
        waiting.append(_header(part_member(fetched.position), fetched.bytes))
        async for piece in store.read(fetched.position):
            waiting.append(piece)
            size += len(piece)
            if size >= PIECE:
                yield b"".join(waiting)
                waiting.clear()
                size = 0
        waiting.append(_padding(fetched.bytes))
    waiting.append(bytes(2 * tarfile.BLOCKSIZE))
    yield b"".join(waiting)


def _header(name: str, size: int) -> bytes:
    """A header that says nothing of when, where and by whom."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.USTAR_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


async def read_outcomes(blobs: BlobStore, name: str) -> list[Fetched]:
    """The outcomes in a part, without reading its images.

    Raises:
        BlobNotFound: there is no such part.
    """
    head = await _read(blobs, name, 0, _HEAD)
    size = tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "strict").size
    end = tarfile.BLOCKSIZE + size
    if end > len(head):
        head += await _read(blobs, name, len(head), end - len(head))
    lines = head[tarfile.BLOCKSIZE : end].splitlines()
    return list(map(Fetched.model_validate_json, lines))


async def _read(blobs: BlobStore, name: str, offset: int, length: int) -> bytes:
    pieces = blobs.stream(name, offset=offset, length=length)
    return b"".join([piece async for piece in pieces])
