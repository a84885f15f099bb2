"""Faults that an operator has to be told of, made in a running system, each with its alert."""

import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from aiokafka.errors import KafkaError

from pixcrawler.client.api import Api
from pixcrawler.client.errors import ApiError
from pixcrawler.common import topics
from pixcrawler.miniweb.site import Site
from tests.chaos.stores import Disk
from tests.e2e.records import Raw
from tests.e2e.system import System
from tests.e2e.waiting import until
from tests.prometheus import Prometheus

SETTINGS = {
    "PIXCRAWLER_DEAD_LETTERS_IN_A_ROW": "3",
    "PIXCRAWLER_BREAKER_FAILURES": "2",
    "PIXCRAWLER_BREAKER_RECOVERY_S": "1",
    "PIXCRAWLER_SOURCE_WAIT_S": "1",
    "PIXCRAWLER_OUTAGE_S": "3600",
    "PIXCRAWLER_CHUNK_DEADLINE_S": "7200",
}
"""So that a stage stops soon, a source that is away is asked often, and nothing heals itself."""

FILL_BYTES = 8 << 20


class Faults:
    """What can go wrong, and when it began to.

    Args:
        system: It has one replica of each stage.
        web: Its searches.
        prometheus: Watches it.
        disk: The file system on which the downloader spools, where there is one of its own.
        spool: Where that is.
    """

    def __init__(
        self, system: System, web: Site, prometheus: Prometheus, disk: Disk | None, spool: Path
    ) -> None:
        self._system = system
        self._web = web
        self._prometheus = prometheus
        self._disk = disk
        self._spool = spool
        self._began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        """From the fault to the alert."""

    def first(self, deadline_s: float) -> None:
        """A slot that nobody holds, and a broker that is paused: what waits cannot leave."""
        self._leak_a_slot()
        self._pause_kafka()
        self._wait({"PixCrawlerSlotsLeaked", "PixCrawlerOutboxWaits"}, deadline_s)
        self._system.kill("kafka", number=signal.SIGCONT)
        self._system.wait_healthy()

    def second(self, deadline_s: float) -> None:
        """A search that is away, records nobody can read, a replica that hangs, a full disk."""
        asked = self._ask_who_is_away()
        self._stop_the_planner()
        self._hang("uploader")
        expected = {
            "PixCrawlerSourceFails",
            "PixCrawlerDeadLetters",
            "PixCrawlerStageStuck",
            "PixCrawlerStageBehind",
            "PixCrawlerNobodyThere",
        }
        if self._disk is not None:
            self._fill_the_disk(self._disk)
            expected.add("PixCrawlerDiskFull")
        self._wait(expected, deadline_s, meanwhile=lambda: self._system.publish(asked))
        self._system.kill("uploader", number=signal.SIGCONT)

    def _wait(
        self,
        expected: Collection[str],
        deadline_s: float,
        *,
        meanwhile: Callable[[], object] = str,
    ) -> None:
        """Until all of them fire; note when each does."""
        again_at = 0.0

        def fired() -> bool:
            nonlocal again_at
            if time.monotonic() >= again_at:
                again_at = time.monotonic() + 1.0
                meanwhile()
            for name in self._prometheus.firing():
                if name in self._began:
                    self.seconds.setdefault(name, time.time() - self._began[name])
            return self.seconds.keys() >= set(expected)

        until(
            f"{', '.join(sorted(expected))} fire",
            fired,
            deadline_s=deadline_s,
            about=lambda: (self.seconds, self._prometheus.ask("alerts")),
        )

    def _begins(self, *alerts: str) -> None:
        self._began.update(dict.fromkeys(alerts, time.time()))

    def _urls(self, number: int) -> Sequence[str]:
        return [url for url, true in self._web.truth.items() if true.kind == "photo"][:number]

    def _planned(self, job: str) -> list[Raw]:
        def found() -> list[Raw]:
            try:
                return self._system.read([topics.CHUNK_PLANNED], job)
            except KafkaError:  # a broker that was paused takes a moment to be itself again
                return []

        return until("its chunk is planned", found)

    def _leak_a_slot(self) -> None:
        """An event is lost on the way: its chunk holds a slot, and no stage has heard of it."""
        self._system.kill("downloader", number=signal.SIGSTOP)
        job = self._system.create_from(self._urls(3))
        self._planned(job)
        self._system.forget([topics.CHUNK_PLANNED])
        self._system.kill("downloader")  # its supervisor starts another
        self._begins("PixCrawlerSlotsLeaked")

    def _pause_kafka(self) -> None:
        self._prometheus_sees_idle_stages()
        self._system.kill("kafka", number=signal.SIGSTOP)
        self._system.create_from(self._urls(2))
        self._begins("PixCrawlerOutboxWaits")

    def _prometheus_sees_idle_stages(self) -> None:
        """The new downloader has joined its group, and found nothing: both need the broker."""
        its = 'service="downloader"'
        query = (
            f"sum(up{{{its}}}) + sum(pixcrawler_in_flight{{{its}}})"
            f" + sum(pixcrawler_consumer_lag{{{its}}})"
        )
        until(
            "another downloader runs",
            lambda: self._prometheus.value(query) == 1 and self._system.status().healthy,
            about=self._system.status,
        )

    def _ask_who_is_away(self) -> list[Raw]:
        """A job for a search that is away; its chunk's event, to make it be asked again."""
        self._web.set_mood("openverse", "away")
        job = self._system.create(
            keywords=[self._web.keywords[-1]], sources=["openverse"], max_images=5
        )
        planned = self._planned(job)
        self._begins("PixCrawlerSourceFails")
        return planned

    def _stop_the_planner(self) -> None:
        """More records than it buries in a row: it stops, and the others wait for it."""
        junk = Raw(topics.CHUNK_FAILED, 0, 0, b"junk", b"{", ())
        self._begins("PixCrawlerDeadLetters", "PixCrawlerStageStuck", "PixCrawlerStageBehind")
        self._system.publish([junk] * 12)

    def _hang(self, service: str) -> None:
        self._begins("PixCrawlerNobodyThere")
        self._system.kill(service, number=signal.SIGSTOP)

    def _fill_the_disk(self, disk: Disk) -> None:
        (self._spool / "filler").write_bytes(os.urandom(FILL_BYTES))
        self._begins("PixCrawlerDiskFull")
        disk.fill()


def passwords(system: System) -> Mapping[str, str]:
    """The password of each program's role in the database, as its process was told."""
    found = {}
    for each in system.components():
        if each.process is None:
            continue
        with suppress(OSError):
            told = Path(f"/proc/{each.process.pid}/environ").read_bytes().split(b"\0")
            for variable in told:
                name, _, value = variable.decode().partition("=")
                if name == "PIXCRAWLER_DATABASE_URL":
                    found[each.name] = value.partition("@")[0].rpartition(":")[2]
    return found


def refused_by(api: Api, path: str) -> int:
    """The status of an answer that is none."""
    try:
        api.get(path)
    except ApiError as error:
        return int(error.status or 0)
    return 200
