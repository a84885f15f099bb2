"""Parts: what became of 50 candidates each, with their bytes, as one object.

A part is a tar: `outcomes.jsonl` first, then one member per candidate that has bytes, by position.
The same outcomes and bytes give the same tar. Many parts are on their way at once, so that a slow
candidate holds up its own part only; what they hold is bounded by the spooler and by the number of
open parts.
"""

import asyncio
import tarfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

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
from pixcrawler.common.events import ImageTotals
from pixcrawler.downloader.concurrency import all_of, group
from pixcrawler.downloader.fetch import Fetcher
from pixcrawler.downloader.spool import PIECE, Spooler, Store

REPORT_S = 0.5
"""Seconds between two reports of progress (the loop publishes fewer still)."""
_HEAD = 1 << 16
"""Bytes of a part that hold its `outcomes.jsonl`, as a rule."""


@dataclass(slots=True)
class Tally:
    """What became of the candidates of a chunk so far."""

    candidates: int
    done: int = 0
    downloaded: int = 0
    bytes: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, fetched: Fetched) -> None:
        """Count one more."""
        self.done += 1
        if fetched.outcome is None:
            self.downloaded += 1
            self.bytes += fetched.bytes
        else:
            self.dropped[fetched.outcome] += 1

    def totals(self) -> ImageTotals:
        """As progress shows it; nothing is kept yet."""
        return ImageTotals(
            candidates=self.candidates, downloaded=self.downloaded, dropped=dict(self.dropped)
        )


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
        async with group() as tasks:
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
        progress: "Progress",
        tally: Tally,
    ) -> None:
        """Fetch the candidates of one part and create it, or adopt what someone else created."""
        store = Store(self._spooler)
        try:
            outcomes: Sequence[Fetched] = await all_of(
                self._fetch(candidate, store, progress) for candidate in members
            )
            if not await decide(context, self._blobs, name, tar(outcomes, store)):
                outcomes = await read_outcomes(self._blobs, name)
        finally:
            store.close()
        for fetched in outcomes:
            tally.add(fetched)

    async def _fetch(self, candidate: Candidate, store: Store, progress: "Progress") -> Fetched:
        answer = await self._fetcher.fetch(candidate.position, candidate.url)
        if answer.body is not None:
            await store.add(candidate.position, answer.body)
        progress.add(answer.fetched)
        return answer.fetched


class Progress:
    """Says how far a chunk is, often enough to be a sign of life.

    Args:
        tally: What became of its candidates so far.
        context: Whom to tell.
    """

    def __init__(self, tally: Tally, context: Context) -> None:
        self._tally = tally
        self._context = context
        self._at = 0.0

    def add(self, fetched: Fetched) -> None:
        """Count one more."""
        self._tally.add(fetched)
        if time.monotonic() - self._at >= REPORT_S:
            self.report()

    def report(self) -> None:
        """Tell it now."""
        self._at = time.monotonic()
        tally = self._tally
        self._context.report(tally.done, tally.candidates, tally.totals())


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
