"""The port to the blob store: what a store can do, and nothing of how.

Two adapters keep one contract suite: `local.LocalBlobs` (a folder) and `azure.AzureBlobs`. Names
are relative paths with `/`, without `.` and `..` segments. Transient trouble is retried inside the
adapter (five tries for a remote store, one more for a file system) and then raised as
`errors.Retry`.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import NamedTuple, Protocol


class BlobInfo(NamedTuple):
    """An object's name, its size in bytes, and when it was made."""

    name: str
    size: int
    modified: datetime


Content = bytes | AsyncIterator[bytes]
"""The bytes of an object, whole or in pieces of any size; an iterator is consumed once."""


class BlobStore(Protocol):
    """Conditional creation is the fence against doing things twice: see `create`."""

    async def create(self, name: str, content: Content) -> bool:
        """Create an object unless one of that name is there.

        Atomic: no reader ever sees a part of it, and a crash leaves no object. If the content's
        iterator raises, nothing is created and the error is passed on.

        Returns:
            True if this call created it, False if one was there (which stays as it is).
        """
        ...

    async def put(self, name: str, content: Content) -> None:
        """Create or replace an object, atomically: only for copies that decide nothing."""
        ...

    async def read(self, name: str) -> bytes:
        """The whole object.

        Raises:
            BlobNotFound: there is none.
        """
        ...

    def stream(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """The object's bytes from `offset` on, in pieces of 1 MiB at most.

        Raises:
            BlobNotFound: there is none (when the first piece is asked for).
        """
        ...

    async def stat(self, name: str) -> BlobInfo | None:
        """Size and time of an object, None if there is none."""
        ...

    def list(self, prefix: str) -> AsyncIterator[BlobInfo]:
        """Objects whose names begin with the prefix, ascending by name."""
        ...

    async def delete(self, name: str) -> None:
        """Remove an object; nothing happens if there is none."""
        ...

    async def delete_prefix(self, prefix: str) -> int:
        """Remove all objects below a prefix that ends with `/`; how many there were."""
        ...

    async def link(self, name: str, *, expires_s: int, filename: str) -> str | None:
        """A URL that reads the object without credentials for `expires_s` seconds.

        None where the store cannot sign: the api then serves the object itself.
        """
        ...

    async def check(self) -> None:
        """Raise `errors.Retry` if the store cannot be reached (readiness)."""
        ...

    async def close(self) -> None:
        """Let go of connections and threads."""
        ...
