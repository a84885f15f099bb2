"""A chunk's archive as a stream of bytes, straight from where its images are.

The bytes are a pure function of the records and the images: names are sorted, times, owners and
modes are fixed, nothing is compressed (images are compressed already: deflating them costs twenty
times the time and saves two percent). How the images arrive, in pieces of which size and how fast,
changes nothing. No more than a few pieces are in memory at any time.

ZIP is written by `zipfile` to a sink without `seek`, one way everywhere, since it writes other
bytes to a file that can seek: sizes and checksums follow each image (data descriptors) and stand in
the central directory. Python's `zipfile` turns to ZIP64 by itself where offsets or counts need it.
"""

import hashlib
import tarfile
from collections.abc import AsyncIterator, Callable, Sequence
from stat import S_IFREG
from typing import NamedTuple
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from pixcrawler.common.errors import GiveUp
from pixcrawler.uploader.images import Format, ImageRecord, KeptImage, metadata_lines

ReadImage = Callable[[int], AsyncIterator[bytes]]
"""The bytes of the image at a position, in pieces of any size."""

METADATA = "metadata.jsonl"
PIECE_BYTES = 1 << 20
"""Bytes that leave in one piece: large enough to cost little each, small enough to hold a few."""

_MODE = 0o644
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3  # ZipInfo.create_system; otherwise it depends on the machine


class Member(NamedTuple):
    """A file of an archive: its name, its size, and its bytes or the image that they are."""

    name: str
    size: int
    content: bytes | KeptImage


def pack(images: Sequence[KeptImage], read: ReadImage, form: Format) -> AsyncIterator[bytes]:
    """The archive of these images, in pieces of about `PIECE_BYTES`.

    Args:
        images: What is kept, in any order.
        read: Gives an image's bytes.
        form: ZIP with `metadata.jsonl`, or a WebDataset tar with one JSON file per image.

    Raises:
        GiveUp: an image's bytes are not those that were judged.
    """
    return _zip(_zip_members(images), read) if form == "zip" else _tar(_tar_members(images), read)


def _zip_members(images: Sequence[KeptImage]) -> list[Member]:
    ordered = sorted(images, key=lambda image: image.record.file_name)
    metadata = metadata_lines(ordered)
    return sorted([*map(_image_member, ordered), Member(METADATA, len(metadata), metadata)])


def _tar_members(images: Sequence[KeptImage]) -> list[Member]:
    return sorted([*map(_image_member, images), *map(_record_member, images)])


def _image_member(image: KeptImage) -> Member:
    return Member(image.record.file_name, image.record.bytes, image)


def _record_member(image: KeptImage) -> Member:
    record = image.record.model_dump_json().encode()
    return Member(f"{image.record.file_name.rpartition('.')[0]}.json", len(record), record)


class _Sink:
    """A file that cannot seek and hands over what was written to it."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: bytes, /) -> int:
        self._pieces.append(data)
        self._size += len(data)
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    @property
    def full(self) -> bool:
        return self._size >= PIECE_BYTES

    def take(self) -> bytes:
        taken, self._pieces, self._size = b"".join(self._pieces), [], 0
        return taken


async def _zip(members: Sequence[Member], read: ReadImage) -> AsyncIterator[bytes]:
    sink = _Sink()
    with ZipFile(sink, "w", ZIP_STORED) as archive:
        for member in members:
            with archive.open(_zip_info(member), "w") as file:
                async for piece in _content(member, read):
                    file.write(piece)
                    if sink.full:
                        yield sink.take()
    yield sink.take()


def _zip_info(member: Member) -> ZipInfo:
    info = ZipInfo(member.name, _ZIP_EPOCH)
    info.create_system = _UNIX
    info.external_attr = (S_IFREG | _MODE) << 16
    info.compress_type = ZIP_STORED
    info.file_size = member.size
    return info


async def _tar(members: Sequence[Member], read: ReadImage) -> AsyncIterator[bytes]:
    sink, written = _Sink(), 0
    for member in members:
        written += sink.write(_tar_header(member))
        async for piece in _content(member, read):
            written += sink.write(piece)
            if sink.full:
                yield sink.take()
        written += sink.write(bytes(-written % tarfile.BLOCKSIZE))
    written += sink.write(bytes(2 * tarfile.BLOCKSIZE))
    sink.write(bytes(-written % tarfile.RECORDSIZE))
    yield sink.take()


def _tar_header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.size = member.size
    info.mode = _MODE
    return info.tobuf(tarfile.USTAR_FORMAT)


async def _content(member: Member, read: ReadImage) -> AsyncIterator[bytes]:
    if isinstance(member.content, bytes):
        yield member.content
        return
    position, record = member.content
    async for piece in checked(read(position), record):
        yield piece


async def checked(pieces: AsyncIterator[bytes], record: ImageRecord) -> AsyncIterator[bytes]:
    """The same pieces, and proof at their end that they are the image that was judged.

    Raises:
        GiveUp: they are not.
    """
    digest, size = hashlib.sha256(), 0
    async for piece in pieces:
        digest.update(piece)
        size += len(piece)
        yield piece
    if size != record.bytes or digest.hexdigest() != record.sha256:
        raise GiveUp(
            f"the staged bytes of {record.url} are not those that were judged",
            error="staging_damaged",
            retriable=True,
        )
