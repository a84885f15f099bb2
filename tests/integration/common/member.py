"""A member of a consumer group as a process of its own, for tests that kill it.

`python -m tests.integration.common.member SERVERS TOPIC GROUP LEDGER SEED`: it says `ready` when it
has joined. Its handlers end in random order; each writes what it has done to the ledger, a file
that outlives whoever is killed, before it returns: `<event id>`, one a line.
"""

import asyncio
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pixcrawler.common import events
from pixcrawler.common.context import Context
from pixcrawler.common.errors import Retry
from pixcrawler.common.events import ChunkEvent, Event
from pixcrawler.common.limits import Limits
from pixcrawler.common.publisher import Publisher
from pixcrawler.common.stage import Route, Stage
from pixcrawler.common.watchdog import Watchdog
from tests.integration.common.bench import new_event

SESSION_S = 6.0
MEAN_S = 0.1
LONG_S = 2.5
LONG = 0.03
"""The share of records that take long: everything behind them is done, and may not be committed."""
FAILS = 0.05


class Handler:
    """Does nothing, for a random time, and writes down that it has done it."""

    def __init__(self, ledger: Path, seed: str) -> None:
        self._ledger = os.open(ledger, os.O_WRONLY | os.O_APPEND)
        self._choose = random.Random(seed)

    async def __call__(self, event: ChunkEvent, context: Context) -> Sequence[Event]:
        """The handler."""
        del context
        choose = self._choose
        seconds = LONG_S if choose.random() < LONG else choose.expovariate(1 / MEAN_S)
        await asyncio.sleep(seconds)
        if choose.random() < FAILS:
            raise Retry("bad luck", error="test")
        os.write(self._ledger, f"{event.chunk_id}\n".encode())
        return ()


async def main(servers: str, topic: str, group: str, ledger: str, seed: str) -> None:
    """Run until SIGTERM."""
    model = new_event(topic)
    cast("dict[str, type[Event]]", events.BY_TOPIC)[topic] = model
    publisher = Publisher(servers, source="/test/member")
    await publisher.start()
    worker = f"member-{os.getpid()}"
    stage = Stage(
        "downloader",
        [Route(model, Handler(Path(ledger), seed))],
        bootstrap_servers=servers,
        worker=worker,
        publisher=publisher,
        engine=None,
        watchdog=Watchdog(60.0),
        session_timeout_s=SESSION_S,
        drain_s=1.0,
        limits=Limits(in_flight=24, first_wait_s=0.01, max_wait_s=0.05),
        group=group,
    )
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, lambda: asyncio.ensure_future(stage.stop())
    )
    await stage.run()
    await publisher.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
