"""Which member of a consumer group reads which partitions: all keep what they have, if it is fair.

Work in hand is adopted after a rebalance only by whoever keeps its partition; elsewhere it begins
again. Kafka's ranges move half of all partitions whenever a replica comes or goes. Here those move
that have to: a newcomer's share is taken from those who have most, the share of one that left is
spread over those who have least.

And those that have to move wait for their work: who owns a busy one keeps it at first and is told
to let go of it. It takes nothing more of it, finishes what it has in hand, and joins the group
again, and then the partition moves. (Cooperative rebalancing, KIP-429, in two steps over the eager
protocol, which is the one that the client speaks; but there what is in hand is not waited for.)

The memory of it is a class of its own for each consumer: the client wants classes, and the sticky
assignor that it brings along shares its memory between all consumers of a process.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

Owned = Mapping[str, Collection[int]]
"""Partitions by topic."""

NOTHING: Owned = MappingProxyType({})


class SteadyAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """The assignor; `new_assignor` gives one to each consumer.

    Members send what they own with the era in which they got it, each assignment being an era: what
    a member owns since an earlier era than others has been given to somebody else meanwhile. A
    member of a version that sends less is understood: none of its partitions is busy.

    Attributes:
        owned: What the member has.
        busy: What of it has work in hand that is worth waiting for; set by whoever owns the class.
        leaving: What of it the member shall let go of as soon as it can.
        era: Counts assignments.
    """

    name = "pixcrawler-steady"
    version = 0
    owned: ClassVar[Owned] = NOTHING
    busy: ClassVar[Owned] = NOTHING
    leaving: ClassVar[Owned] = NOTHING
    era: ClassVar[int] = 0

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What the member says when it joins."""
        said = _dump({"era": cls.era, "owned": dict(cls.owned), "busy": dict(cls.busy)})
        return ConsumerProtocolMemberMetadata(cls.version, sorted(topics), said)

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        """What the member was given."""
        told = _read(assignment.user_data)
        cls.owned = {topic: list(partitions) for topic, partitions in assignment.assignment}
        cls.era, cls.leaving = told.era, told.leaving

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """What the leader gives to whom."""
        said = {member: _read(metadata.user_data) for member, metadata in members.items()}
        era = 1 + max((each.era for each in said.values()), default=0)
        given: dict[str, dict[str, list[int]]] = {member: {} for member in members}
        leaving: dict[str, dict[str, list[int]]] = {member: {} for member in members}
        for topic in sorted({topic for each in members.values() for topic in each.subscription}):
            readers = sorted(m for m, each in members.items() if topic in each.subscription)
            claims = _claims(topic, {member: said[member] for member in readers})
            busy = {p for m in readers for p in claims[m] if p in said[m].busy.get(topic, ())}
            totals = {m: sum(map(len, given[m].values())) for m in readers}
            there = sorted(cluster.partitions_for_topic(topic) or ())
            shares = share(there, claims, totals, busy)
            for member, now in waiting(shares, claims, busy).items():
                given[member][topic] = now
                leaving[member][topic] = sorted(set(now) - set(shares[member]))
        return {
            member: ConsumerProtocolMemberAssignment(
                cls.version,
                sorted(given[member].items()),
                _dump({"era": era, "leaving": leaving[member]}),
            )
            for member in members
        }


def new_assignor() -> type[SteadyAssignor]:
    """An assignor with a memory of its own."""

    class OfOneConsumer(SteadyAssignor):
        pass

    return OfOneConsumer


def share(
    partitions: Sequence[int],
    owned: Mapping[str, Collection[int]],
    totals: Mapping[str, int],
    busy: Collection[int] = (),
) -> dict[str, list[int]]:
    """Partitions of one topic for each member: as many for each, but for one, and few that move.

    Args:
        partitions: All of them.
        owned: What each member has; nothing twice.
        totals: What each member has got of other topics: who has less gets the odd one.
        busy: What had better stay where it is.
    """
    at_least, odd = divmod(len(partitions), len(owned))
    there = set(partitions)
    mine = {
        member: sorted(there & set(has), key=lambda p: (p not in busy, p))
        for member, has in owned.items()
    }

    def right(member: str) -> tuple[int, int, int, str]:
        """Who has more keeps one more, as far as there are odd ones.

        Then who is busy with more: what was kept while others let go is not asked for instead.
        """
        has = mine[member]
        held = sum(each in busy for each in has)
        return -min(len(has), at_least + 1), -min(held, at_least + 1), totals[member], member

    by_right = sorted(mine, key=right)
    quota = {m: at_least + (number < odd) for number, m in enumerate(by_right)}
    kept = {member: has[: quota[member]] for member, has in mine.items()}
    taken = {each for has in kept.values() for each in has}
    free = [each for each in partitions if each not in taken]
    for member in sorted(kept):
        missing = quota[member] - len(kept[member])
        kept[member] = sorted([*kept[member], *free[:missing]])
        free = free[missing:]
    return kept


def waiting(
    shares: Mapping[str, Collection[int]],
    owned: Mapping[str, Collection[int]],
    busy: Collection[int],
) -> dict[str, list[int]]:
    """The shares for now: what is busy and has to move stays with whoever has it."""
    held = {p: member for member, has in owned.items() for p in has if p in busy}
    now = {
        member: {p for p in has if held.get(p, member) == member} for member, has in shares.items()
    }
    for partition, member in held.items():
        now[member].add(partition)
    return {member: sorted(has) for member, has in now.items()}


class _Said(NamedTuple):
    """What a member says when it joins, or what it is told."""

    era: int = 0
    owned: Owned = NOTHING
    busy: Owned = NOTHING
    leaving: Owned = NOTHING


def _claims(topic: str, said: Mapping[str, _Said]) -> dict[str, list[int]]:
    """What each member owns of a topic, nothing twice: the latest era wins."""
    claimed: set[int] = set()
    claims: dict[str, list[int]] = {member: [] for member in said}
    for member in sorted(said, key=lambda m: (-said[m].era, m)):
        claims[member] = [p for p in said[member].owned.get(topic, ()) if p not in claimed]
        claimed.update(claims[member])
    return claims


def _dump(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode()


def _read(user_data: bytes) -> _Said:
    """What is said; nothing of what cannot be read."""
    try:
        said: Any = json.loads(user_data or b"{}")
        partitions = (_partitions(said.get(name, {})) for name in ("owned", "busy", "leaving"))
        return _Said(int(said.get("era", 0)), *partitions)
    except (ValueError, TypeError, AttributeError):
        return _Said()


def _partitions(said: Any) -> Owned:
    return {str(topic): [int(each) for each in given] for topic, given in said.items()}
