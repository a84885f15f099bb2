"""What a rolling restart of a stage costs: the share of its work that is done again.

    python -m bench.rolling_restart [--replicas 4] [--in-flight 10] [--work 4] [--pause 1.5]

Starts a broker and replicas of one stage whose handler takes some seconds a chunk and nothing else,
keeps all of them busy, and restarts one after the other: SIGTERM's way (drain, commit, leave), a
pause as long as a process takes to start, and a new replica. Work that was cancelled, or that was
done for a chunk that was done already, is work done again. Once with replicas whose names come back
(standalone mode, a StatefulSet), once with names that are new each time (a Deployment).
"""

import argparse
import asyncio
import os
import random
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from pixcrawler.common import admin, ids
from pixcrawler.common.context import Context
from pixcrawler.common.events import ChunkPlanned, Event
from pixcrawler.common.limits import Limits
from pixcrawler.common.publisher import Publisher
from pixcrawler.common.stage import Route, Stage
from pixcrawler.common.watchdog import Watchdog
from pixcrawler.standalone.kafka import Kafka, KafkaSettings
from pixcrawler.standalone.paths import cache_dir

WARM = 4.0
"""Times the work, before the restart begins."""

console = Console(highlight=False, width=100)


class Options(NamedTuple):
    """What is measured."""

    replicas: int = 4
    in_flight: int = 10
    work_s: float = 4.0
    pause_s: float = 1.5
    named: bool = True
    seed: int = 1


class Run(NamedTuple):
    """One execution of a handler."""

    chunk: str
    seconds: float
    finished: bool


@dataclass
class Ledger:
    """Every execution, and what is in hand."""

    runs: list[Run] = field(default_factory=list)
    in_hand: int = 0

    def total_s(self) -> float:
        """Seconds of work."""
        return sum(run.seconds for run in self.runs)

    def again_s(self) -> float:
        """Seconds of it that were cancelled, or spent on a chunk that was done already."""
        done: set[str] = set()
        seconds = 0.0
        for run in self.runs:  # in the order of their ends
            if not run.finished or run.chunk in done:
                seconds += run.seconds
            elif run.finished:
                done.add(run.chunk)
        return seconds


class Outcome(NamedTuple):
    """What a rolling restart has cost."""

    share: float
    total_s: float
    again_s: float
    cancelled: int
    repeated: int
    chunks: int
    roll_s: float


class Replicas:
    """Replicas of a stage, all with a ledger."""

    def __init__(self, servers: str, options: Options, publisher: Publisher) -> None:
        self.ledger = Ledger()
        self._servers = servers
        self._options = options
        self._publisher = publisher
        self._group = f"bench-{uuid.uuid4().hex[:8]}"
        self._running: dict[int, tuple[Stage, asyncio.Task[None]]] = {}

    async def start(self, number: int) -> None:
        """One replica, until it is a member of the group."""
        name = f"replica-{number}"
        stage = Stage(
            "downloader",
            [Route(ChunkPlanned, self._work)],
            bootstrap_servers=self._servers,
            worker=name if self._options.named else f"{name}-{uuid.uuid4().hex[:6]}",
            publisher=self._publisher,
            engine=None,
            watchdog=Watchdog(60.0),
            limits=Limits(in_flight=self._options.in_flight),
            group=self._group,
            instance=name if self._options.named else "",
        )
        task = asyncio.create_task(stage.run())
        self._running[number] = stage, task
        while not task.done():
            try:
                await stage.check()
            except Exception:  # noqa: BLE001 - not yet
                await asyncio.sleep(0.05)
            else:
                return
        task.result()

    async def stop(self, number: int) -> None:
        """Drained."""
        stage, task = self._running.pop(number)
        await stage.stop()
        await task

    async def stop_all(self) -> None:
        """All of them."""
        await asyncio.gather(*(self.stop(number) for number in list(self._running)))

    async def _work(self, event: ChunkPlanned, context: Context) -> Sequence[Event]:
        del context
        spread = random.Random(event.chunk_id).uniform(0.5, 1.5)
        begun, finished = time.monotonic(), False
        self.ledger.in_hand += 1
        try:
            await asyncio.sleep(self._options.work_s * spread)
            finished = True
        finally:
            self.ledger.in_hand -= 1
            self.ledger.runs.append(Run(event.chunk_id, time.monotonic() - begun, finished))
        return ()


async def measure(servers: str, options: Options) -> Outcome:
    """One rolling restart under load."""
    await admin.apply_topics(servers)
    publisher = Publisher(servers, source="/bench")
    await publisher.start()
    job, slots = ids.new_job_id(), options.replicas * options.in_flight
    replicas = Replicas(servers, options, publisher)
    per_slot = (options.work_s * 1.5 + options.pause_s + 3.0) * options.replicas / options.work_s
    count = round(slots * (per_slot + 3 + WARM))
    chunks = [
        ChunkPlanned(chunk_id=ids.chunk_id(job, n), attempt=1, slices=()) for n in range(count)
    ]
    await publisher.publish(chunks)
    for number in range(options.replicas):
        await replicas.start(number)
    await _until_busy(replicas.ledger, slots)
    # Starting them moved partitions, too, and what that left behind is not the restart's.
    await asyncio.sleep(WARM * options.work_s)
    replicas.ledger.runs.clear()
    begun = time.monotonic()
    for number in range(options.replicas):
        await replicas.stop(number)
        await asyncio.sleep(options.pause_s)
        await replicas.start(number)
    await _until_busy(replicas.ledger, slots)
    await asyncio.sleep(options.work_s * 1.5)  # what was adopted or begun again ends
    ledger, roll_s = Ledger(list(replicas.ledger.runs)), time.monotonic() - begun
    await replicas.stop_all()
    await publisher.stop()
    finished = [run.chunk for run in ledger.runs if run.finished]
    return Outcome(
        share=ledger.again_s() / ledger.total_s(),
        total_s=ledger.total_s(),
        again_s=ledger.again_s(),
        cancelled=sum(not run.finished for run in ledger.runs),
        repeated=len(finished) - len(set(finished)),
        chunks=len(set(finished)),
        roll_s=roll_s,
    )


async def _until_busy(ledger: Ledger, slots: int) -> None:
    async with asyncio.timeout(60):
        while ledger.in_hand < slots:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


@asynccontextmanager
async def broker() -> AsyncIterator[str]:
    """A broker for the bench alone."""
    with tempfile.TemporaryDirectory(prefix="pixcrawler-bench-") as folder:
        kafka = Kafka(
            KafkaSettings(
                data_dir=Path(folder) / "kafka",
                cache_dir=cache_dir(os.environ),
                log_dir=Path(folder) / "logs",
            )
        )
        await kafka.start()
        try:
            yield kafka.bootstrap_servers
        finally:
            await kafka.stop()


async def main() -> None:
    """Measure both, and print a line for each."""
    options = _options()
    table = Table(
        "replicas", "roll s", "chunks", "work s", "again s", "cancelled", "twice", "share"
    )
    async with broker() as servers:
        for named in (True, False):
            found = await measure(servers, options._replace(named=named))
            table.add_row(
                "the same names" if named else "new names",
                f"{found.roll_s:.1f}",
                str(found.chunks),
                f"{found.total_s:.0f}",
                f"{found.again_s:.1f}",
                str(found.cancelled),
                str(found.repeated),
                f"{found.share:.1%}",
            )
    slots = options.replicas * options.in_flight
    console.print(
        f"a rolling restart of {options.replicas} replicas, {slots} chunks of "
        f"{options.work_s:g} s in flight; the aim is below 5 % done again"
    )
    console.print(table)


def _options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("replicas", "in_flight"):
        default = Options._field_defaults[name]
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    for name in ("work", "pause"):
        default = Options._field_defaults[f"{name}_s"]
        parser.add_argument(f"--{name}", dest=f"{name}_s", type=float, default=default)
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    asyncio.run(main())
