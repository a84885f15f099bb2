"""A blob store at whose every write the process may die (`pixcrawler.common.failpoints`)."""

from collections.abc import AsyncIterator

from pixcrawler.common import failpoints
from pixcrawler.common.blobs.port import BlobInfo, BlobStore, Content

_CHUNK_DEPTH = 3
"""Segments of a chunk's prefix, `staging/<job>/<chunk>`; those of a job have fewer."""


class FailingBlobs:
    """Another store, with a fail point before and after each object that comes or goes.

    Args:
        blobs: The store that does the work.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    async def create(self, name: str, content: Content) -> bool:
        """See `BlobStore.create`. `within`: bytes were written, and nothing has the name yet."""
        kind = kind_of(name)
        failpoints.hit(f"before:{kind}")
        whole = content if isinstance(content, bytes) else _within(content, kind)
        made = await self._blobs.create(name, whole)
        failpoints.hit(f"after:{kind}")
        return made

    async def put(self, name: str, content: Content) -> None:
        """See `BlobStore.put`."""
        failpoints.hit("before:copy")
        await self._blobs.put(name, content)
        failpoints.hit("after:copy")

    async def read(self, name: str) -> bytes:
        """See `BlobStore.read`."""
        return await self._blobs.read(name)

    def stream(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """See `BlobStore.stream`."""
        return self._blobs.stream(name, offset=offset, length=length)

    async def stat(self, name: str) -> BlobInfo | None:
        """See `BlobStore.stat`."""
        return await self._blobs.stat(name)

    def list(self, prefix: str) -> AsyncIterator[BlobInfo]:
        """See `BlobStore.list`."""
        return self._blobs.list(prefix)

    async def delete(self, name: str) -> None:
        """See `BlobStore.delete`."""
        failpoints.hit("before:discard")
        await self._blobs.delete(name)
        failpoints.hit("after:discard")

    async def delete_prefix(self, prefix: str) -> int:
        """See `BlobStore.delete_prefix`."""
        of_chunk = len(prefix.rstrip("/").split("/")) >= _CHUNK_DEPTH
        what = "staging" if of_chunk else "erase"
        failpoints.hit(f"before:{what}")
        removed = await self._blobs.delete_prefix(prefix)
        failpoints.hit(f"after:{what}")
        return removed

    async def link(self, name: str, *, expires_s: int, filename: str) -> str | None:
        """See `BlobStore.link`."""
        return await self._blobs.link(name, expires_s=expires_s, filename=filename)

    async def check(self) -> None:
        """See `BlobStore.check`."""
        await self._blobs.check()

    async def close(self) -> None:
        """See `BlobStore.close`."""
        await self._blobs.close()


def kind_of(name: str) -> str:
    """What an object is: `candidates`, `part`, `verdicts`, `archive`, …, as in `POINTS`."""
    last = name.rpartition("/")[2]
    for numbered in ("part", "transformed"):
        if last.startswith(f"{numbered}-"):
            return numbered
    if last.startswith("chunk_"):
        return "archive"
    return last.partition(".")[0]


async def _within(content: AsyncIterator[bytes], kind: str) -> AsyncIterator[bytes]:
    async for piece in content:
        yield piece
        if kind in ("part", "archive"):
            failpoints.hit(f"within:{kind}")
