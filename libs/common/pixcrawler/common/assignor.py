"""Which member of a consumer group reads which partitions: all keep what they have, if it is fair.

Work in hand is adopted after a rebalance only by whoever keeps its partition; elsewhere it begins
again. Kafka's ranges move half of all partitions whenever a replica comes or goes. Here those move
that have to: a newcomer's share is taken from those who have most, the share of one that left is
spread over those who have least.

The memory of it is a class of its own for each consumer: the client wants classes, and the sticky
assignor that it brings along shares its memory between all consumers of a process.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)

Owned = Mapping[str, Collection[int]]
"""Partitions by topic."""


class SteadyAssignor(AbstractPartitionAssignor):  # type: ignore[misc]
    """The assignor; `new_assignor` gives one to each consumer.

    Members send what they own with the era in which they got it, each assignment being an era: what
    a member owns since an earlier era than others has been given to somebody else meanwhile.
    """

    name = "pixcrawler-steady"
    version = 0
    owned: ClassVar[dict[str, list[int]]] = {}
    era: ClassVar[int] = 0

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What the member says when it joins."""
        said = json.dumps({"era": cls.era, "owned": cls.owned}).encode()
        return ConsumerProtocolMemberMetadata(cls.version, sorted(topics), said)

    @classmethod
    def on_assignment(cls, assignment: ConsumerProtocolMemberAssignment) -> None:
        """What the member was given."""
        cls.owned = {topic: list(partitions) for topic, partitions in assignment.assignment}
        cls.era = _read(assignment.user_data)[0]

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """What the leader gives to whom."""
        said = {member: _read(metadata.user_data) for member, metadata in members.items()}
        era = 1 + max((each for each, _ in said.values()), default=0)
        given: dict[str, dict[str, list[int]]] = {member: {} for member in members}
        for topic in sorted({topic for each in members.values() for topic in each.subscription}):
            readers = sorted(m for m, each in members.items() if topic in each.subscription)
            claims = _claims(topic, {member: said[member] for member in readers})
            totals = {m: sum(map(len, given[m].values())) for m in readers}
            shares = share(sorted(cluster.partitions_for_topic(topic) or ()), claims, totals)
            for member, partitions in shares.items():
                given[member][topic] = partitions
        told = json.dumps({"era": era}).encode()
        return {
            member: ConsumerProtocolMemberAssignment(cls.version, sorted(by_topic.items()), told)
            for member, by_topic in given.items()
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
) -> dict[str, list[int]]:
    """Partitions of one topic for each member: as many for each, but for one, and few that move.

    Args:
        partitions: All of them.
        owned: What each member has; nothing twice.
        totals: What each member has got of other topics: who has less gets the odd one.
    """
    at_least, odd = divmod(len(partitions), len(owned))
    there = set(partitions)
    mine = {member: sorted(there & set(has)) for member, has in owned.items()}
    # Who has more keeps one more, as far as there are odd ones.
    by_right = sorted(mine, key=lambda m: (-min(len(mine[m]), at_least + 1), totals[m], m))
    quota = {m: at_least + (number < odd) for number, m in enumerate(by_right)}
    kept = {member: has[: quota[member]] for member, has in mine.items()}
    taken = {each for has in kept.values() for each in has}
    free = [each for each in partitions if each not in taken]
    for member in sorted(kept):
        missing = quota[member] - len(kept[member])
        kept[member] = sorted([*kept[member], *free[:missing]])
        free = free[missing:]
    return kept


def _claims(topic: str, said: Mapping[str, tuple[int, Owned]]) -> dict[str, list[int]]:
    """What each member owns of a topic, nothing twice: the latest era wins."""
    claimed: set[int] = set()
    claims: dict[str, list[int]] = {member: [] for member in said}
    for member in sorted(said, key=lambda m: (-said[m][0], m)):
        claims[member] = [p for p in said[member][1].get(topic, ()) if p not in claimed]
        claimed.update(claims[member])
    return claims


def _read(user_data: bytes) -> tuple[int, Owned]:
    """Era and partitions; nothing of what cannot be read."""
    try:
        said: Any = json.loads(user_data or b"{}")
        era, owned = int(said.get("era", 0)), said.get("owned", {})
        return era, {str(topic): [int(p) for p in ps] for topic, ps in owned.items()}
    except (ValueError, TypeError, AttributeError):
        return 0, {}
