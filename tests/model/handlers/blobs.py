"""A blob store in memory, which passes the contract of the real ones and stops at every effect."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from pixcrawler.common.blobs import checked, checked_prefix
from pixcrawler.common.blobs.port import BlobInfo, Content
from pixcrawler.common.errors import BlobNotFound
from tests.model.handlers.process import effect

PIECE = 1 << 20
_WHEN = datetime(2024, 1, 1, tzinfo=UTC)


class MemoryBlobs:
    """Objects by name.

    Args:
        created: Told of each object that is created.
        write_once: Off, creating writes over what is there: a rule to switch off.
    """

    def __init__(
        self, created: Callable[[str, bytes], None] | None = None, *, write_once: bool = True
    ) -> None:
        self.objects: dict[str, bytes] = {}
        self._created = created
        self._write_once = write_once

    async def create(self, name: str, content: Content) -> bool:
        """Create an object unless one of that name is there."""
        checked(name)
        data = await _whole(content)
        await effect()
        if name in self.objects and self._write_once:
            return False
        self.objects[name] = data
        if self._created is not None:
            self._created(name, data)
        return True

    async def put(self, name: str, content: Content) -> None:
        """Create or replace an object."""
        checked(name)
        data = await _whole(content)
        await effect()
        self.objects[name] = data

    async def read(self, name: str) -> bytes:
        """The whole object."""
        checked(name)
        await effect()
        if name not in self.objects:
            raise BlobNotFound(name)
        return self.objects[name]

    async def stream(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """The object's bytes from `offset` on."""
        data = await self.read(name)
        end = len(data) if length is None else min(offset + length, len(data))
        for start in range(offset, end, PIECE):
            yield data[start : min(start + PIECE, end)]

    async def stat(self, name: str) -> BlobInfo | None:
        """Size and time of an object, None if there is none."""
        checked(name)
        await effect()
        return self._info(name) if name in self.objects else None

    async def list(self, prefix: str) -> AsyncIterator[BlobInfo]:
        """Objects whose names begin with the prefix, ascending by name."""
        await effect()
        for name in sorted(name for name in self.objects if name.startswith(prefix)):
            if name in self.objects:
                yield self._info(name)

    async def delete(self, name: str) -> None:
        """Remove an object; nothing happens if there is none."""
        checked(name)
        await effect()
        self.objects.pop(name, None)

    async def delete_prefix(self, prefix: str) -> int:
        """Remove all objects below a prefix, one after another; how many there were."""
        checked_prefix(prefix)
        removed = 0
        for name in [name for name in self.objects if name.startswith(prefix)]:
            await effect()
            removed += self.objects.pop(name, None) is not None
        return removed

    async def link(self, name: str, *, expires_s: int, filename: str) -> str | None:  # noqa: ARG002
        """It cannot sign."""
        return None

    async def check(self) -> None:
        """It is always there."""

    async def close(self) -> None:
        """There is nothing to let go of."""

    def _info(self, name: str) -> BlobInfo:
        return BlobInfo(name, len(self.objects[name]), _WHEN)


async def _whole(content: Content) -> bytes:
    if isinstance(content, bytes):
        return content
    return b"".join([piece async for piece in content])
