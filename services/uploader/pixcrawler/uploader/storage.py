"""Storing what the uploader makes, and knowing size and sha256 of what is stored."""

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.context import Context, decide
from pixcrawler.common.documents import Files, StoredFile
from pixcrawler.common.errors import BlobNotFound, Retry
from pixcrawler.uploader import parts
from pixcrawler.uploader.archive import ReadImage, pack
from pixcrawler.uploader.images import ARCHIVE_EXTENSION, Format, KeptImage


class Measure:
    """Size and sha256 of the bytes that pass through."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.size = 0

    async def of(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same pieces."""
        async for piece in pieces:
            self._digest.update(piece)
            self.size += len(piece)
            yield piece

    def stored_as(self, name: str) -> StoredFile:
        """What passed, under the name that it has now."""
        return StoredFile(name=name, size=self.size, sha256=self._digest.hexdigest())


async def store_archive(
    chunk: str,
    images: Sequence[KeptImage],
    form: Format,
    *,
    context: Context,
    blobs: BlobStore,
    files: Files | None,
    report: Callable[[], None],
) -> StoredFile | None:
    """Pack these images of a chunk, unless that was done before; None where there are none.

    Args:
        chunk: Which one.
        images: What is kept of it.
        form: How they are packed.
        context: Told how far the work is.
        blobs: Where the parts are, and the archive will be.
        files: What the images are, where the job wants them transformed.
        report: Told of each image.

    Raises:
        BlobNotFound: a part is missing, or the archive that was there went away.
        GiveUp: the parts do not hold what was judged.
        Retry: what is stored is not what was written.
        Stopped: the job is no longer wanted.
    """
    if not images:
        return None
    name = names.archive(chunk, ARCHIVE_EXTENSION[form])
    await context.check()
    if await blobs.stat(name) is not None:
        return await stored(blobs, name)
    extents = await _extents(chunk, images, files, blobs)
    reader = parts.ReadAhead(blobs, [(image.position, extents[image.position]) for image in images])
    measure = Measure()
    packed = pack(images, _reporting(reader, report), form)
    try:
        created = await decide(context, blobs, name, measure.of(packed))
    finally:
        await reader.close()
    if not created:
        return await stored(blobs, name)
    return await _proved(blobs, measure.stored_as(name))


async def _extents(
    chunk: str, images: Sequence[KeptImage], files: Files | None, blobs: BlobStore
) -> Mapping[int, parts.Extent]:
    """Where each image is: among what was fetched, or among what was made of it."""
    made = {file.position for file in files.items if file.transformed} if files else set()
    fetched = [image.position for image in images if image.position not in made]
    return {
        **await parts.locate(blobs, chunk, fetched),
        **await parts.locate_transformed(blobs, chunk, made),
    }


def _reporting(read: ReadImage, report: Callable[[], None]) -> ReadImage:
    """Reads images and says when each is done."""

    async def reading(position: int) -> AsyncIterator[bytes]:
        async for piece in read(position):
            yield piece
        report()

    return reading


async def _proved(blobs: BlobStore, written: StoredFile) -> StoredFile:
    """The file that was written, if the store has all of it.

    Raises:
        Retry: it has not; what it has is removed (an archive decides nothing).
    """
    info = await blobs.stat(written.name)
    if info is None:
        raise BlobNotFound(written.name)
    if info.size != written.size:
        await blobs.delete(written.name)
        raise Retry(
            f"{written.name}: {written.size} bytes were written, {info.size} are stored",
            error="blob_store",
        )
    return written


async def stored(blobs: BlobStore, name: str) -> StoredFile:
    """Size and sha256 of an object, read back.

    Raises:
        BlobNotFound: there is none.
    """
    measure = Measure()
    async for _ in measure.of(blobs.stream(name)):
        pass
    return measure.stored_as(name)
