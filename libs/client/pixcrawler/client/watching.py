"""Following a job until its round is over: bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pixcrawler.client import live, output
from pixcrawler.client.api import Api, Json
from pixcrawler.client.errors import DONE, FAILED, INCOMPLETE
from pixcrawler.client.ports import drive_each

LINE_S = 2.0
"""Seconds between two plain lines at least."""

TERMINAL = live.TERMINAL

TROUBLE_S = 5.0
"""Seconds between two looks for chunks in trouble."""

TROUBLES = 20
"""Chunks looked at for that: what troubles one mostly troubles all."""

EXIT_CODES = {"completed": DONE, "incomplete": INCOMPLETE, "failed": FAILED, "cancelled": FAILED}


class Display(Protocol, AbstractContextManager[Any]):
    """Shows progress as it comes."""

    def show(self, progress: Json) -> None:
        """The job looks like this now."""
        ...


def progress_of(api: Api, job_id: str, on_look: Callable[[], None] | None = None) -> Iterator[Json]:
    """The job's progress at every change, the terminal one last; `on_look` is called each time."""
    return drive_each(live.changes(api.core, job_id, on_look=on_look, quiet_s=TROUBLE_S))


def follow(api: Api, job_id: str, *, json: bool) -> Json:
    """Show the job's progress until its round is over; the last progress.

    Args:
        api: Whom to ask.
        job_id: The job.
        json: Each change as a document on stdout instead of bars or lines for people.
    """
    final: Json = {}
    troubles = Troubles(api, job_id, output.note)
    with Documents() if json else display_for_people() as display:
        for final in progress_of(api, job_id, troubles.look):
            display.show(final)
    return final


def display_for_people() -> Display:
    """Bars where there is a terminal, plain lines where there is none."""
    return Bars() if output.people.is_terminal else Lines()


class Troubles:
    """Tells why chunks are tried again or have failed: a job that stands still says why.

    Args:
        api: Whom to ask.
        job_id: The job.
        tell: Told each reason once, however many chunks it holds up.
    """

    def __init__(self, api: Api, job_id: str, tell: Callable[[str], None]) -> None:
        self._api, self._job_id, self._tell = api, job_id, tell
        self._told: set[str] = set()
        self._next = 0.0

    def look(self) -> None:
        """Look at the job's chunks, unless the last look is too recent."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + TROUBLE_S
        for status in ("processing", "failed"):
            page = self._api.get(f"/v1/jobs/{self._job_id}/chunks", status=status, limit=TROUBLES)
            for chunk in page["items"]:
                self._consider(chunk)

    def _consider(self, chunk: Json) -> None:
        error = chunk["error_message"]
        if not error or error in self._told:
            return
        self._told.add(error)
        what = "failed" if chunk["status"] == "failed" else "is tried again"
        self._tell(f"chunk {chunk['index']} {what}: {error}")


class Documents:
    """Each change as a document for machines."""

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to clean up."""

    def show(self, progress: Json) -> None:
        """One line of JSON."""
        output.document({"event": "progress", **progress})


class Lines:
    """A line of text now and then."""

    def __init__(self) -> None:
        self._next = 0.0
        self._shown = ""

    def __enter__(self) -> Self:
        """Nothing to prepare."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to clean up."""

    def show(self, progress: Json) -> None:
        """One line, unless the last one is too recent or says the same."""
        now = time.monotonic()
        if now < self._next and progress["status"] not in TERMINAL:
            return
        done = steps(progress)
        shown = " · ".join(f"{name} {count}/{total}" for name, (count, total) in done.items())
        line = f"{progress['status']:<10} {progress['progress']:5.1f} %  {shown}"
        if line == self._shown:
            return
        self._next, self._shown = now + LINE_S, line
        output.note(" · ".join(filter(None, (line, time_left(progress)))))


class Bars:
    """One bar for each stage; beside the last one how long the rest will take."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=output.people,
        )
        self._tasks = {
            name: self._bars.add_task(name, total=None, left="") for name in ("chunks", *STEPS)
        }

    def __enter__(self) -> Self:
        """Begin to draw."""
        try:
            self._bars.start()
        except BaseException:  # Ctrl-C while it draws for the first time
            self._bars.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the last picture on the screen."""
        self._bars.stop()

    def show(self, progress: Json) -> None:
        """Move the bars."""
        for name, (count, total) in steps(progress).items():
            left = time_left(progress) if name == STEPS[-1] else ""
            self._bars.update(self._tasks[name], completed=count, total=total or None, left=left)


STEPS = ("download", "validate", "upload")


def steps(progress: Json) -> dict[str, tuple[int, int]]:
    """How far each stage is: (done, of how many)."""
    images = progress["images"]
    candidates = images["candidates"]
    ended = progress["completed_chunks"] + progress["failed_chunks"]
    unfetched = sum(images["dropped"].get(name, 0) for name in NOT_FETCHED)
    decided = sum(images["dropped"].values())
    return {
        "chunks": (ended, progress["total_chunks"]),
        "download": (min(images["downloaded"] + unfetched, candidates), candidates),
        "validate": (min(decided + images["valid"], candidates), candidates),
        "upload": (images["valid"], images["requested"]),
    }


NOT_FETCHED = (
    "too_large",
    "http_error",
    "timeout",
    "network_error",
    "redirect",
    "blocked",
    "opted_out",
)
"""Outcomes that the downloader decides: no bytes went on from there."""


MINUTE_S, HOUR_S = 60, 3600


def time_left(progress: Json) -> str:
    """How long the rest will take, as far as that can be told; empty where it cannot."""
    eta_s = progress["eta_s"]
    if eta_s is None or progress["status"] in TERMINAL:
        return ""
    seconds = max(round(eta_s), 1)
    if seconds < MINUTE_S:
        return f"about {seconds} s left"
    if seconds < HOUR_S:
        return f"about {round(seconds / MINUTE_S)} min left"
    return f"about {seconds // HOUR_S} h {seconds % HOUR_S // MINUTE_S} min left"


def summary(api: Api, final: Json) -> str:
    """How a job ended, where it fell short of what was asked for, and why chunks failed."""
    kept, asked = final["images"]["valid"], final["images"]["requested"]
    short = f" of the {asked} asked for" if kept < asked else ""
    failed = final["failed_chunks"]
    if not failed:
        return f"{final['status']}: {kept} images{short}"
    page = api.get(f"/v1/jobs/{final['job_id']}/chunks", status="failed", limit=TROUBLES)
    reasons = dict.fromkeys(filter(None, (chunk["error_message"] for chunk in page["items"])))
    why = f": {' / '.join(reasons)}" if reasons else ""
    total = final["total_chunks"]
    return f"{final['status']}: {kept} images{short}; {failed} of {total} chunks failed{why}"


def show_outcomes(progress: Json) -> None:
    """A table of what became of the candidates."""
    images = progress["images"]
    rows = [("kept", images["valid"])]
    rows += sorted(images["dropped"].items(), key=lambda item: (-item[1], item[0]))
    total = sum(count for _, count in rows) or 1
    output.table(
        ("outcome", "images", "share"),
        [(name, count, f"{100 * count / total:5.1f} %") for name, count in rows],
    )
