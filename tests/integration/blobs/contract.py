"""What every blob store promises: one suite, run against each adapter."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.errors import BlobNotFound

MIB = 1 << 20


async def pieces(data: bytes, size: int = 64 << 10) -> AsyncIterator[bytes]:
    """The data in pieces."""
    for start in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[start : start + size]


async def generated(count: int) -> AsyncIterator[bytes]:
    """Pieces of 1 MiB that nobody keeps."""
    for index in range(count):
        yield bytes([index]) * MIB


class BrokenContentError(Exception):
    """What an iterator raises in the middle."""


class Contract:
    """Subclasses give the fixture `store`: empty, and nobody else's."""

    async def test_create_read_stat(self, store: BlobStore) -> None:
        """What was created can be read, and its size and time are known."""
        assert await store.create("jobs/a/x.json", b"hello")
        assert await store.read("jobs/a/x.json") == b"hello"
        info = await store.stat("jobs/a/x.json")
        assert info is not None
        assert (info.name, info.size) == ("jobs/a/x.json", 5)
        assert info.modified.tzinfo is not None
        await store.check()

    async def test_empty_object(self, store: BlobStore) -> None:
        """No bytes are an object too, whole or as a stream."""
        assert await store.create("a/whole", b"")
        assert await store.create("a/stream", pieces(b""))
        assert await store.read("a/whole") == await store.read("a/stream") == b""
        assert [piece async for piece in store.stream("a/whole")] == []

    async def test_what_is_not_there(self, store: BlobStore) -> None:
        """Reading a missing object is BlobNotFound, stat is None, delete and list are quiet."""
        assert await store.stat("a/none") is None
        with pytest.raises(BlobNotFound):
            await store.read("a/none")
        with pytest.raises(BlobNotFound):
            await anext(store.stream("a/none"))
        await store.delete("a/none")
        assert [info async for info in store.list("a/")] == []
        assert await store.delete_prefix("a/") == 0

    async def test_second_creation_is_refused(self, store: BlobStore) -> None:
        """Whoever comes second gets False, and the first content stays."""
        assert await store.create("a/b", b"first")
        assert not await store.create("a/b", b"second")
        assert not await store.create("a/b", pieces(b"third"))
        assert not await store.create("a/b", pieces(b"4" * (9 * MIB)))
        assert await store.read("a/b") == b"first"

    @pytest.mark.parametrize("size", [10, 5 * MIB])
    async def test_one_creator_wins(self, store: BlobStore, size: int) -> None:
        """Of 20 concurrent creators with different content exactly one wins; all read its bytes."""
        contents = [bytes([index]) * size for index in range(20)]

        async def attempt(index: int) -> tuple[bool, bytes]:
            content = contents[index]
            won = await store.create("race/x", pieces(content) if index % 2 else content)
            return won, await store.read("race/x")

        answers = await asyncio.gather(*map(attempt, range(20)))
        winners = [index for index, (won, _) in enumerate(answers) if won]
        assert len(winners) == 1
        assert {seen for _, seen in answers} == {contents[winners[0]]}

    async def test_nothing_is_visible_before_the_end(self, store: BlobStore) -> None:
        """While its content still comes, an object is neither readable nor listed."""
        written, go_on = asyncio.Event(), asyncio.Event()

        async def content() -> AsyncIterator[bytes]:
            yield b"x" * (9 * MIB)
            written.set()
            await go_on.wait()
            yield b"y"

        creation = asyncio.create_task(store.create("slow/x", content()))
        await asyncio.wait_for(written.wait(), 30)
        assert await store.stat("slow/x") is None
        assert [info async for info in store.list("")] == []
        go_on.set()
        assert await creation
        info = await store.stat("slow/x")
        assert info is not None
        assert info.size == 9 * MIB + 1

    @pytest.mark.parametrize("size", [10, 9 * MIB])
    async def test_broken_content_leaves_nothing(self, store: BlobStore, size: int) -> None:
        """If the content raises, the error is passed on, and the name is free."""

        async def content() -> AsyncIterator[bytes]:
            yield b"x" * size
            raise BrokenContentError

        with pytest.raises(BrokenContentError):
            await store.create("broken/x", content())
        assert await store.stat("broken/x") is None
        with pytest.raises(BrokenContentError):
            await store.create("broken/y", content())
        assert await store.create("broken/x", b"fine")
        assert await store.create("broken/y", pieces(b"fine" * (3 * MIB)))
        assert await store.read("broken/x") == b"fine"
        assert await store.read("broken/y") == b"fine" * (3 * MIB)

    async def test_cancelled_creation_leaves_nothing(self, store: BlobStore) -> None:
        """A creator that is cancelled while it waits for content leaves the name free."""
        written = asyncio.Event()

        async def content() -> AsyncIterator[bytes]:
            yield b"x" * (9 * MIB)
            written.set()
            await asyncio.Event().wait()

        creation = asyncio.create_task(store.create("stopped/x", content()))
        await asyncio.wait_for(written.wait(), 30)
        creation.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creation
        assert await store.create("stopped/x", b"fine")

    async def test_put_replaces(self, store: BlobStore) -> None:
        """put writes whatever was there."""
        await store.put("copy/x", b"one")
        await store.put("copy/x", b"two")
        assert await store.read("copy/x") == b"two"

    async def test_put_takes_pieces(self, store: BlobStore) -> None:
        """A copy needs no memory of its size: what is read as a stream is written as one."""
        data = bytes(range(256)) * (5 * MIB // 256) + b"end"
        await store.create("copy/from", data)
        await store.put("copy/to", b"replaced")
        await store.put("copy/to", store.stream("copy/from"))
        assert await store.read("copy/to") == data

    async def test_a_copy_of_nothing_is_no_object(self, store: BlobStore) -> None:
        """What cannot be read is not written, and what was there stays."""
        await store.put("copy/kept", b"kept")
        with pytest.raises(BlobNotFound):
            await store.put("copy/kept", store.stream("copy/none"))
        assert await store.read("copy/kept") == b"kept"

    @pytest.mark.parametrize(
        ("offset", "length"),
        [(0, None), (0, 10), (5, 0), (4 * MIB - 1, 2), (MIB, 5 * MIB), (9 * MIB, None), (99, 99)],
    )
    async def test_ranges(self, store: BlobStore, offset: int, length: int | None) -> None:
        """A stream gives exactly the bytes asked for, in pieces of 1 MiB at most."""
        data = bytes(range(256)) * (9 * MIB // 256) + b"end"
        await store.create("range/x", data)
        got = [piece async for piece in store.stream("range/x", offset=offset, length=length)]
        end = None if length is None else offset + length
        assert b"".join(got) == data[offset:end]
        assert all(0 < len(piece) <= MIB for piece in got)

    async def test_beyond_the_end(self, store: BlobStore) -> None:
        """A range that begins at or after the end is empty."""
        await store.create("range/y", b"abc")
        assert [piece async for piece in store.stream("range/y", offset=3)] == []
        assert [piece async for piece in store.stream("range/y", offset=99, length=5)] == []

    async def test_a_stream_may_be_left(self, store: BlobStore) -> None:
        """A reader that stops in the middle holds nothing."""
        await store.create("left/x", b"x" * (3 * MIB))
        async for _ in store.stream("left/x"):
            break
        await store.delete("left/x")
        assert await store.stat("left/x") is None

    async def test_list_is_in_order(self, store: BlobStore) -> None:
        """Names come ascending as whole names; a prefix may end within a segment."""
        names = ["a/b/c", "a/b", "a.json", "a/b-1", "a/bc/d", "b", "a/b.x/y"]
        names.remove("a/b")  # a file cannot be a folder, so the port does not promise both
        for name in names:
            await store.create(name, name.encode())
        assert [i.name async for i in store.list("")] == sorted(names)
        assert [i.name async for i in store.list("a/b")] == sorted(
            name for name in names if name.startswith("a/b")
        )
        assert [(i.name, i.size) async for i in store.list("a/b/")] == [("a/b/c", 5)]
        assert [i.name async for i in store.list("a/b/c")] == ["a/b/c"]
        assert [i.name async for i in store.list("zzz/")] == []

    async def test_delete(self, store: BlobStore) -> None:
        """Deleting twice is fine, and the name can be created again."""
        await store.create("d/x", b"1")
        await store.delete("d/x")
        await store.delete("d/x")
        assert await store.create("d/x", b"2")

    async def test_delete_prefix(self, store: BlobStore) -> None:
        """A prefix is removed with everything below it and nothing beside it."""
        for index in range(40):
            await store.create(f"p/one/{index % 3}/{index}", b"x")
        await store.create("p/one-more", b"x")
        assert await store.delete_prefix("p/one/") == 40
        assert await store.delete_prefix("p/one/") == 0
        assert [i.name async for i in store.list("p/")] == ["p/one-more"]

    async def test_creating_while_the_folder_goes(self, store: BlobStore) -> None:
        """Creations succeed while their neighbours are removed again and again."""
        stop = asyncio.Event()

        async def remove() -> None:
            while not stop.is_set():
                await store.delete_prefix("churn/old/")

        remover = asyncio.create_task(remove())
        try:
            for index in range(30):
                assert await store.create(f"churn/old/{index}", b"x")
                assert await store.create(f"churn/new/{index}/x", b"x")
        finally:
            stop.set()
            await remover
        assert len([i async for i in store.list("churn/new/")]) == 30

    async def test_big_streams_need_little_memory(self, store: BlobStore) -> None:
        """30 MB go in and come out within 16 MiB of memory."""
        await store.create("warm/up", b"x" * 10)
        tracemalloc.start()
        try:
            assert await store.create("big/x", generated(30))
            size = 0
            async for piece in store.stream("big/x"):
                size += len(piece)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size == 30 * MIB
        assert peak < 16 * MIB

    @pytest.mark.parametrize(
        "name", ["", "/a", "a//b", "../a", "a/../b", "./a", "a/", "a\\b", ".tmp/x", "a\0b"]
    )
    async def test_tricks_are_refused(self, store: BlobStore, name: str) -> None:
        """A name that would leave the store, or hide in it, is a ValueError everywhere."""
        with pytest.raises(ValueError, match="not an object's name"):
            await store.create(name, b"x")
        with pytest.raises(ValueError, match="not an object's name"):
            await store.read(name)
        with pytest.raises(ValueError, match="not an object's name"):
            await store.delete(name)

    @pytest.mark.parametrize("prefix", ["", "/", "a", "../", "a/../"])
    async def test_prefixes_that_are_too_much(self, store: BlobStore, prefix: str) -> None:
        """Only a whole folder of the store can be removed, never all of it by mistake."""
        with pytest.raises(ValueError, match=r"prefix|not an object's name"):
            await store.delete_prefix(prefix)
