"""Deciding the images of a chunk on a few threads, with a budget for the bytes in hand.

The decoders release the interpreter's lock: on two cores two threads are 1.9 times as fast as one,
as much as two processes would be, and share what they have in memory.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.documents import Fetched
from pixcrawler.validator.decision import Decision, Limits
from pixcrawler.validator.images import decide, digest
from pixcrawler.validator.parts import Member, PartReader, damaged


class Memory:
    """A budget of bytes, given out in the order of asking.

    Args:
        size: Bytes. Whoever asks for more than that gets it all.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._left = size
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    async def take(self, size: int) -> None:
        """Wait until so many bytes are free, and take them."""
        size = min(size, self._size)
        ticket = asyncio.get_running_loop().create_future(), size
        self._waiting.append(ticket)
        self._serve()
        try:
            await ticket[0]
        except asyncio.CancelledError:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            elif not ticket[0].cancelled():
                self._left += size
            self._serve()
            raise

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._left += min(size, self._size)
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][1] <= self._left:
            future, size = self._waiting.popleft()
            if not future.done():
                self._left -= size
                future.set_result(None)


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of each candidate of a chunk, by position.

    Attributes:
        fetched: What the downloader said.
        decisions: What the files are, of those that were downloaded.
    """

    fetched: Mapping[int, Fetched]
    decisions: Mapping[int, Decision]


Report = Callable[[Judged], None]
"""Told now and then what is known so far; the mappings go on growing."""


class Judge:
    """Threads that decide images, and the memory for the files that they are given.

    Args:
        threads: Images decided at a time.
        memory: Bytes of files in hand, of all chunks together.
    """

    def __init__(self, threads: int, memory: int) -> None:
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="decide")
        self.memory = Memory(memory)
        self.heavy = threading.Lock()

    async def judge(
        self, blobs: BlobStore, chunk: str, candidates: int, limits: Limits, report: Report
    ) -> Judged:
        """Decide everything that a chunk has downloaded.

        Args:
            blobs: Where its parts are.
            chunk: Which chunk.
            candidates: How many it has.
            limits: What an image has to keep to.
            report: Told how far it is.

        Raises:
            BlobNotFound: a part is missing.
            GiveUp: the parts are not what the downloader writes.
        """
        work = _Work(self, limits, report)
        try:
            for number in range(-(-candidates // names.PART_SIZE)):
                await work.read(blobs, names.part(chunk, number))
            judged = await work.finish()
        finally:
            work.drop()
        if set(judged.fetched) != set(range(candidates)):
            raise damaged(f"the parts of {chunk} are not about its {candidates} candidates")
        return judged

    def close(self) -> None:
        """Let go of the threads."""
        self.pool.shutdown(wait=False, cancel_futures=True)


class _Work:
    """One chunk being decided."""

    def __init__(self, judge: Judge, limits: Limits, report: Report) -> None:
        self._judge = judge
        self._limits = limits
        self._report = report
        self._fetched: dict[int, Fetched] = {}
        self._decisions: dict[int, Decision] = {}
        self._judged = Judged(self._fetched, self._decisions)
        self._once = Once()
        self._running: list[asyncio.Future[Decision]] = []

    async def read(self, blobs: BlobStore, name: str) -> None:
        """Read a part and hand its files to the threads."""
        async with aclosing(PartReader(blobs, name)) as part:
            lines = {line.position: line for line in await part.outcomes()}
            self._fetched.update(lines)
            files = {place: line.bytes for place, line in lines.items() if line.outcome is None}
            while (member := await part.member()) is not None:
                if files.pop(member.position, None) != member.size:
                    raise damaged(f"{name}: unexpected bytes of candidate {member.position}")
                self._hand_over(member.position, await self._bytes(part, member))
        for position, size in files.items():
            if size:
                raise damaged(f"{name}: no bytes of candidate {position}")
            self._hand_over(position, b"")
        self._report(self._judged)

    async def finish(self) -> Judged:
        """Wait for the threads."""
        await asyncio.gather(*self._running)
        return self._judged

    def drop(self) -> None:
        """Forget what has not been started."""
        for future in self._running:
            future.cancel()

    async def _bytes(self, part: PartReader, member: Member) -> bytes:
        await self._judge.memory.take(member.size)
        try:
            return await part.read(member)
        except BaseException:
            self._judge.memory.give(member.size)
            raise

    def _hand_over(self, position: int, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._judge.pool, self._decide, data)
        future.add_done_callback(partial(self._decided, position, len(data)))
        self._running.append(future)

    def _decide(self, data: bytes) -> Decision:
        """In a thread. Equal bytes are decided once."""
        return self._once(digest(data), lambda: decide(data, self._limits, heavy=self._judge.heavy))

    def _decided(self, position: int, size: int, future: asyncio.Future[Decision]) -> None:
        self._judge.memory.give(size)
        if not future.cancelled() and future.exception() is None:
            self._decisions[position] = future.result()
            if len(self._decisions) % names.PART_SIZE == 0:
                self._report(self._judged)


class Once:
    """Decides each digest once; who comes second, also at the same time, gets the same decision."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._decisions: dict[bytes, Future[Decision]] = {}

    def __call__(self, sha256: bytes, make: Callable[[], Decision]) -> Decision:
        """The decision on these bytes, made by this call or by another one."""
        with self._lock:
            found = self._decisions.get(sha256)
            mine = self._decisions.setdefault(sha256, Future())
        if found is not None:
            return found.result()
        try:
            mine.set_result(replace(make(), sha256=sha256))
        except BaseException as error:
            mine.set_exception(error)
            raise
        return mine.result()
