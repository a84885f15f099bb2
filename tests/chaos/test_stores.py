"""A bad blob store is as bad as it is said to be, and good again afterwards."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.errors import Retry
from tests.chaos import suffering
from tests.chaos.proxy import Proxy
from tests.chaos.schedule import LOCAL_STORE, Kind
from tests.chaos.stores import MODES, LocalTrouble, disk_of_its_own

MANY = 40


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file that local stores look at from now on."""
    monkeypatch.setattr(LocalBlobs, "_submit", LocalBlobs._submit)  # put back at the end
    monkeypatch.setattr(suffering, "SLOW_S", 0.01)
    suffering._wrap_disk(tmp_path / "disk")
    return tmp_path / "disk"


async def test_a_local_store_suffers(patched: Path, tmp_path: Path) -> None:
    """Away and full it fails, with errors it fails sometimes, slow it works, then it is well."""
    trouble, store = LocalTrouble(patched, None), LocalBlobs(tmp_path / "blobs")
    await store.put("there", b"it is")
    trouble.begin(Kind.BLOB_AWAY)
    with pytest.raises(Retry, match=os.strerror(errno.EIO)):
        await store.read("there")
    trouble.begin(Kind.DISK_FULL)
    assert await store.read("there") == b"it is"
    with pytest.raises(Retry, match=os.strerror(errno.ENOSPC)):
        await store.create("more", b"content")
    trouble.begin(Kind.BLOB_ERRORS)
    answers = await asyncio.gather(
        *(store.read("there") for _ in range(MANY)), return_exceptions=True
    )
    assert {type(answer) for answer in answers} == {bytes, Retry}
    trouble.begin(Kind.BLOB_SLOW)
    assert await store.read("there") == b"it is"
    trouble.end()
    assert await store.create("more", b"content")
    await store.close()


def test_a_disk_is_full(tmp_path: Path) -> None:
    """A file system of its own has no room for an image any more, and then has."""
    with disk_of_its_own(tmp_path / "disk") as disk:
        if disk is None:
            pytest.skip("only root may mount: here the wrapper's ENOSPC stands for a full disk")
        file, image = tmp_path / "disk" / "image", bytes(1 << 20)
        disk.fill()
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            file.write_bytes(image)
        disk.empty()
        assert file.write_bytes(image) == len(image)


@pytest_asyncio.fixture
async def store_port() -> AsyncIterator[int]:
    """Something that answers."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="well")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield int(runner.addresses[0][1])
    await runner.cleanup()


async def test_a_line_is_bad(store_port: int) -> None:
    """Well, then errors of both kinds beside answers, slow, away, and well again."""
    proxy = Proxy(store_port)
    port = await proxy.start()
    try:
        assert await _asked(port, 1) == {200}
        await proxy.behave("errors")
        assert await _asked(port, MANY) == {200, 500, 503}
        await proxy.behave("slow")
        assert await _asked(port, 1) == {200}
        await proxy.behave("away")
        assert await _asked(port, 1) == {0}
        await proxy.behave("")
        assert await _asked(port, 1) == {200}
    finally:
        await proxy.stop()


def test_every_kind_has_its_way() -> None:
    """No kind of trouble is taken for another."""
    ways: Callable[[Kind], str] = MODES.__getitem__
    kinds = [kind for kind in Kind if kind.startswith("blob-")]
    assert len({ways(kind) for kind in kinds}) == len(kinds)
    assert not LOCAL_STORE & set(MODES)


async def _asked(port: int, times: int) -> set[int]:
    """The statuses of so many answers; 0 for none."""

    async def ask(session: aiohttp.ClientSession) -> int:
        try:
            async with session.get(f"http://127.0.0.1:{port}/") as answer:
                return answer.status
        except aiohttp.ClientError:
            return 0

    async with aiohttp.ClientSession() as session:
        return set(await asyncio.gather(*(ask(session) for _ in range(times))))
