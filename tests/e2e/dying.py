"""A service that kills itself at a chosen point, once: `dying.py SERVICE FOLDER`.

It is the service's own `main`, with four methods wrapped. A point is armed by a
file of its name in FOLDER; the first process that gets there takes the file away, leaves another
that says so, and is gone: SIGKILL, nothing is flushed, closed or committed. Points are called

    before:candidates  after:candidates     around the creation of an object
    before:chunk.downloaded  after:…        around the acknowledgement of a record
    before:commit  after:commit             around the commit of offsets
    after:transaction                       right after a commit that left something in the outbox

with the service's name before it, or `any` for whichever service gets there first.
"""

import importlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.outbox import Relay

DIED = ".died"
ANY = "any"


def main(service: str, folder: Path) -> None:
    """Run the service until it is stopped, or gets to an armed point."""

    def die(point: str) -> None:
        for who in (service, ANY):
            armed = folder / f"{who}.{point}"
            with suppress(FileNotFoundError):
                armed.rename(f"{armed}{DIED}")
                os.kill(os.getpid(), signal.SIGKILL)

    _wrap_create(die)
    _wrap_send(die)
    _wrap_commit(die)
    _wrap_hint(die)
    importlib.import_module(f"pixcrawler.{service}.__main__").main()


def kind_of(name: str) -> str:
    """What an object is: `candidates`, `part`, `verdicts`, `archive`, `result`, `dataset`, …"""
    last = name.rpartition("/")[2]
    if last.startswith("part-"):
        return "part"
    if last.startswith("chunk_"):
        return "archive"
    return last.partition(".")[0]


def _wrap_create(die: Callable[[str], None]) -> None:
    original = LocalBlobs.create

    async def create(self: LocalBlobs, name: str, content: Any) -> bool:
        die(f"before:{kind_of(name)}")
        made = await original(self, name, content)
        die(f"after:{kind_of(name)}")
        return made

    LocalBlobs.create = create  # type: ignore[method-assign]


def _wrap_send(die: Callable[[str], None]) -> None:
    original = AIOKafkaProducer.send

    async def send(self: Any, topic: str, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        die(f"before:{topic}")
        acknowledged: Awaitable[Any] = await original(self, topic, *args, **kwargs)
        acknowledged.add_done_callback(lambda _: die(f"after:{topic}"))  # type: ignore[attr-defined]
        return acknowledged

    AIOKafkaProducer.send = send


def _wrap_commit(die: Callable[[str], None]) -> None:
    original = AIOKafkaConsumer.commit

    async def commit(self: Any, *args: Any, **kwargs: Any) -> None:
        die("before:commit")
        await original(self, *args, **kwargs)
        die("after:commit")

    AIOKafkaConsumer.commit = commit


def _wrap_hint(die: Callable[[str], None]) -> None:
    original = Relay.hint

    def hint(self: Relay) -> None:
        die("after:transaction")
        original(self)

    Relay.hint = hint  # type: ignore[method-assign]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
