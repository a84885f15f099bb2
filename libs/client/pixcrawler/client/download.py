"""Fetching a dataset into a folder: resumed where it stopped, every byte checked by sha256.

`dataset.json` comes last, so a folder that has it has everything.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from pixcrawler.client.api import Api
from pixcrawler.client.core import Away, Core
from pixcrawler.client.errors import USAGE, ApiError, DatasetError
from pixcrawler.client.ports import drive

INDEX = "dataset.json"
PARALLEL = 4
"""Files at a time: enough to hide latency, few enough to be polite to one server."""

NEW_LINKS = 3
"""How often a refused link is exchanged for a new one: links expire, but not at once."""

_ARCHIVE = re.compile(r"chunk_(?P<job>[0-9a-f-]{36})-\d{5,}\.(zip|tar)(\.part)?")


class File(NamedTuple):
    """A file of a dataset as the API lists it; `size` in bytes."""

    path: str
    size: int
    sha256: str
    url: str


def check_folder(folder: Path, job_id: str | None) -> None:
    """Refuse a folder that holds another job's dataset.

    Args:
        folder: Where the dataset shall go; it need not exist.
        job_id: The job, None for one that is yet to be created.
    """
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder", USAGE)
    other = dataset_of(folder)
    if other is not None and other != job_id:
        raise DatasetError(
            f"{folder} holds the dataset of job {other}: choose another folder, or remove this one",
            USAGE,
        )


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written to, before any work is done for it."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DatasetError(f"{folder} cannot be written to: {error.strerror}", USAGE) from error
    finally:
        for path in made:
            with suppress(OSError):
                path.rmdir()


def dataset_of(folder: Path) -> str | None:
    """The job whose dataset, whole or in parts, is in this folder."""
    try:
        return str(json.loads((folder / INDEX).read_text("utf-8"))["job_id"])
    except (OSError, ValueError, KeyError):
        pass
    for path in sorted(folder.glob("chunk_*")):
        if match := _ARCHIVE.fullmatch(path.name):
            return match["job"]
    return None


def fetch(
    api: Api, job_id: str, folder: Path, on_bytes: Callable[[int, int], None] | None = None
) -> list[File]:
    """Fetch a finished job's dataset into a folder; see `fetch_into`."""
    return drive(fetch_into(api.core, job_id, folder, on_bytes))


async def fetch_into(
    core: Core, job_id: str, folder: Path, on_bytes: Callable[[int, int], None] | None = None
) -> list[File]:
    """Fetch a finished job's dataset into a folder.

    Args:
        core: Where from.
        job_id: Whose.
        folder: Where to; made if it is not there.
        on_bytes: Told (bytes so far, bytes in all) now and then.

    Returns:
        The files of the dataset.
    """
    check_folder(folder, job_id)
    try:
        return await _fetch(core, job_id, folder, on_bytes)
    except OSError as error:
        reason = error.strerror or error
        raise DatasetError(f"{error.filename or folder} cannot be written: {reason}") from error


async def _fetch(
    core: Core, job_id: str, folder: Path, on_bytes: Callable[[int, int], None] | None
) -> list[File]:
    listed = await core.get(f"/v1/jobs/{job_id}/dataset")
    files = [_file(item) for item in listed["files"]]
    await core.port.call(_make, folder)
    total, so_far = sum(file.size for file in files), 0
    body = [file for file in files if file.path != INDEX]
    last = [file for file in files if file.path == INDEX]

    async def one(file: File) -> File:
        return await _fetch_file(core, job_id, file, folder)

    async with aclosing(core.port.each(one, body, PARALLEL)) as fetched:
        async for file in fetched:
            so_far += file.size
            if on_bytes:
                on_bytes(so_far, total)
    for file in last:
        await one(file)
    return files


def _file(item: dict[str, Any]) -> File:
    return File(str(item["path"]), int(item["size"]), str(item["sha256"]), str(item["url"]))


async def _fetch_file(core: Core, job_id: str, file: File, folder: Path) -> File:
    target = _inside(folder, file.path)
    hashed = core.port.call
    if target.exists() and await hashed(_sha256, target) == file.sha256:
        return file
    partial = target.with_name(target.name + ".part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    whole = _is_whole(partial, file)
    if whole and await hashed(_sha256, partial) != file.sha256:
        partial.unlink()  # of an earlier round
    resumed = _size(partial) > 0
    await _complete(core, job_id, file, partial)
    if resumed and await hashed(_sha256, partial) != file.sha256:
        partial.unlink()  # begun with another version of the file
        await _complete(core, job_id, file, partial)
    if await hashed(_sha256, partial) != file.sha256:
        partial.unlink()
        raise DatasetError(f"{file.path} is not what the API lists (sha256): fetch it again")
    partial.replace(target)
    return file


async def _complete(core: Core, job_id: str, file: File, partial: Path) -> None:
    """Append what is missing, with a new link where the one at hand is refused."""
    link, refused = file.url, 0
    try:
        async for attempt in core.patiently():
            with attempt:
                if _is_whole(partial, file):
                    break  # whole: only its name was missing
                try:
                    await _append(core, link, file, partial)
                except ApiError as error:
                    refused += 1
                    if refused > NEW_LINKS:
                        raise DatasetError(f"{file.path} is refused: {error}") from error
                    link = await _link(core, job_id, file.path)
                    raise Away(f"the link of {file.path} was refused") from error
    except (Away, httpx.TransportError) as error:
        raise DatasetError(
            f"{file.path} could not be fetched ({error or type(error).__name__}): "
            "go on with `pixcrawler jobs download`"
        ) from error


async def _append(core: Core, link: str, file: File, partial: Path) -> None:
    offset = _size(partial)
    async with core.stream(link, offset=offset) as response:
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        with partial.open("ab" if resumed else "wb") as out:
            async for piece in core.port.pieces(response):
                if core.port.stopped:
                    raise Away("stopped")
                out.write(piece)
    if _size(partial) < file.size:
        raise Away(f"{file.path} broke off")


def _make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def _is_whole(partial: Path, file: File) -> bool:
    return partial.exists() and _size(partial) >= file.size


def _size(path: Path) -> int:
    """In bytes; 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


async def _link(core: Core, job_id: str, path: str) -> str:
    files = (await core.get(f"/v1/jobs/{job_id}/dataset"))["files"]
    return next(str(item["url"]) for item in files if item["path"] == path)


def _inside(folder: Path, path: str) -> Path:
    """A file's place; a server must not choose one outside the folder."""
    target = (folder / path).resolve()
    if not target.is_relative_to(folder.resolve()):
        raise DatasetError(f"the API lists a file outside the dataset: {path}")
    return target


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
