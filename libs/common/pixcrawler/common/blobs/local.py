"""Objects as files in a folder.

An object is written to a temporary file of the same file system, made durable, and then given its
name by a hard link: the link is atomic, refuses to replace, and so decides who was first. A writer
keeps a file lock on its temporary file; one without a lock is a dead writer's, and is removed when
the next process first writes.
"""

import asyncio
import errno
import fcntl
import os
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias, TypeVar, TypeVarTuple

from pixcrawler.common.blobs import checked, checked_prefix
from pixcrawler.common.blobs.port import BlobInfo, Content
from pixcrawler.common.errors import BlobNotFound, Retry

PIECE = 1 << 20
"""Bytes that one step through a thread moves: many enough that the hand-over costs nothing."""

TEMPORARY = ".tmp"
"""The folder of unfinished objects, below the root; no object's name begins with a dot."""

TRIES = 2
"""A file system that failed once is asked once more."""

THREADS = 4
"""Of our own: a slow disk must not take the default executor from name resolution."""

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class LocalBlobs:
    """A folder as a blob store, shared by any number of processes of one machine.

    Args:
        root: The folder; made when something is first written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="blobs")
        self._swept = False

    async def create(self, name: str, content: Content) -> bool:
        """See `BlobStore.create`."""
        path = self._path(name)
        return await self._write(path, content, replace=False)

    async def put(self, name: str, content: Content) -> None:
        """See `BlobStore.put`."""
        await self._write(self._path(name), content, replace=True)

    async def read(self, name: str) -> bytes:
        """See `BlobStore.read`."""
        try:
            return await self._twice(self._path(name).read_bytes)
        except (FileNotFoundError, IsADirectoryError):
            raise BlobNotFound(name) from None

    async def stream(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """See `BlobStore.stream`."""
        file = _Reader(self._path(name))
        left = length
        try:
            await self._twice(file.open, offset)
            while left is None or left > 0:
                size = PIECE if left is None else min(PIECE, left)
                piece = await self._once(file.read, size)
                if not piece:
                    return
                left = None if left is None else left - len(piece)
                yield piece
        except (FileNotFoundError, IsADirectoryError):
            raise BlobNotFound(name) from None
        finally:
            self._threads.submit(file.close)

    async def stat(self, name: str) -> BlobInfo | None:
        """See `BlobStore.stat`."""
        return await self._twice(_stat, self._path(name), name)

    async def list(self, prefix: str) -> AsyncIterator[BlobInfo]:
        """See `BlobStore.list`; reads one folder at a time."""
        folder = prefix.rpartition("/")[0]
        if folder:
            checked(folder)
        waiting: list[_Entry] = [(folder + "/" if folder else "", None)]
        while waiting:
            name, info = waiting.pop()
            if info is not None:
                yield info
                continue
            entries = await self._twice(_entries, self.root, name)
            waiting.extend(
                entry
                for entry in reversed(entries)
                if entry[0].startswith(prefix) or (entry[1] is None and prefix.startswith(entry[0]))
            )

    async def delete(self, name: str) -> None:
        """See `BlobStore.delete`."""
        await self._twice(_delete, self.root, self._path(name))

    async def delete_prefix(self, prefix: str) -> int:
        """See `BlobStore.delete_prefix`."""
        checked_prefix(prefix)
        return await self._twice(_delete_tree, self.root, self.root / prefix)

    async def link(self, name: str, *, expires_s: int, filename: str) -> str | None:  # noqa: ARG002 - the port's
        """None: a file cannot sign."""
        checked(name)
        return None

    async def check(self) -> None:
        """See `BlobStore.check`."""
        await self._twice(_check, self.root)

    async def close(self) -> None:
        """Let go of the threads once they have finished what they do."""
        await asyncio.to_thread(self._threads.shutdown)

    def _path(self, name: str) -> Path:
        return self.root / checked(name)

    async def _write(self, path: Path, content: Content, *, replace: bool) -> bool:
        if not self._swept:
            self._swept = True
            await self._twice(sweep, self.root)
        if isinstance(content, bytes):
            return await self._twice(_write_whole, self.root, path, content, replace)
        return await self._write_stream(path, content, replace=replace)

    async def _write_stream(
        self, path: Path, content: AsyncIterator[bytes], *, replace: bool
    ) -> bool:
        temporary = _Temporary(self.root)
        try:
            async with aclosing(_pieces(content)) as pieces:
                async for piece in pieces:
                    await self._once(temporary.write, piece)
            return await self._once(temporary.commit, path, replace)
        finally:
            # Also where we are cancelled while a thread still writes: the lock makes this wait.
            await asyncio.shield(self._submit(temporary.close))

    def _submit(self, function: Callable[[*Ts], R], *args: *Ts) -> asyncio.Future[R]:
        return asyncio.wrap_future(self._threads.submit(function, *args))

    async def _once(self, function: Callable[[*Ts], R], *args: *Ts) -> R:
        return await self._tries(1, function, *args)

    async def _twice(self, function: Callable[[*Ts], R], *args: *Ts) -> R:
        return await self._tries(TRIES, function, *args)

    async def _tries(self, tries: int, function: Callable[[*Ts], R], *args: *Ts) -> R:
        for last in range(tries - 1, -1, -1):
            try:
                return await self._submit(function, *args)
            except (FileNotFoundError, IsADirectoryError):
                raise
            except OSError as error:
                if not last:
                    raise Retry(f"the blob store's disk: {error}", error="blob_store") from error
        raise AssertionError("unreachable")


async def _pieces(content: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The content in pieces of `PIECE` at least, so that few of them cross to a thread."""
    buffer = bytearray()
    async for piece in content:
        buffer += piece
        if len(buffer) >= PIECE:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


class _Reader:
    """A file whose steps may run in any thread, one at a time."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        self._fd: int | None = None

    def open(self, offset: int) -> None:
        with self._lock:
            self._fd = os.open(self._path, os.O_RDONLY)
            os.lseek(self._fd, offset, os.SEEK_SET)

    def read(self, size: int) -> bytes:
        with self._lock:
            assert self._fd is not None
            return os.read(self._fd, size)

    def close(self) -> None:
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None


class _Temporary:
    """An unfinished object: a file that is locked as long as its writer lives.

    It exists from the first write on. Its steps may run in any thread, one at a time.
    """

    def __init__(self, root: Path) -> None:
        self._lock = threading.Lock()
        self._path = root / TEMPORARY / uuid.uuid4().hex
        self._fd: int | None = None

    def _open(self) -> int:
        while self._fd is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                self._fd = fd
            else:
                os.close(fd)  # swept between our making it and locking it
        return self._fd

    def write(self, data: bytes) -> None:
        with self._lock:
            fd, view = self._open(), memoryview(data)
            while view:
                view = view[os.write(fd, view) :]

    def commit(self, path: Path, replace: bool) -> bool:
        """Give it its name; False if that is taken. Durable when this returns."""
        with self._lock:
            os.fsync(self._open())
            created = self._name(path, replace)
            # Also where it is taken: what the caller adopts must not vanish with the power.
            _sync_folder(path.parent)
            return created

    def _name(self, path: Path, replace: bool) -> bool:
        while True:
            _make_folders(path.parent)
            try:
                if replace:
                    os.replace(self._path, path)  # noqa: PTH105 - next to link, its twin
                else:
                    os.link(self._path, path)
            except FileExistsError:
                return False
            except FileNotFoundError:
                if not self._path.exists():
                    raise
                continue  # the folder was removed, being empty, before we used it
            return True

    def close(self) -> None:
        """Remove what is left of it; again and again does no harm."""
        with self._lock:
            if self._fd is not None:
                self._path.unlink(missing_ok=True)
                os.close(self._fd)
                self._fd = None


def _write_whole(root: Path, path: Path, content: bytes, replace: bool) -> bool:
    temporary = _Temporary(root)
    try:
        temporary.write(content)
        return temporary.commit(path, replace)
    finally:
        temporary.close()


def sweep(root: Path) -> int:
    """Remove the temporary files of dead writers; how many there were."""
    removed = 0
    try:
        strays = list((root / TEMPORARY).iterdir())
    except FileNotFoundError:
        return 0
    for stray in strays:
        with suppress(FileNotFoundError):
            fd = os.open(stray, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                stray.unlink()
                removed += 1
            except BlockingIOError:
                pass  # its writer lives
            finally:
                os.close(fd)
    return removed


def _make_folders(folder: Path) -> None:
    """Make the folder and those above it, each durable in its own."""
    if folder.is_dir():
        return
    _make_folders(folder.parent)
    with suppress(FileExistsError, FileNotFoundError):  # the caller tries again
        folder.mkdir()
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    try:
        fd = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return  # removed since; what it held is gone anyway
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _stat(path: Path, name: str) -> BlobInfo | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if path.is_dir():
        return None
    return _info(name, found)


def _info(name: str, found: os.stat_result) -> BlobInfo:
    return BlobInfo(name, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))


_Entry: TypeAlias = tuple[str, BlobInfo | None]
"""A name that ends with `/` is a folder's, and has nothing else."""


def _entries(root: Path, folder: str) -> list[_Entry]:
    """What is in a folder, in the order of full names; with its size and time, in one go."""
    try:
        with os.scandir(root / folder) as entries:
            found = [_entry(folder, entry) for entry in entries if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(filter(None, found), key=itemgetter(0))


def _entry(folder: str, entry: os.DirEntry[str]) -> _Entry | None:
    """None if it is gone meanwhile."""
    if entry.is_dir():
        return f"{folder}{entry.name}/", None
    name = f"{folder}{entry.name}"
    try:
        return name, _info(name, entry.stat())
    except FileNotFoundError:
        return None


def _delete(root: Path, path: Path) -> None:
    with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
        path.unlink()
        _remove_empty(root, path.parent)


def _delete_tree(root: Path, top: Path) -> int:
    removed = 0
    for path in _files_and_folders(top):
        with suppress(FileNotFoundError):
            if path.is_dir():
                _remove_if_empty(path)
            else:
                path.unlink()
                removed += 1
    _remove_empty(root, top)
    return removed


def _files_and_folders(top: Path) -> Iterator[Path]:
    """Everything below, the deepest first."""
    for folder, _, files in os.walk(top, topdown=False):
        yield from (Path(folder) / file for file in files)
        yield Path(folder)


def _remove_empty(root: Path, folder: Path) -> None:
    """Remove the folder and those above it as far as they are empty, never the root."""
    while folder != root and _remove_if_empty(folder):
        folder = folder.parent


def _remove_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
            return False
        raise
    return True


def _check(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    if not os.access(root, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "not writable", str(root))
