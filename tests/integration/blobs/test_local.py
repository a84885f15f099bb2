"""The folder as a blob store."""

import asyncio
import errno
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pixcrawler.common.blobs import open_blobs
from pixcrawler.common.blobs.failing import FailingBlobs
from pixcrawler.common.blobs.local import TEMPORARY, LocalBlobs, sweep
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.errors import Retry, SettingsError
from tests.integration.blobs.contract import Contract, pieces


class TestLocalBlobs(Contract):
    """The contract, on a folder."""

    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[BlobStore]:
        blobs = open_blobs(f"file://{tmp_path / 'blobs'}")
        yield blobs
        await blobs.close()
        strays = list((tmp_path / "blobs" / TEMPORARY).glob("*"))
        assert strays == []  # whatever a test did


class TestFailingBlobs(Contract):
    """The contract, on a store at which nobody wants the process to die."""

    @pytest_asyncio.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[BlobStore]:
        blobs = FailingBlobs(LocalBlobs(tmp_path / "blobs"))
        yield blobs
        await blobs.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from pixcrawler.common.blobs.local import LocalBlobs
async def content():
    yield b"x" * (2 << 20)
    print("written", flush=True)
    await asyncio.Event().wait()
asyncio.run(LocalBlobs(Path(sys.argv[1])).create("a/b", content()))
"""


async def test_strays_of_the_dead_are_removed(tmp_path: Path) -> None:
    """A killed writer's temporary file goes at the next process's first write, a live one stays."""
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, str(tmp_path), stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert await asyncio.wait_for(writer.stdout.readline(), 30) == b"written\n"
    assert sweep(tmp_path) == 0
    writer.kill()
    await writer.wait()
    assert len(list((tmp_path / TEMPORARY).iterdir())) == 1
    blobs = LocalBlobs(tmp_path)
    assert await blobs.create("a/b", b"mine")
    await blobs.close()
    assert list((tmp_path / TEMPORARY).iterdir()) == []


async def test_one_process_wins(tmp_path: Path) -> None:
    """Of several processes that create one object at once exactly one is told that it did."""
    racer = (
        "import asyncio,sys\nfrom pathlib import Path\n"
        "from pixcrawler.common.blobs.local import LocalBlobs\n"
        "sys.stdin.readline()\n"
        "print(asyncio.run(LocalBlobs(Path(sys.argv[1])).create('r/x', sys.argv[2].encode())))"
    )
    racers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            racer,
            str(tmp_path),
            str(index),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for index in range(4)
    ]
    answers = await asyncio.gather(*(process.communicate(b"\n") for process in racers))
    won = [index for index, (out, _) in enumerate(answers) if out == b"True\n"]
    assert len(won) == 1
    assert (tmp_path / "r" / "x").read_bytes() == str(won[0]).encode()


async def test_a_disk_that_fails_is_retry(tmp_path: Path) -> None:
    """A root that cannot be one is the signal to come back later, not a crash."""
    (tmp_path / "file").write_bytes(b"")
    blobs = LocalBlobs(tmp_path / "file")
    with pytest.raises(Retry):
        await blobs.check()
    with pytest.raises(Retry):
        await blobs.create("a/b", pieces(b"x"))
    await blobs.close()


@pytest.mark.parametrize("bad", [1, 2])
async def test_a_disk_is_asked_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bad: int
) -> None:
    """One hiccup harms nothing; after the second the caller is told to come back later."""
    read, asked = Path.read_bytes, []

    def hiccup(path: Path) -> bytes:
        asked.append(path)
        if len(asked) <= bad:
            raise OSError(errno.EIO, "the disk has a hiccup")
        return read(path)

    blobs = LocalBlobs(tmp_path)
    assert await blobs.create("a/b", b"x")
    monkeypatch.setattr(Path, "read_bytes", hiccup)
    if bad == 1:
        assert await blobs.read("a/b") == b"x"
    else:
        with pytest.raises(Retry, match="hiccup"):
            await blobs.read("a/b")
    assert len(asked) == 2
    await blobs.close()


@pytest.mark.parametrize("url", ["", "blobs", "file://relative", "s3://x", "azure://ab"])
async def test_urls_that_are_none(url: str) -> None:
    """A wrong URL stops the program with one line."""
    with pytest.raises(SettingsError, match="PIXCRAWLER_BLOB_URL"):
        open_blobs(url)


async def test_azure_is_not_imported_for_a_folder() -> None:
    """A process with local blobs does not pay for Azure's client."""
    code = (
        "import sys; from pixcrawler.common.blobs import open_blobs; open_blobs('file:///tmp/x');"
        "print([name for name in sys.modules if name.startswith('azure')])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=subprocess.PIPE
    )
    assert (await process.communicate())[0] == b"[]\n"
