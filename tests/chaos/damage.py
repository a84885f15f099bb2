"""Damage, one class for each kind: how it is inflicted, and how it is taken back.

`heal` is called once for every `inflict`, also where that failed half-way. What cannot be done at
the moment, because the broker is just away, for instance, raises; the storm tries it again.
"""

import random
import signal
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol

import asyncpg

from pixcrawler.common import failpoints
from tests.chaos import groups, leaders, suffering
from tests.chaos.scene import Extra, Scene
from tests.chaos.schedule import HOUR_S, SERVICES, SESSION_S, Blow, Kind
from tests.e2e.records import EVENTS, shuffled
from tests.e2e.waiting import until

SOON_S = 20.0
"""In which a process is there again."""
TIMES_AGAIN = 3
SPREE_KILLS = 24
SPREE_S = (0.1, 0.7)
"""From one kill to the next."""
AGAIN_S = 0.5
BROKER_S = 120.0
"""In which a broker is there again, on a machine that does a lot else."""
KAFKA, POSTGRES = "kafka", "postgres"


class Damage(Protocol):
    """Something bad."""

    def inflict(self) -> None:
        """Do it."""

    def heal(self) -> None:
        """Take it back."""


class Base:
    """What all of them are made from."""

    def __init__(self, blow: Blow, scene: Scene) -> None:
        self.blow = blow
        self.scene = scene
        self.dice = random.Random(blow.seed)

    def heal(self) -> None:
        """What is over at once needs nothing."""

    def living(self, service: str) -> dict[str, int]:
        """Its processes by replica, once there are any."""
        return until(
            f"a {service} runs",
            lambda: self.scene.system.processes(service),
            deadline_s=SOON_S,
        )

    def one(self, service: str) -> tuple[str, int]:
        """A replica that runs, and its process."""
        return self.dice.choice(sorted(self.living(service).items()))


class Kill(Base):
    """SIGKILL of every replica of every service named."""

    number: ClassVar[signal.Signals] = signal.SIGKILL

    def inflict(self) -> None:
        """All at once."""
        pids = [pid for service in self.blow.services for pid in self.living(service).values()]
        assert self.scene.signal(pids, self.number) > 0


class Terminate(Kill):
    """The same, asked politely."""

    number = signal.SIGTERM


class KillAgain(Base):
    """SIGKILL, and again as soon as there is somebody new: while it recovers."""

    def inflict(self) -> None:
        """Again and again."""
        killed: set[int] = set()
        for _ in range(TIMES_AGAIN):
            for service in self.blow.services:
                fresh = until(
                    f"a new {service} runs",
                    partial(self._fresh, service, killed),
                    deadline_s=SOON_S,
                )
                # Some are hit in their imports, others while they join, or read what they had.
                let_pass(self.dice.uniform(0, 3))
                assert self.scene.signal(fresh, signal.SIGKILL) >= 0
                killed.update(fresh)

    def _fresh(self, service: str, killed: AbstractSet[int]) -> list[int]:
        return [pid for pid in self.scene.system.pids(service) if pid not in killed]


class Spree(Base):
    """SIGKILL of whoever lives, one process at a time."""

    def inflict(self) -> None:
        """Nobody has the time to recover, except by luck."""
        for _ in range(SPREE_KILLS):
            pids = sorted(pid for name in SERVICES for pid in self.scene.system.pids(name))
            self.scene.signal(self.dice.sample(pids, min(1, len(pids))), signal.SIGKILL)
            let_pass(self.dice.uniform(*SPREE_S))


class Point(Base):
    """Whoever gets to a point of its code dies there."""

    armed: Sequence[str] = ()

    def inflict(self) -> None:
        """One point of each service."""
        self.armed = [
            f"{service}.{self.dice.choice(failpoints.POINTS[service])}"
            for service in self.blow.services
        ]
        self.scene.system.arm(*self.armed)

    def heal(self) -> None:
        """Who has not come by need not die any more."""
        self.scene.tally.add("kills", sum(map(self.scene.system.died, self.armed)))
        for point in self.armed:
            (self.scene.folder.with_name("points") / point).unlink(missing_ok=True)


class Pause(Base):
    """SIGSTOP of one replica of each, then SIGCONT: a zombie."""

    stopped: Sequence[int] = ()

    def inflict(self) -> None:
        """Stop them, once they do their work: who has not begun cannot become a zombie."""
        self.stopped = [self._at_work(service) for service in self.targets()]
        assert self.scene.signal(self.stopped, signal.SIGSTOP) > 0

    def targets(self) -> Sequence[str]:
        """Of whom."""
        return self.blow.services

    def _at_work(self, service: str) -> int:
        found = until(f"a {service} answers", partial(self._healthy, service), deadline_s=SOON_S)
        return self.dice.choice(found)

    def _healthy(self, service: str) -> list[int]:
        parts = self.scene.system.status().components
        return [part.pid for part in parts if part.service == service and part.healthy and part.pid]

    def heal(self) -> None:
        """Let them go on."""
        self.scene.signal(self.stopped, signal.SIGCONT)


class BrokerZombie(Pause):
    """The same for one broker of several."""

    def targets(self) -> Sequence[str]:
        """A broker."""
        return (KAFKA,)


class Broker(Base):
    """SIGKILL of every broker, one after the other."""

    def inflict(self) -> None:
        """So that each was away, and with it whichever is the controller."""
        names = sorted(self.living(KAFKA))
        self.dice.shuffle(names)
        for name in names:
            pid = self.living(KAFKA).get(name)
            if pid is not None and self.scene.signal([pid], signal.SIGKILL):
                until(f"{name} is back", partial(self._back, name), deadline_s=BROKER_S)

    def _back(self, name: str) -> bool:
        parts = self.scene.system.status().components
        return any(part.name == name and part.healthy for part in parts)


class Leaders(Base):
    """Every partition gets another leader."""

    def inflict(self) -> None:
        """By another order of its replicas, and an election."""
        moved = self.scene.system.work(leaders.move(self.scene.system.servers))
        assert moved > 0
        self.scene.tally.add("leaders moved", moved)


class Database(Base):
    """PostgreSQL's first process is killed."""

    number: ClassVar[signal.Signals] = signal.SIGKILL

    def inflict(self) -> None:
        """Its children notice, and end."""
        assert self.scene.signal(list(self.living(POSTGRES).values()), self.number) > 0


class DatabaseShutdown(Database):
    """Immediate shutdown."""

    number = signal.SIGQUIT


class Connections(Base):
    """Every connection to the database is cut."""

    def inflict(self) -> None:
        """Once now,"""
        assert self._cut() > 0, "nobody is connected"

    def heal(self) -> None:
        """and once more."""
        with suppress(OSError, asyncpg.PostgresError):
            self._cut()

    def _cut(self) -> int:
        cut = self.scene.system.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        self.scene.tally.add("connections cut", len(cut))
        return len(cut)


class Store(Base):
    """The blob store is bad."""

    def inflict(self) -> None:
        """As the kind says."""
        self.scene.store.begin(self.blow.kind)

    def heal(self) -> None:
        """Good again."""
        self.scene.store.end()


class Join(Base):
    """More replicas, for a while."""

    joined: Sequence[Extra] = ()

    def inflict(self) -> None:
        """One or two of each stage."""
        for stage in self.blow.services:
            self.living(stage)
            for _ in range(self.dice.randint(1, 2)):
                self.joined = [*self.joined, self.scene.join(stage)]

    def heal(self) -> None:
        """They leave with a word or without."""
        for extra in self.joined:
            extra.leave(self.dice.choice((signal.SIGTERM, signal.SIGKILL)))


class Rolling(Base):
    """Everything is restarted, one replica of each service after the other."""

    def inflict(self) -> None:
        """Ends when the last is back."""
        number = 1
        while replicas := self._replicas(number):
            pids = {name: pid for name, pid in replicas.items() if pid}
            self.scene.signal(list(pids.values()), signal.SIGTERM)
            until(
                "they are back",
                partial(self._are_back, pids),
                deadline_s=60,
            )
            number += 1

    def _are_back(self, before: Mapping[str, int]) -> bool:
        return all(self._pid(name) not in {pid, None} for name, pid in before.items())

    def _replicas(self, number: int) -> dict[str, int | None]:
        names = {part.name for part in self.scene.system.components() if part.service in SERVICES}
        return {name: self._pid(name) for name in names if name.rpartition("-")[2] == str(number)}

    def _pid(self, name: str) -> int | None:
        return self.scene.system.processes(name.rpartition("-")[0]).get(name)


class Replaced(Base):
    """A replica is replaced by one that is different."""

    said: Sequence[Path] = ()
    suffix: ClassVar[str]
    word: ClassVar[str] = ""

    def inflict(self) -> None:
        """Say what is different, and have it start again."""
        for service in self.blow.services:
            worker, _ = self.one(service)
            said = self.scene.folder / f"{worker}.{self.suffix}"
            said.write_text(self.word)
            self.said = [*self.said, said]
            before = self._restart(worker)
            with suppress(AssertionError):  # it may be killed again and again by others
                until(
                    f"another {worker} answers",
                    partial(self._answers, worker, before),
                    deadline_s=SOON_S,
                )

    def heal(self) -> None:
        """As before."""
        for said in self.said:
            said.unlink(missing_ok=True)
            self._restart(said.name.partition(".")[0])

    def _restart(self, worker: str) -> int | None:
        pid = self.scene.system.processes(worker.rpartition("-")[0]).get(worker)
        self.scene.signal([pid] if pid else [], signal.SIGTERM)
        return pid

    def _answers(self, worker: str, before: int | None) -> bool:
        parts = self.scene.system.status().components
        return any(part.name == worker and part.healthy and part.pid != before for part in parts)


class Newer(Replaced):
    """A newer version, whose events have a field more."""

    suffix = suffering.NEWER


class Clock(Replaced):
    """One whose clock is ahead."""

    suffix = suffering.AHEAD
    word = f"{HOUR_S:g}"


class Replay(Base):
    """Everything that was said of the jobs in hand is said again."""

    def inflict(self) -> None:
        """In another order; to one partition or to all."""
        jobs = tuple(self.scene.jobs())
        said = [
            record for record in self.scene.system.read(EVENTS) if record.key[:36].decode() in jobs
        ]
        assert said, "nothing was said yet"
        spread = self.dice.random() < 0.3
        self.scene.system.publish(shuffled(said, seed=self.blow.seed), spread=spread)
        self.scene.tally.add("records repeated", len(said))


class Reset(Base):
    """A group begins at the beginning again; nobody may be in it for that."""

    def inflict(self) -> None:
        """Everybody out, the offsets back, everybody in."""
        (service,) = self.blow.services
        held = self.scene.folder / f"{service}.{suffering.HELD}"
        held.touch()
        try:
            self._leave(service)
            for group in groups.groups_of(service):
                until(
                    f"the group {group} is empty",
                    partial(self._reset, group),
                    deadline_s=SESSION_S * 5,
                )
        finally:
            held.unlink(missing_ok=True)
        self.scene.tally.add("groups reset")

    def _leave(self, service: str) -> None:
        pids = self.scene.system.pids(service) + [x.pid for x in self.scene.extras(service)]
        self.scene.signal(pids, signal.SIGTERM)
        ended = "they end"
        with suppress(AssertionError):
            until(ended, lambda: not self._alive(service, pids), deadline_s=SOON_S / 2)
            return
        self.scene.signal(self._alive(service, pids), signal.SIGKILL)

    def _alive(self, service: str, pids: Sequence[int]) -> list[int]:
        now = self.scene.system.pids(service) + [x.pid for x in self.scene.extras(service)]
        return [pid for pid in pids if pid in now]

    def _reset(self, group: str) -> bool:
        try:
            self.scene.system.work(groups.reset(self.scene.system.servers, group))
        except Exception:  # noqa: BLE001 - members, or no broker: as long as there is time
            let_pass(AGAIN_S)
            return False
        return True


def let_pass(seconds: float) -> None:
    """Nothing is waited for: a time has to pass."""
    with suppress(AssertionError):
        until("never", lambda: False, deadline_s=seconds)


OF: Mapping[Kind, type[Base]] = {
    Kind.KILL: Kill,
    Kind.MASSACRE: Kill,
    Kind.AGAIN: KillAgain,
    Kind.SPREE: Spree,
    Kind.TERMINATE: Terminate,
    Kind.POINT: Point,
    Kind.PAUSE: Pause,
    Kind.TRACKER_ZOMBIE: Pause,
    Kind.BROKER: Broker,
    Kind.BROKER_ZOMBIE: BrokerZombie,
    Kind.LEADERS: Leaders,
    Kind.DATABASE: Database,
    Kind.DATABASE_SHUTDOWN: DatabaseShutdown,
    Kind.CONNECTIONS: Connections,
    Kind.BLOB_ERRORS: Store,
    Kind.BLOB_SLOW: Store,
    Kind.BLOB_AWAY: Store,
    Kind.DISK_FULL: Store,
    Kind.JOIN: Join,
    Kind.ROLLING: Rolling,
    Kind.NEWER: Newer,
    Kind.REPLAY: Replay,
    Kind.RESET: Reset,
    Kind.CLOCK: Clock,
}


def of(blow: Blow, scene: Scene) -> Damage:
    """The damage that a blow does."""
    damage: Damage = OF[blow.kind](blow, scene)  # type: ignore[assignment]
    return damage
