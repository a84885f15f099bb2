"""Fail points: where a process can be told to die, so that tests reach every narrow window.

They are compiled out: unless a program was started with PIXCRAWLER_FAILPOINTS, the name of a
folder, `hit` is a function that does nothing. With it, a point is armed by a file of its name in
that folder, `<service>.<point>`, such as `downloader.after:part`, or `any.<point>` for whichever
service gets there first. The first process that gets there renames the file, adding `.died`, and
is gone by SIGKILL: nothing is flushed, closed or committed.

`POINTS` is the list of all of them, and a test dies at each: in the whole system
(tests/e2e/shared/test_deaths.py), or in the api where it is alone
(tests/integration/api/test_deaths.py).
A point that is hit and not in the list leaves a file that ends with `.unknown`, which they find.

Two effects have none, being single statements that nothing waits for, made again later whether they
were lost or not: the outbox forgets rows that were sent an hour ago, and a downloader that stops
gives its leases of hosts back, which lapse by themselves.
"""

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from pixcrawler.common import topics

DIED = ".died"
UNKNOWN = ".unknown"
ANY = "any"
"""Instead of a service's name: whichever gets there first."""


def _around(*effects: str) -> tuple[str, ...]:
    return tuple(f"{when}:{effect}" for effect in effects for when in ("before", "after"))


_COMMIT = "commit"
"""Of offsets, by the consumer loop."""

POINTS: Mapping[str, tuple[str, ...]] = {
    # The outbox is relayed by the api or by a planner, whoever comes first.
    ANY: _around(
        topics.JOB_CREATED, topics.JOB_CANCELLED, topics.JOB_PLANNED, topics.CHUNK_PLANNED, "relay"
    ),
    "api": _around(
        *("create", "start", "extend", "retry", "retry_chunk", "cancel", "delete"),
        *("rows", "rejected", "upload", "erase", "delete_list"),
        *("webhook", "lend", "secret", "settle", "change_secret", "used", "bury"),
        *("control", "prioritize", "give_up_chunk"),
        *(topics.dead_letters("api"), _COMMIT),
    ),
    "planner": _around(
        *("look", "request", "admit", "take_back", "wait_again", "advance", "signs", "repeat"),
        *("reprioritize", "result", topics.dead_letters("planner"), _COMMIT),
    ),
    "downloader": (
        *_around("candidates", "part", "budgets", topics.dead_letters("downloader"), _COMMIT),
        *_around(topics.CHUNK_PROGRESS, topics.CHUNK_DOWNLOADED, topics.CHUNK_FAILED),
        "within:part",
    ),
    "validator": (
        *_around("claim", "verdicts", "erase_claims", topics.dead_letters("validator"), _COMMIT),
        *_around(topics.CHUNK_PROGRESS, topics.CHUNK_VALIDATED, topics.CHUNK_FAILED),
    ),
    "uploader": (
        *_around("transformed", "files", "archive", "result", "staging", "discard", "erase"),
        *_around("outcomes", "images", "LICENSES", "croissant", "README", "dataset", "copy"),
        *_around(topics.CHUNK_PROGRESS, topics.CHUNK_UPLOADED, topics.CHUNK_FAILED),
        *_around(topics.JOB_FINISHED, topics.dead_letters("uploader"), _COMMIT),
        "within:archive",
    ),
    "tracker": _around(
        *(
            topics.TRACKER_EVENTS,
            topics.TRACKER_CHANGELOG,
            topics.JOB_PROGRESS,
            topics.dead_letters("tracker"),
        ),
        *("show", "erase_shown", _COMMIT, "table_commit"),
    ),
}
"""Every point, by the service that has it: transactions, objects, topics, commits of offsets."""


def _nothing(point: str) -> None:
    """Nobody is to die anywhere."""


hit: Callable[[str], None] = _nothing
"""Called where a process may die: the point, without the service's name."""


def enabled() -> bool:
    """Whether this process may be told to die."""
    return hit is not _nothing


def enable(service: str, folder: Path) -> None:
    """From now on this process, which runs that service, dies at points armed in the folder."""
    global hit  # noqa: PLW0603 - so that it is nothing at all where it is not wanted
    known = frozenset((*POINTS.get(service, ()), *POINTS[ANY]))

    def die(point: str) -> None:
        if point not in known:
            (folder / f"{service}.{point}{UNKNOWN}").touch()
        for who in (service, ANY):
            armed = folder / f"{who}.{point}"
            with suppress(FileNotFoundError):
                armed.rename(f"{armed}{DIED}")
                os.kill(os.getpid(), signal.SIGKILL)

    hit = die


def disable() -> None:
    """Nobody dies any more."""
    global hit  # noqa: PLW0603 - see above
    hit = _nothing
