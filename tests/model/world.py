"""What the models share: objects, records, processes, chance, and a trace for people.

Work is a generator that yields wherever its process may be stopped: between any two effects. A
world is one schedule: the same seed makes the same one. Chance decides which of all that is under
way goes on, which record is delivered next, and what goes wrong.

Delivery is a bag: any record at any time, again and again. Partitions and groups would only make
fewer orders possible. Whoever crashes or is paused has its record delivered again.
"""

from collections.abc import Generator, Hashable, Sequence
from random import Random
from typing import Any, NamedTuple, TypeVar

Steps = Generator[None, None, None]
Name = tuple[Any, ...]
"""Of an object: its kind, the chunk or the job, and more."""

T = TypeVar("T")


class Record(NamedTuple):
    """An event on its way to one reader."""

    reader: str
    kind: str
    subject: Hashable
    detail: Any = None


class Work(NamedTuple):
    """Something under way; without a record it is a timer's."""

    record: Record | None
    steps: Steps


class World:
    """One schedule.

    Attributes:
        objects: The blob store.
        bag: Records that will be delivered, in any order.
        history: Every record that was ever published: each may come again at any time.
        running: What is under way.
        asleep: Work of paused processes: it goes on much later with what it had in hand.
        limbo: Their records, until somebody notices.
        chaos: How many more things go wrong.
        broken: Laws that this schedule broke.
    """

    LIMIT = 9000
    """Steps after which a world that has not come to rest never will."""

    def __init__(self, seed: int, *, chaos: int, traced: bool = False) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.chance = self.rng.random
        self.objects: dict[Name, Any] = {}
        self.bag: list[Record] = []
        self.history: list[Record] = []
        self.running: list[Work] = []
        self.asleep: list[Work] = []
        self.limbo: list[Record] = []
        self.chaos: float = chaos
        self.rate = self.pick((0.03, 0.12))
        self.broken: set[str] = set()
        self.traced = traced
        self.trace: list[str] = []
        self.steps_taken = 0

    # ---- what a model says of itself

    def work_on(self, record: Record) -> Steps:
        """What its reader does with a record."""
        raise NotImplementedError

    def disturb(self) -> None:
        """Something goes wrong."""
        raise NotImplementedError

    def other(self) -> bool:
        """Something that goes on beside records and work; whether there was anything."""
        raise NotImplementedError

    def rest(self) -> bool:
        """Everything has come to rest: let time pass; False if the schedule is over."""
        raise NotImplementedError

    # ---- saying things

    def tell(self, *words: object) -> None:
        """A line of the trace."""
        if self.traced:
            self.trace.append(f"{self.steps_taken:5} " + " ".join(map(str, words)))

    def breaks(self, law: str) -> None:
        """A law does not hold in this schedule."""
        self.tell("!!", law)
        self.broken.add(law)

    # ---- chance

    def pick(self, some: Sequence[T]) -> T:
        """One of them."""
        return some[int(self.chance() * len(some))]

    def take(self, some: list[T]) -> T:
        """Remove and return one of them."""
        at = int(self.chance() * len(some))
        some[at], some[-1] = some[-1], some[at]
        return some.pop()

    # ---- scheduling

    def settle(self) -> None:
        """Go on until everything has come to rest and time changes nothing any more."""
        chance = self.chance
        for _ in range(self.LIMIT):
            luck = chance()
            if self.chaos > 0 and luck < self.rate:
                self.disturb()
            elif luck < 0.2 and self.other():
                pass
            elif self.bag and (luck < 0.5 or not self.running):
                self.deliver()
            elif self.running:
                self.advance()
            elif not self.other() and not self.rest():
                return
        self.breaks("everything comes to rest")

    def deliver(self) -> None:
        """A record arrives."""
        record = self.take(self.bag)
        self.running.append(Work(record, self.work_on(record)))

    def advance(self) -> None:
        """Something under way goes on to its next effect."""
        self.steps_taken += 1
        at = int(self.chance() * len(self.running))
        work = self.running[at]
        try:
            next(work.steps)
        except StopIteration:
            # it may have been moved by nobody: nothing else runs within a step
            self.running[at] = self.running[-1]
            self.running.pop()

    # ---- what goes wrong everywhere

    def crash(self) -> None:
        """A process dies; what it had not committed is delivered again."""
        if self.running:
            self.lose(self.take(self.running))

    def lose(self, work: Work) -> None:
        """Work is gone; its record comes again."""
        self.tell("CRASH", _brief(work.record))
        if work.record is not None:
            self.bag.append(work.record)

    def pause(self, work: Work | None = None) -> None:
        """A process sleeps: it will go on much later with what it had in hand."""
        if self.running:
            if work is None:
                work = self.take(self.running)
            else:
                self.running.remove(work)
            self.tell("PAUSE", _brief(work.record))
            self.asleep.append(work)
            if work.record is not None:
                self.limbo.append(work.record)

    def reassign(self) -> None:
        """A paused process was noticed at last: its record is delivered to another one."""
        if self.limbo:
            record = self.take(self.limbo)
            self.tell("REASSIGN", _brief(record))
            self.bag.append(record)

    def wake(self) -> None:
        """A paused process goes on as if nothing had happened, often just when it was noticed."""
        if self.asleep:
            work = self.take(self.asleep)
            self.tell("WAKE", _brief(work.record))
            self.running.append(work)
            if work.record in self.limbo:
                self.limbo.remove(work.record)
                self.bag.append(work.record)

    def twice(self) -> None:
        """A record in hand is delivered to another replica too."""
        if self.running and (record := self.pick(self.running).record) is not None:
            self.tell("TWICE", _brief(record))
            self.bag.append(record)

    def again(self) -> None:
        """A record of any age is delivered again."""
        if self.history:
            record = self.pick(self.history)
            self.tell("AGAIN", _brief(record))
            self.bag.append(record)

    def replay_all(self) -> None:
        """Every record that there ever was is delivered again."""
        self.tell("---- every record again")
        self.bag += self.history


def _brief(record: Record | None) -> str:
    return "a timer" if record is None else f"{record.reader}:{record.kind} {record.subject}"
