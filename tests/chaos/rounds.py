"""A round: jobs under damage, then calm, then the promise; and everything told once more."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path

from pixcrawler.client.api import Api
from pixcrawler.client.errors import ApiError, CommandError
from pixcrawler.client.watching import TERMINAL
from tests.chaos import orders, promise, schedule
from tests.chaos.arena import Arena
from tests.chaos.orders import Order, Wish
from tests.chaos.scene import Scene, Tally
from tests.chaos.schedule import Blow
from tests.chaos.storm import Storm
from tests.chaos.suffering import ADDED
from tests.chaos.witness import Witness
from tests.e2e.records import EVENTS, shuffled
from tests.e2e.waiting import until

IN_HAND = 3
"""Jobs at a time, usually."""
LOOK_S = 0.3
END_S = 240.0
"""In calm every job ends within this time, or something was lost."""
NOT_ASKED = frozenset({"updated_at", "eta_s"})
"""What of a progress object is about the moment at which it was made."""

Say = Callable[[str], None]


@dataclass
class Running:
    """A job in hand."""

    job_id: str
    order: Order
    turned: bool = False
    """Whether what is to happen to it on its way has happened."""
    over: bool = False
    """Whether it was seen to be over."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a round is made of.

    Attributes:
        seed: Of the whole run.
        number: Of the round.
        blows: What happens.
    """

    seed: int
    number: int
    blows: tuple[Blow, ...]

    def __str__(self) -> str:
        lines = "".join(f"\n  {blow}" for blow in self.blows)
        return f"seed {self.seed}, round {self.number}:{lines}"


@dataclass
class Round:
    """A round in a system.

    Attributes:
        arena: Where.
        plan: What happens.
        witness: Who looks all the time.
        quiet: Archives of a quiet run.
        folder: Where datasets may be fetched to.
        tally: What is counted.
        in_hand: Jobs at a time.
        say: Told what happens.
    """

    arena: Arena
    plan: Plan
    witness: Witness
    quiet: Mapping[int, str]
    folder: Path
    tally: Tally
    in_hand: int = IN_HAND
    say: Say = print
    jobs: list[Running] = field(default_factory=list)
    storm: Storm | None = None

    def run(self) -> list[str]:
        """Everything, in the order in which it happens; the violations."""
        began = time.monotonic()
        said: list[str] = []
        self._weather()
        self.say(f"  {time.monotonic() - began:.0f} s: the storm is over")
        for blow, why in self.storm.missed if self.storm else []:
            self.say(f"  missed: {blow}: {why[:200]}")
        for step in (self._settle, self._tell_again, self._delete):
            said = step()
            self.say(f"  {time.monotonic() - began:.0f} s: {step.__name__.strip('_')}")
            if said:
                break
        return said

    # ---- damage

    def _weather(self) -> None:
        """Keep jobs in hand as long as there is damage."""
        system = self.arena.system
        scene = Scene(system, self.arena.folder, self.arena.store, self._in_hand, self.tally)
        new = orders.orders(f"{self.plan.seed}/{self.plan.number}", self.arena.webs)
        try:
            for _ in range(self.in_hand):
                self._start(new)
            with Storm(scene, self.plan.blows) as self.storm:
                while not self.storm.over:
                    with suppress(ApiError, CommandError):  # the api is just away for too long
                        self._look(new)
                    time.sleep(LOOK_S)
        finally:
            scene.close()

    def _in_hand(self) -> list[str]:
        return [job.job_id for job in self.jobs]

    def _start(self, new: Iterator[Order]) -> None:
        order = next(new)
        key = {"Idempotency-Key": f"{self.plan.seed}-{self.plan.number}-{len(self.jobs)}"}
        while True:  # a job whose answer was lost must not be forgotten
            try:
                made = self.arena.system.api.post("/v1/jobs", dict(order.body), headers=key)
            except CommandError as error:
                self.say(f"the api is away: {error}")
            else:
                break
        self.jobs.append(Running(str(made["job_id"]), order))
        self.tally.add("jobs")

    def _look(self, new: Iterator[Order]) -> None:
        """Turn those that are to be turned, and start another where there is room."""
        for job in self.jobs:
            self._turn(job)
        if sum(not self._is_over(job) for job in self.jobs) < self.in_hand:
            self._start(new)

    def _turn(self, job: Running) -> None:
        """Extend, cancel, delete: once it has begun to have results, or at once."""
        at = {Wish.EXTENDED: 2, Wish.CANCELLED: 1, Wish.DELETED: 1}.get(job.order.wish)
        if job.turned or at is None or self.arena.system.ended(job.job_id) < at:
            return
        turn(self.arena.system.api, job)

    def _is_over(self, job: Running) -> bool:
        if not job.over:
            gone = job.turned and job.order.wish is Wish.DELETED
            job.over = gone or self.arena.system.progress(job.job_id)["status"] in TERMINAL
        return job.over

    # ---- calm

    def _settle(self) -> list[str]:
        """Calm; every job ends, and is held against the promise."""
        system = self.arena.system
        try:
            until("all parts answer", lambda: system.status().healthy, about=system.status)
            for job in self.jobs:
                if job.order.wish in {Wish.EXTENDED, Wish.CANCELLED, Wish.DELETED}:
                    until(f"{job.job_id} turns", partial(self._turned, job))
                if job.order.wish is not Wish.DELETED:
                    system.finish(job.job_id, deadline_s=END_S)
        except AssertionError as error:
            return [f"does not end: {error}"]
        return [
            f"{job.job_id} ({job.order.wish}): {sentence}"
            for job in self.jobs
            for sentence in promise.violations(self._over(job))
        ]

    def _turned(self, job: Running) -> bool:
        self._turn(job)
        return job.turned

    def _over(self, job: Running) -> promise.Over:
        return promise.Over(
            system=self.arena.system,
            witness=self.witness,
            job_id=job.job_id,
            order=job.order,
            quiet=self.quiet,
            folder=self.folder,
            last=job is self.jobs[-1],
        )

    # ---- once more

    def _tell_again(self) -> list[str]:
        """Every record of every job, shuffled, to every replica: nothing at all changes."""
        system = self.arena.system
        there = [job for job in self.jobs if job.order.wish is not Wish.DELETED]
        before = {job.job_id: self._state(job) for job in there}
        mine = set(self._in_hand())
        said = [r for r in system.read(EVENTS) if r.key[:36].decode() in mine]
        system.publish(shuffled(said, seed=self.plan.seed + self.plan.number))
        self.tally.add("records repeated", len(said))
        self.tally.add(
            "records of a newer version", sum(ADDED.encode() in (r.value or b"") for r in said)
        )
        found = [
            f"{job.job_id} ({job.order.wish}) after a replay: {sentence}"
            for job in self.jobs
            for sentence in promise.violations(self._over(job))
        ]
        after = {job.job_id: self._state(job) for job in there}
        return found + [
            f"{job_id} is not as it was before a replay: {before[job_id]} {after[job_id]}"
            for job_id in before
            if before[job_id] != after[job_id]
        ]

    def _state(self, job: Running) -> object:
        shown = self.arena.system.progress(job.job_id)
        return {k: v for k, v in shown.items() if k not in NOT_ASKED}

    def _delete(self) -> list[str]:
        """Every job goes, and leaves nothing."""
        for job in self.jobs:
            if job.order.wish is not Wish.DELETED:
                self.arena.system.api.delete(f"/v1/jobs/{job.job_id}")
        said = []
        for job in self.jobs:
            try:
                promise.erased(self._over(job))
            except AssertionError as error:
                said.append(f"{job.job_id} (deleted at the end): {error}")
            self.witness.forget(job.job_id)
        return said


def turn(api: Api, job: Running) -> None:
    """What is to happen to a job on its way. Its answer may be lost, so it may be asked twice."""
    path = f"/v1/jobs/{job.job_id}"
    if job.order.wish is Wish.EXTENDED:
        api.post(f"{path}/chunks", params={"max_images": job.order.more})
    else:
        try:
            if job.order.wish is Wish.CANCELLED:
                api.post(f"{path}/cancel")
            else:
                api.delete(path)
        except ApiError as error:
            if error.status not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
                raise
    job.turned = True


def plan(seed: int, number: int, length_s: float, arena: Arena, *, longest_s: float = 30.0) -> Plan:
    """The plan of a round: the same for the same seed and number, in a system of the same shape."""
    deck = schedule.kinds(brokers=arena.shape.brokers, local=arena.shape.local)
    blows = schedule.schedule(seed, length_s, deck, number=number, longest_s=longest_s)
    return Plan(seed, number, blows)


def quiet_run(arena: Arena) -> Running:
    """A job that nobody disturbs, once it is over."""
    order = orders.quiet(arena.webs)
    job = Running(arena.system.create(**order.body), order)
    arena.system.finish(job.job_id)
    return job
