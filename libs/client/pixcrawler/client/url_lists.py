"""A file of URLs on its way to the API, and what people are told of it."""

import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from pixcrawler.client import output
from pixcrawler.client.api import Api, Json
from pixcrawler.client.errors import USAGE, CommandError
from pixcrawler.client.operations import LISTS, once

PATH = LISTS
STDIN = "-"
PIECE = 1 << 18
LARGE = 8 << 20
"""Bytes from which on people are shown how far it is."""
TOLD = 5
"""Rows left out that are told; `pixcrawler jobs rejected` tells all of them."""


class ListFile:
    """A file of URLs, as something that is sent piece by piece, again where that is possible.

    Args:
        path: The file; `-` is stdin.

    Raises:
        CommandError: it cannot be read, or is empty.

    Attributes:
        name: Its name, which tells its format; empty for stdin.
        size: In bytes; None for a pipe.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = False
        self.on_progress: Callable[[int], None] = lambda _: None
        self.is_stdin = str(path) == STDIN
        self.name = "" if self.is_stdin else path.name
        self.size = None if self.is_stdin else _size(path)

    def __iter__(self) -> Iterator[bytes]:
        """Its bytes, from the beginning."""
        if self._begun and self.size is None:
            raise CommandError("the list came through a pipe and cannot be sent again: try a file")
        self._begun = True
        with self._opened() as file:
            sent = 0
            while piece := file.read(PIECE):
                yield piece
                sent += len(piece)
                self.on_progress(sent)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        if self.is_stdin:
            yield sys.stdin.buffer
            return
        with _readable(self._path), self._path.open("rb") as file:
            yield file


def upload(api: Api, file: ListFile, columns: Mapping[str, str | None]) -> Json:
    """Send a list; the API's answer. People see how far it is, and what was left out.

    Args:
        api: To whom.
        file: What.
        columns: Parameters of the upload, such as `url_column`.
    """
    headers = once() | ({} if file.size is None else {"Content-Length": str(file.size)})
    with _progress(file):
        answer = api.upload(PATH, file, headers=headers, params={"name": file.name, **columns})
    _tell(answer, file.name or "stdin")
    return answer


@contextmanager
def _progress(file: ListFile) -> Iterator[None]:
    """A bar on a terminal, where it takes a while."""
    if file.size is None or file.size < LARGE or not output.people.is_terminal:
        yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=output.people, transient=True) as bars:
        task = bars.add_task(f"uploading {file.name}", total=file.size)

        def show(sent: int) -> None:
            done = sent >= (file.size or 0)
            name = f"reading {file.name}" if done else f"uploading {file.name}"
            bars.update(task, completed=sent, description=name)

        file.on_progress = show
        yield


def _tell(answer: Json, name: str) -> None:
    repeated = answer["repeated"]
    again = f", {repeated:,} of them again" if repeated else ""
    rows, rejected = answer["rows"], answer["rejected"]
    urls = "URL" if rows == 1 else "URLs"
    output.note(f"{name}: {rows:,} {urls}{again} (list {answer['id']})")
    if not rejected:
        return
    were = "row of {} was" if rejected == 1 else "rows of {} were"
    output.note(f"{rejected:,} {were.format(name)} left out:")
    for row in answer["rejected_rows"][:TOLD]:
        output.note(f"  line {row['line']}: {row['reason']}")
    if rejected > TOLD:
        output.note(f"  … and {rejected - TOLD:,} more")


def _size(path: Path) -> int | None:
    with _readable(path):
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(21, os.strerror(21))
        if not stat.S_ISREG(found.st_mode):
            return None
        path.open("rb").close()
    if not found.st_size:
        raise CommandError(f"{path} is empty: a list of URLs is expected", USAGE)
    return found.st_size


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror or error}", USAGE) from error
