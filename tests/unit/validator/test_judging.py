"""Parts are streamed to the threads within the memory that there is."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pixcrawler.common import names
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.errors import BlobNotFound, GiveUp
from pixcrawler.common.outcomes import Outcome
from pixcrawler.validator.decision import Decision, Limits
from pixcrawler.validator.images import digest
from pixcrawler.validator.judging import Judge, Judged, Memory, Once
from pixcrawler.validator.parts import PartReader
from tests.unit.validator.files import ENCODERS, photograph, photographs
from tests.unit.validator.made import Content, fetched, part, store_chunk

CHUNK = "0190a0b0-0000-7000-8000-000000000001-00000"


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path)


@pytest.fixture
def judge() -> Judge:
    return Judge(2, 1 << 20)


def ignore(judged: Judged) -> None:
    """Nobody listens."""
    del judged


class Dripping(LocalBlobs):
    """A store whose streams come in pieces of a few bytes, as a network's may."""

    async def stream(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        data = (await self.read(name))[: None if length is None else offset + length]
        size = 1
        at = offset
        while at < len(data):
            yield data[at : at + size]
            at += size
            size = size % 997 + 7


async def test_a_chunk_of_photographs_is_decided(blobs: LocalBlobs, judge: Judge) -> None:
    """Three parts, mixed: everything fetched and every file decided, by position."""
    contents: list[Content] = [*photographs()[:100], Outcome.TIMEOUT, photographs()[0][:-9], b""]
    await store_chunk(blobs, CHUNK, contents)
    seen: list[int] = []
    judged = await judge.judge(
        blobs, CHUNK, len(contents), Limits(), lambda so_far: seen.append(len(so_far.fetched))
    )
    assert {place: line.outcome for place, line in judged.fetched.items()} == {
        place: it if isinstance(it, Outcome) else None for place, it in enumerate(contents)
    }
    assert all(judged.decisions[place].good for place in range(100))
    assert judged.decisions[101].outcome is Outcome.CORRUPT
    assert judged.decisions[102].outcome is Outcome.NOT_IMAGE
    assert judged.decisions[5].sha256 == digest(photographs()[5])
    assert 100 not in judged.decisions
    assert len(seen) >= 3


async def test_pieces_of_any_size_make_the_same_part(tmp_path: Path) -> None:
    """The stream's pieces and the tar's members do not meet anywhere."""
    contents: dict[int, Content] = {
        50: b"x" * 511, 51: Outcome.BLOCKED, 52: b"", 53: b"y" * 512, 54: b"z" * 5000,
    }  # fmt: skip
    data = part(contents)
    for kind in (LocalBlobs, Dripping):
        store = kind(tmp_path / kind.__name__)
        await store.create(names.part(CHUNK, 1), data)
        reader = PartReader(store, names.part(CHUNK, 1))
        assert await reader.outcomes() == tuple(fetched(*item) for item in contents.items())
        found = {}
        while (member := await reader.member()) is not None:
            if member.position != 53:  # skipped unread
                found[member.position] = await reader.read(member)
        assert found == {50: b"x" * 511, 52: b"", 54: b"z" * 5000}
        await reader.aclose()


async def test_a_missing_part_is_not_found(blobs: LocalBlobs, judge: Judge) -> None:
    """The handler decides what that means."""
    await store_chunk(blobs, CHUNK, [b"text"] * 60)
    await blobs.delete(names.part(CHUNK, 1))
    with pytest.raises(BlobNotFound):
        await judge.judge(blobs, CHUNK, 60, Limits(), ignore)


DAMAGED = {
    "no tar": b"x" * 2000,
    "empty": b"",
    "cut within a member": part({0: b"a" * 3000, 1: b"b"})[:2500],
    "cut within the outcomes": part({0: b"a" * 3000, 1: b"b"})[:700],
    "a candidate is missing": part({0: b"a"}),
    "a candidate too many": part({0: b"a", 1: b"b", 2: b"c"}),
    "bytes of nobody": part(
        {0: b"a", 1: b"b"}, lines=[fetched(0, b"a"), fetched(1, Outcome.TIMEOUT)]
    ),
    "other size": part({0: b"a", 1: b"b"}, lines=[fetched(0, b"a"), fetched(1, b"bb")]),
    "no bytes": part({0: b"a"}, lines=[fetched(0, b"a"), fetched(1, b"bb")]),
}


@pytest.mark.parametrize("damage", DAMAGED)
async def test_a_damaged_part_is_no_verdict(blobs: LocalBlobs, judge: Judge, damage: str) -> None:
    """What the downloader cannot have written is not decided upon."""
    await blobs.create(names.part(CHUNK, 0), DAMAGED[damage])
    with pytest.raises(GiveUp) as given_up:
        await judge.judge(blobs, CHUNK, 2, Limits(), ignore)
    assert given_up.value.error == "staging_damaged"


async def test_equal_bytes_are_decided_once() -> None:
    """However many threads ask at the same time, and all get the same."""
    once, made = Once(), []
    gate = threading.Event()

    def make() -> Decision:
        gate.wait(10)
        made.append(1)
        return Decision(Outcome.CORRUPT)

    asking = [asyncio.to_thread(once, b"d" * 32, make) for _ in range(4)]
    tasks = [asyncio.ensure_future(it) for it in asking]
    gate.set()
    decisions = await asyncio.gather(*tasks)
    assert len(made) == 1
    assert decisions == [Decision(Outcome.CORRUPT, sha256=b"d" * 32)] * 4


async def test_memory_is_given_in_the_order_of_asking() -> None:
    """A large one is not overtaken for ever, a cancelled one holds nothing, too much is all."""
    memory = Memory(100)
    await memory.take(60)
    large = asyncio.ensure_future(memory.take(1000))
    small = asyncio.ensure_future(memory.take(10))
    given_up = asyncio.ensure_future(memory.take(10))
    await asyncio.sleep(0)
    assert not large.done()
    assert not small.done()
    given_up.cancel()
    memory.give(60)
    async with asyncio.timeout(5):
        await large
    assert not small.done()
    memory.give(1000)
    async with asyncio.timeout(5):
        await small
        await memory.take(90)


async def test_one_large_file_at_a_time_fits_a_small_memory(
    blobs: LocalBlobs, judge: Judge
) -> None:
    """Files of more than the whole budget pass one after another."""
    data = ENCODERS["bmp"](photograph().resize((900, 600)))
    contents: list[Content] = [data + bytes([place]) for place in range(6)]
    await store_chunk(blobs, CHUNK, contents)
    async with asyncio.timeout(60):
        judged = await judge.judge(blobs, CHUNK, 6, Limits(), ignore)
    assert all(decision.good for decision in judged.decisions.values())
    async with asyncio.timeout(5):
        await judge.memory.take(1 << 20)


async def test_cancelling_gives_everything_back(blobs: LocalBlobs, judge: Judge) -> None:
    """A cancelled chunk leaves no bytes in the budget, and the threads to others."""
    await store_chunk(blobs, CHUNK, list(photographs()[:100]))
    started = asyncio.Event()
    task = asyncio.ensure_future(judge.judge(blobs, CHUNK, 100, Limits(), lambda _: started.set()))
    async with asyncio.timeout(30):
        await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(10):
        await judge.memory.take(1 << 20)
    judge.memory.give(1 << 20)
    judged = await judge.judge(blobs, CHUNK, 100, Limits(), ignore)
    assert len(judged.decisions) == 100


async def test_the_event_loop_goes_on_while_images_are_decided(
    blobs: LocalBlobs, judge: Judge
) -> None:
    """Deciding a chunk never holds the loop for long: heartbeats share it."""
    await store_chunk(blobs, CHUNK, list(photographs()[:200]))
    longest = 0.0
    task = asyncio.ensure_future(judge.judge(blobs, CHUNK, 200, Limits(), ignore))
    while not task.done():
        before = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - before)
    assert len(task.result().decisions) == 200
    assert longest < 2  # a heartbeat every 3 s; on a quiet machine it is some ms
