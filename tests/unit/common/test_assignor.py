"""Partitions are shared fairly, and move only when they have to."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from hypothesis import given
from hypothesis import strategies as st

from pixcrawler.common.assignor import Owned, SteadyAssignor, new_assignor, share

TOPICS = {"a": 12, "b": 5}
MEMBERS = st.lists(st.sampled_from("uvwxyz"), min_size=1, max_size=6, unique=True)


class Group:
    """A group as the client runs it: bytes between members and their leader, no broker."""

    def __init__(self) -> None:
        self.assignors: dict[str, type[SteadyAssignor]] = {}

    def rebalance(self, members: list[str]) -> Mapping[str, set[tuple[str, int]]]:
        """These members, who remember what they had; newcomers remember nothing."""
        self.assignors = {m: self.assignors.get(m) or new_assignor() for m in members}
        said = {
            m: ConsumerProtocolMemberMetadata.decode(a.metadata(TOPICS).encode())
            for m, a in self.assignors.items()
        }
        cluster: Any = SimpleNamespace(partitions_for_topic=lambda name: set(range(TOPICS[name])))
        found = self.assignors[members[0]].assign(cluster, said)
        for member, assignor in self.assignors.items():
            sent = ConsumerProtocolMemberAssignment.decode(found[member].encode())
            assignor.on_assignment(sent)
        return {m: _pairs(a.owned) for m, a in self.assignors.items()}

    def say_busy(self, member: str, busy: set[tuple[str, int]]) -> None:
        """What the member says at the next rebalance."""
        self.assignors.setdefault(member, new_assignor()).busy = {
            topic: [p for t, p in busy if t == topic] for topic in TOPICS
        }

    def leaving(self, member: str) -> set[tuple[str, int]]:
        """What the member shall let go of."""
        return _pairs(self.assignors[member].leaving)


def _pairs(owned: Owned) -> set[tuple[str, int]]:
    return {(topic, p) for topic, partitions in owned.items() for p in partitions}


@given(st.lists(MEMBERS, min_size=1, max_size=6))
def test_fair_and_steady_whoever_comes_and_goes(steps: list[list[str]]) -> None:
    """Each partition has one reader, shares differ by one at most, moves are as few as can be."""
    group = Group()
    before: dict[str, set[tuple[str, int]]] = {}
    for members in steps:
        after = group.rebalance(members)
        every = [each for has in after.values() for each in has]
        assert sorted(every) == [(t, p) for t, n in sorted(TOPICS.items()) for p in range(n)]
        for topic, count in TOPICS.items():
            shares = {m: {p for t, p in has if t == topic} for m, has in after.items()}
            sizes = [len(each) for each in shares.values()]
            assert max(sizes) - min(sizes) <= 1
            for member, has in shares.items():
                had = {p for t, p in before.get(member, set()) if t == topic}
                assert len(had & has) >= min(len(had), count // len(members))
        totals = [len(has) for has in after.values()]
        assert max(totals) - min(totals) <= 2
        before = dict(after)


@given(st.lists(MEMBERS, min_size=2, max_size=5), st.data())
def test_what_is_busy_moves_when_its_owner_lets_go(
    steps: list[list[str]], data: st.DataObject
) -> None:
    """Nothing is taken from whoever works on it; once they have let go, all is fair again."""
    group = Group()
    before: dict[str, set[tuple[str, int]]] = {}
    for members in steps:
        busy = {
            m: {each for each in sorted(before.get(m, ())) if data.draw(st.booleans())}
            for m in members
        }
        for member, has in busy.items():
            group.say_busy(member, has)
        after = group.rebalance(members)
        every = [each for has in after.values() for each in has]
        assert sorted(every) == [(t, p) for t, n in sorted(TOPICS.items()) for p in range(n)]
        leaving = {m: group.leaving(m) for m in members}
        for member, has in after.items():
            assert busy[member] <= has
            assert leaving[member] <= busy[member]
            group.say_busy(member, has - leaving[member])
        settled = group.rebalance(members)
        for topic, count in TOPICS.items():
            sizes = [sum(t == topic for t, _ in has) for has in settled.values()]
            assert (min(sizes), sum(sizes)) == (count // len(members), count)
        for member, has in settled.items():
            assert group.leaving(member) == set()
            assert has >= after[member] - leaving[member]
        before = dict(settled)


def test_the_odd_partition_stays_with_whoever_kept_it_busy() -> None:
    """Two newcomers: both owners let go of what they were told to, and all is fair at once."""
    group = Group()
    group.rebalance(["u", "z"])
    group.say_busy("z", {*(("a", p) for p in range(6, 11)), ("b", 3), ("b", 4)})
    group.say_busy("u", {*(("a", p) for p in range(6)), ("b", 0), ("b", 1)})
    everybody = ["w", "x", "z", "u"]
    after = group.rebalance(everybody)
    for member in everybody:
        group.say_busy(member, after[member] - group.leaving(member))
    settled = group.rebalance(everybody)
    assert sorted(sum(t == "b" for t, _ in has) for has in settled.values()) == [1, 1, 1, 2]
    assert not any(map(group.leaving, everybody))


def test_an_older_version_is_understood() -> None:
    """It says nothing of what is busy, and ignores what it is told beyond its partitions."""
    old = ConsumerProtocolMemberMetadata(
        0, sorted(TOPICS), b'{"era": 1, "owned": {"a": [0, 1, 2, 3, 4, 5], "b": [0, 1, 2]}}'
    )
    new = ConsumerProtocolMemberMetadata(0, sorted(TOPICS), b"")
    cluster: Any = SimpleNamespace(partitions_for_topic=lambda name: set(range(TOPICS[name])))
    given_to = SteadyAssignor.assign(cluster, {"old": old, "new": new})
    assert dict(given_to["old"].assignment) == {"a": [0, 1, 2, 3, 4, 5], "b": [0, 1, 2]}


def test_nothing_moves_when_nobody_came_or_went() -> None:
    """Whoever leads."""
    group = Group()
    first = group.rebalance(["x", "y", "z"])
    assert group.rebalance(["z", "y", "x"]) == first


def test_a_member_that_was_away_does_not_get_back_what_others_have() -> None:
    """A zombie remembers an era that is over."""
    group = Group()
    group.rebalance(["x", "y"])
    zombie = group.assignors["x"]
    settled = group.rebalance(["y", "z"])
    group.assignors["x"] = zombie
    after = group.rebalance(["x", "y", "z"])
    for member in ("y", "z"):
        assert after[member] < settled[member]


def test_what_was_taken_comes_from_whoever_has_most() -> None:
    """A third member of twelve partitions takes two of each of the others."""
    shares = share(range(12), {"x": range(6), "y": range(6, 12), "z": ()}, {"x": 0, "y": 0, "z": 0})
    assert shares == {"x": [0, 1, 2, 3], "y": [6, 7, 8, 9], "z": [4, 5, 10, 11]}
