"""A service that can be made to suffer: `suffering.py SERVICE FOLDER [leash]`.

It is the service's own `main`. What is wrong is said by files in FOLDER; without any it is as it
always is. When it starts, it looks for

    <service>.held      it waits until the file is gone: nobody of this service is there
    <worker>.ahead      its clock is as many seconds ahead as the file says
    <worker>.newer      every event that it publishes has a field that nobody knows

and at every step of a local blob store for

    disk                `errors`: half of the steps fail with EIO; `away`: all do; `slow`: each
                        takes up to a second; `full`: what writes fails with ENOSPC

Fail points (`pixcrawler.common.failpoints`) are armed in the folder `points` beside FOLDER. With
`leash` the process ends when its standard input does: it is nobody's child but a test's.
"""

import asyncio
import errno
import importlib
import json
import os
import pkgutil
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer

from pixcrawler.common import topics
from pixcrawler.common.blobs.local import LocalBlobs

R = TypeVar("R")

HELD, AHEAD, NEWER, DISK = "held", "ahead", "newer", "disk"
ADDED = "added_by_a_newer_version"
SLOW_S = 1.0
LOOK_S = 0.05
WRITES = ("_write_whole", "_Temporary.write", "_Temporary.commit")


def main(service: str, folder: Path, *, leash: bool = False) -> None:
    """Run the service until it is stopped."""
    worker = os.environ["PIXCRAWLER_WORKER"]
    os.environ["PIXCRAWLER_FAILPOINTS"] = str(folder.with_name("points"))
    if leash:
        threading.Thread(target=_end_with_input, daemon=True).start()
    while (folder / f"{service}.{HELD}").exists():
        time.sleep(LOOK_S)
    ahead = folder / f"{worker}.{AHEAD}"
    if ahead.exists():
        _set_clocks_ahead(service, float(ahead.read_text()))
    if (folder / f"{worker}.{NEWER}").exists():
        add_a_field()
    _wrap_disk(folder / DISK)
    importlib.import_module(f"pixcrawler.{service}.__main__").main()


def _end_with_input() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)


# ---- a newer version


def add_a_field() -> None:
    """Publish every event with one field more (the tracker's own two topics hold no events)."""
    print("a newer version", flush=True)  # noqa: T201 - into its log
    original = AIOKafkaProducer.send
    names = {topic.name for topic in topics.registry()}
    names -= {topics.TRACKER_EVENTS, topics.TRACKER_CHANGELOG}

    async def send(self: Any, topic: str, value: bytes | None = None, **rest: Any) -> Any:
        if topic in names and value is not None and not topic.endswith(".dlq"):
            value = json.dumps(json.loads(value) | {ADDED: {"since": [2, 0]}}).encode()
        return await original(self, topic, value, **rest)

    AIOKafkaProducer.send = send


# ---- another clock


def _set_clocks_ahead(service: str, seconds: float) -> None:
    """Both clocks of Python that tell the time of day, wherever our modules ask for it."""
    print(f"the clock is {seconds:g} s ahead", flush=True)  # noqa: T201 - into its log
    seconds_of, nanoseconds_of = time.time, time.time_ns
    time.time = lambda: seconds_of() + seconds
    time.time_ns = lambda: nanoseconds_of() + round(seconds * 1e9)
    for package in ("common", service):
        _import_all(f"pixcrawler.{package}")
    Ahead.ahead = timedelta(seconds=seconds)
    changed = [
        module
        for name, module in sys.modules.items()
        if name.startswith("pixcrawler.") and getattr(module, "datetime", None) is datetime
    ]
    for module in changed:
        setattr(module, "datetime", Ahead)  # noqa: B010 - a module has no such attribute for mypy


def _import_all(package: str) -> None:
    """So that each module has its name for the clock, which is then replaced."""
    found = importlib.import_module(package)
    for info in pkgutil.walk_packages(found.__path__, f"{package}."):
        if ".migrations" not in info.name and not info.name.endswith("__main__"):
            importlib.import_module(info.name)


class _Moment(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, datetime)


class Ahead(datetime, metaclass=_Moment):
    """A `datetime` whose present is ahead."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        """The present, and as much."""
        return datetime.now(tz) + cls.ahead

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: object) -> Any:
        from pydantic_core import core_schema

        return core_schema.datetime_schema()


# ---- a bad disk


def _wrap_disk(said: Path) -> None:
    original = LocalBlobs._submit

    def submit(
        self: LocalBlobs, function: Callable[..., R], *arguments: Any
    ) -> "asyncio.Future[R]":
        return original(self, _suffer, said, function, *arguments)

    LocalBlobs._submit = submit  # type: ignore[method-assign, assignment]


def _suffer(said: Path, function: Callable[..., R], *arguments: Any) -> R:
    try:
        trouble = said.read_text()
    except FileNotFoundError:
        return function(*arguments)
    if trouble == "slow":
        time.sleep(random.uniform(0, SLOW_S))
    if trouble == "away" or (trouble == "errors" and random.random() < 0.5):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    if trouble == "full" and function.__qualname__ in WRITES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return function(*arguments)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), leash="leash" in sys.argv[3:])
