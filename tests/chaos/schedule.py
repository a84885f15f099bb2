"""A seed, and the damage that follows from it: nothing here asks the clock, or anything else.

Kinds are dealt like cards: each of them comes once before any comes again, in an order that the
seed decides. What two blows need at the same time, such as the one disk, they get one after the
other; everything else overlaps.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

STAGES = ("planner", "downloader", "validator", "uploader", "tracker")
SERVICES = ("api", *STAGES)
CHUNK_STAGES = ("downloader", "validator", "uploader")

SESSION_S = 6.0
"""What the system under test has as its session timeout."""
APART_S = (1.0, 3.0)
"""From one blow to the next."""
HOUR_S = 3600.0


class Kind(StrEnum):
    """What can happen."""

    KILL = "kill"
    """SIGKILL of every replica of a service."""
    MASSACRE = "massacre"
    """The same for several services at once."""
    AGAIN = "kill-again"
    """SIGKILL, and again as soon as it is back: during recovery."""
    SPREE = "spree"
    """SIGKILL of whichever process it may be, one after the other, faster than they come back."""
    TERMINATE = "terminate"
    """SIGTERM of every replica of some services."""
    POINT = "fail-point"
    """SIGKILL of whoever gets to a chosen point of its code."""
    PAUSE = "pause"
    """SIGSTOP of a replica of some services for longer than the session timeout, then SIGCONT."""
    TRACKER_ZOMBIE = "tracker-zombie"
    """The same for a tracker, whose table another takes over."""
    BROKER = "broker"
    """SIGKILL of a broker; of several each, one after the other, so also of the controller."""
    BROKER_ZOMBIE = "broker-zombie"
    """SIGSTOP of a broker for longer than its session timeout. Only where there are several."""
    LEADERS = "leaders"
    """Every partition gets another leader. Only where there are several brokers."""
    DATABASE = "database"
    """SIGKILL of PostgreSQL's first process."""
    DATABASE_SHUTDOWN = "database-shutdown"
    """PostgreSQL's immediate shutdown."""
    CONNECTIONS = "connections"
    """Every connection to the database is cut, again and again."""
    BLOB_ERRORS = "blob-errors"
    """Half of what the blob store is asked fails (500 and 503, EIO)."""
    BLOB_SLOW = "blob-slow"
    """It takes its time."""
    BLOB_AWAY = "blob-away"
    """It is not there at all."""
    DISK_FULL = "disk-full"
    """Nothing can be written where parts are staged. Only with a local blob store."""
    JOIN = "join"
    """One or two replicas more join a stage, and leave it."""
    ROLLING = "rolling-restart"
    """Every replica of everything is restarted, one after the other."""
    NEWER = "newer-version"
    """A replica of a stage is replaced by one whose events have a field more."""
    REPLAY = "replay"
    """What was said of the jobs in hand is published again, all of it, in another order."""
    RESET = "reset"
    """A group begins at the beginning again."""
    CLOCK = "clock"
    """A replica's clock is an hour ahead."""


SEVERAL_BROKERS = frozenset({Kind.BROKER_ZOMBIE, Kind.LEADERS})
LOCAL_STORE = frozenset({Kind.DISK_FULL})

LASTS_S: Mapping[Kind, tuple[float, float]] = {
    Kind.POINT: (5, 10),
    Kind.PAUSE: (SESSION_S + 1, SESSION_S + 4),
    Kind.TRACKER_ZOMBIE: (SESSION_S + 1, SESSION_S + 6),
    Kind.BROKER_ZOMBIE: (8, 12),
    Kind.CONNECTIONS: (1, 4),
    Kind.BLOB_ERRORS: (4, 15),
    Kind.BLOB_SLOW: (4, 15),
    Kind.BLOB_AWAY: (8, 30),
    Kind.DISK_FULL: (4, 15),
    Kind.JOIN: (5, 20),
    Kind.NEWER: (12, 24),
    Kind.CLOCK: (12, 24),
}
"""Seconds from the damage to its end, the least and the most; no word: it is over at once."""

NEEDS: Mapping[Kind, str] = {
    **dict.fromkeys((Kind.BROKER, Kind.BROKER_ZOMBIE, Kind.LEADERS), "broker"),
    **dict.fromkeys((Kind.DATABASE, Kind.DATABASE_SHUTDOWN), "database"),
    **dict.fromkeys((Kind.BLOB_ERRORS, Kind.BLOB_SLOW, Kind.BLOB_AWAY, Kind.DISK_FULL), "store"),
    **dict.fromkeys((Kind.NEWER, Kind.CLOCK), "replica"),
}
"""What only one blow at a time can have."""

TARGETS: Mapping[Kind, tuple[tuple[str, ...], int, int]] = {
    Kind.KILL: (SERVICES, 1, 1),
    Kind.MASSACRE: (SERVICES, 2, len(SERVICES)),
    Kind.AGAIN: (SERVICES, 1, 2),
    Kind.TERMINATE: (SERVICES, 1, 3),
    Kind.POINT: (SERVICES, 1, 3),
    Kind.PAUSE: (SERVICES, 1, 4),
    Kind.TRACKER_ZOMBIE: (("tracker",), 1, 1),
    Kind.JOIN: (STAGES, 1, 2),
    Kind.ROLLING: (SERVICES, len(SERVICES), len(SERVICES)),
    Kind.NEWER: (STAGES, 1, 2),
    Kind.RESET: (("planner", "downloader", "validator", "uploader", "tracker"), 1, 1),
    Kind.CLOCK: (SERVICES, 1, 1),
}
"""Whom it may hit, and how many of them at least and at most."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One damage.

    Attributes:
        at_s: Seconds after the beginning.
        kind: What happens.
        services: To whom, where it is not to all.
        lasts_s: Seconds until it is taken back.
        seed: For what is left to choose: which replica, which order.
    """

    at_s: float
    kind: Kind
    services: tuple[str, ...] = ()
    lasts_s: float = 0.0
    seed: int = 0

    @property
    def end_s(self) -> float:
        """Seconds after the beginning at which it is taken back."""
        return self.at_s + self.lasts_s

    def __str__(self) -> str:
        whom = f" {'+'.join(self.services)}" if self.services else ""
        length = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.at_s:6.1f} s  {self.kind}{whom}{length}"


def kinds(*, brokers: int = 1, local: bool = True) -> tuple[Kind, ...]:
    """What can happen to a system of that shape."""
    left_out = (frozenset() if brokers > 1 else SEVERAL_BROKERS) | (
        frozenset() if local else LOCAL_STORE
    )
    return tuple(kind for kind in Kind if kind not in left_out)


def schedule(
    seed: int,
    length_s: float,
    deck: Sequence[Kind] = kinds(),
    *,
    number: int = 0,
    longest_s: float = 30.0,
) -> tuple[Blow, ...]:
    """The blows of a round, in their order: the same for the same arguments, everywhere.

    Args:
        seed: Of the whole run.
        length_s: No blow is dealt later; it begins later only where another has to end first.
        deck: The kinds, each of which comes before any comes again.
        number: Of the round, which has a schedule of its own.
        longest_s: No damage lasts longer, unless it is none at all below its least.
    """
    dice = random.Random(f"{seed}/{number}")
    cards = _cards(seed, deck, number)
    free_at_s: dict[str, float] = {}
    blows: list[Blow] = []
    at_s = dice.uniform(*APART_S)
    while at_s <= length_s:
        blow = _blow(next(cards), at_s, dice, longest_s)
        need = NEEDS.get(blow.kind, "")
        if need and free_at_s.get(need, 0.0) > at_s:
            # Not later than the others because of it: it comes when it can.
            blow = _moved(blow, free_at_s[need])
        if need:
            free_at_s[need] = blow.end_s + APART_S[0]
        blows.append(blow)
        at_s += dice.uniform(*APART_S)
    return tuple(sorted(blows, key=lambda each: each.at_s))


def _cards(seed: int, deck: Sequence[Kind], number: int) -> Iterator[Kind]:
    """Deck after deck, each shuffled."""
    dice = random.Random(f"{seed}/{number}/cards")
    while True:
        shuffled = list(deck)
        dice.shuffle(shuffled)
        yield from shuffled


def _blow(kind: Kind, at_s: float, dice: random.Random, longest_s: float) -> Blow:
    shortest_s, most_s = LASTS_S.get(kind, (0.0, 0.0))
    most_s = max(shortest_s, min(most_s, longest_s))
    who, least, most = TARGETS.get(kind, ((), 0, 0))
    chosen = set(dice.sample(who, dice.randint(least, most)))
    return Blow(
        at_s=round(at_s, 3),
        kind=kind,
        services=tuple(name for name in who if name in chosen),
        lasts_s=round(dice.uniform(shortest_s, most_s), 3),
        seed=dice.getrandbits(32),
    )


def _moved(blow: Blow, at_s: float) -> Blow:
    return replace(blow, at_s=round(at_s, 3))
