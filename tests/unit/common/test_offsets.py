"""The law of committing: never past a record that is in hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pixcrawler.common.offsets import Commit, Offsets, Token


def test_the_lowest_contiguous_offset_is_committed() -> None:
    """Done out of order, committed in order."""
    offsets: Offsets[str] = Offsets()
    offsets.assign(["p"])
    tokens = [offsets.deliver("p", offset) for offset in (5, 6, 9)]
    offsets.done(tokens[1])
    assert offsets.committable().positions == {}
    offsets.done(tokens[0])
    assert offsets.committable().positions == {"p": 7}
    offsets.committed(offsets.committable())
    assert offsets.committable().positions == {}
    assert offsets.reached("p") == 9
    offsets.done(tokens[2])
    assert offsets.committable().positions == {"p": 10}


def test_what_was_delivered_before_the_partition_went_away_does_not_count() -> None:
    """When it comes back the record comes again; its first delivery may not commit the second."""
    offsets: Offsets[str] = Offsets()
    offsets.assign(["p"])
    old = offsets.deliver("p", 1)
    offsets.assign([])
    offsets.assign(["p"])
    offsets.deliver("p", 1)
    offsets.done(old)
    assert offsets.committable().positions == {}


def test_nothing_is_committed_between_revoke_and_assign() -> None:
    """A commit of the old epoch that is answered late changes nothing in the new one."""
    offsets: Offsets[str] = Offsets()
    offsets.assign(["p"])
    offsets.done(offsets.deliver("p", 1))
    late = offsets.committable()
    offsets.revoke()
    assert offsets.committable().positions == {}
    offsets.assign(["p"])
    offsets.committed(late)
    assert offsets.committable().positions == {}
    offsets.resume("p", 1)
    assert offsets.committable().positions == {"p": 2}


@given(st.permutations(range(12)))
def test_any_order_commits_everything_in_the_end(order: list[int]) -> None:
    """However the work ends, nothing is committed early and all of it at last."""
    offsets: Offsets[int] = Offsets()
    offsets.assign([0])
    tokens = [offsets.deliver(0, offset) for offset in range(12)]
    unfinished = set(range(12))
    for number in order:
        offsets.done(tokens[number])
        unfinished.discard(number)
        position = offsets.committable().positions.get(0, 0)
        assert position == min(unfinished, default=12)


class Consumer(RuleBasedStateMachine):
    """A broker and a consumer that does everything in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets: Offsets[int] = Offsets()
        self.broker = {0: 0, 1: 0}  # committed
        self.next = {0: 0, 1: 0}  # to be delivered
        self.assigned: frozenset[int] = frozenset()
        self.tokens: list[Token[int]] = []
        self.effects: dict[int, set[int]] = {0: set(), 1: set()}  # done at any time, by anyone
        self.log: dict[int, set[int]] = {0: set(), 1: set()}  # all that is not compacted away
        self.late: list[Commit[int]] = []

    @rule(partitions=st.frozensets(st.sampled_from([0, 1])), others=st.integers(0, 3))
    def rebalance(self, partitions: frozenset[int], others: int) -> None:
        """Somebody else may have had everything meanwhile, and come farther."""
        self.offsets.revoke()
        for partition in self.broker if others else ():
            position = self.broker[partition] + others
            self.effects[partition] |= set(range(position))
            self.broker[partition] = position
        self.offsets.assign(partitions)
        self.assigned = partitions
        self.next = dict(self.broker)

    @precondition(lambda self: self.offsets.unresumed())
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        partition = data.draw(st.sampled_from(self.offsets.unresumed()))
        self.offsets.resume(partition, self.broker[partition])

    @precondition(lambda self: self.assigned)
    @rule(data=st.data(), gap=st.integers(0, 2))
    def deliver(self, data: st.DataObject, gap: int) -> None:
        partition = data.draw(st.sampled_from(sorted(self.assigned)))
        beyond = max({self.next[partition], *(each + 1 for each in self.log[partition])}) + gap
        offset = min(
            {each for each in self.log[partition] if each >= self.next[partition]} | {beyond}
        )
        self.log[partition].add(offset)
        self.effects[partition] |= set(range(self.next[partition], offset)) - self.log[partition]
        self.next[partition] = offset + 1
        token = self.offsets.deliver(partition, offset)
        if self.offsets.is_done(token):
            assert offset in self.effects[partition]
        elif token not in self.tokens:
            self.tokens.append(token)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        token = self.tokens.pop(data.draw(st.integers(0, len(self.tokens) - 1)))
        self.effects[token.partition].add(token.offset)
        self.offsets.done(token)

    @rule(answered=st.booleans())
    def commit(self, answered: bool) -> None:
        due = self.offsets.committable()
        for partition, position in due.positions.items():
            assert position >= self.broker[partition], "a commit went back"
        self.broker.update(due.positions)
        if answered:
            self.offsets.committed(due)
        else:
            self.late.append(due)

    @precondition(lambda self: self.late)
    @rule()
    def late_answer(self) -> None:
        self.offsets.committed(self.late.pop())

    @invariant()
    def nothing_committed_is_unfinished(self) -> None:
        for partition, position in self.broker.items():
            assert set(range(position)) <= self.effects[partition]


TestConsumer = Consumer.TestCase


class Naive:
    """What may be committed, computed anew each time from everything that has happened."""

    def __init__(self) -> None:
        self.delivered: dict[int, list[int]] = {}
        self.done: set[tuple[int, int]] = set()
        self.told: dict[int, int] = {}

    def reached(self, partition: int) -> int | None:
        """The first that is not done; after the last if all are; None if nothing came."""
        offsets = self.delivered.get(partition, [])
        for offset in offsets:
            if (partition, offset) not in self.done:
                return offset
        return offsets[-1] + 1 if offsets else None

    def committable(self) -> dict[int, int]:
        """Right after what is done and has nothing before it that is not; if it was not told."""
        positions = {}
        for partition, offsets in self.delivered.items():
            waits = (n for n, offset in enumerate(offsets) if (partition, offset) not in self.done)
            before = offsets[: next(waits, len(offsets))]
            if before and before[-1] + 1 != self.told.get(partition):
                positions[partition] = before[-1] + 1
        return positions


class Exactly(RuleBasedStateMachine):
    """The record says neither more nor less than the naive model."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets: Offsets[int] = Offsets()
        self.naive = Naive()
        self.tokens: list[Token[int]] = []
        self.old: list[Token[int]] = []

    @rule(partitions=st.frozensets(st.integers(0, 2)))
    def assign(self, partitions: frozenset[int]) -> None:
        """All partitions are new: what stays has a machine of its own above."""
        self.offsets.assign([])
        self.offsets.assign(partitions)
        self.naive = Naive()
        self.naive.delivered = {partition: [] for partition in partitions}
        self.old += self.tokens
        self.tokens = []

    @rule()
    def revoke(self) -> None:
        self.offsets.revoke()
        self.naive = Naive()
        self.old += self.tokens
        self.tokens = []

    @precondition(lambda self: self.naive.delivered)
    @rule(data=st.data(), gap=st.integers(0, 3), count=st.integers(1, 5))
    def deliver(self, data: st.DataObject, gap: int, count: int) -> None:
        partition = data.draw(st.sampled_from(sorted(self.naive.delivered)))
        offsets = self.naive.delivered[partition]
        for offset in range(first := (offsets[-1] + 1 if offsets else 0) + gap, first + count):
            self.tokens.append(self.offsets.deliver(partition, offset))
            offsets.append(offset)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), again=st.booleans())
    def finish(self, data: st.DataObject, again: bool) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        if not again:
            self.tokens.remove(token)
        self.offsets.done(token)
        self.naive.done.add((token.partition, token.offset))

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def finish_what_is_over(self, data: st.DataObject) -> None:
        self.offsets.done(data.draw(st.sampled_from(self.old)))

    @rule(answered=st.booleans())
    def commit(self, answered: bool) -> None:
        due = self.offsets.committable()
        if answered:
            self.offsets.committed(due)
            self.naive.told.update(due.positions)

    @invariant()
    def the_same(self) -> None:
        assert dict(self.offsets.committable().positions) == self.naive.committable()
        for partition in range(3):
            assert self.offsets.reached(partition) == self.naive.reached(partition)


TestExactly = Exactly.TestCase
TestExactly.settings = settings(deadline=None)


def test_what_is_done_is_remembered_while_the_partition_stays() -> None:
    """Done behind something in hand, or after the revoke: delivered again it needs no work."""
    offsets: Offsets[str] = Offsets()
    offsets.assign(["a", "b"])
    tokens = {(p, n): offsets.deliver(p, n) for p in ("a", "b") for n in range(4)}
    for partition in ("a", "b"):
        offsets.done(tokens[partition, 1])
    offsets.revoke()
    offsets.done(tokens["a", 2])
    offsets.assign(["a"])
    offsets.done(tokens["b", 3])
    again = [offsets.deliver("a", n) for n in range(4)]
    assert again == [tokens["a", n] for n in range(4)]
    assert [offsets.is_done(token) for token in again] == [False, True, True, False]
    offsets.done(tokens["a", 0])
    assert offsets.committable().positions == {"a": 3}
    offsets.assign(["a", "b"])
    assert not any(offsets.is_done(offsets.deliver("b", n)) for n in range(4))
    assert offsets.committable().positions == {}


@pytest.mark.parametrize("committed", [0, None])
def test_who_drains_commits_what_nobody_delivers_again(committed: int | None) -> None:
    """Work that outlasts a rebalance counts as soon as it is known where the broker goes on."""
    offsets: Offsets[str] = Offsets()
    offsets.assign(["p"])
    tokens = [offsets.deliver("p", offset) for offset in range(5)]
    offsets.assign(["p"])
    for token in tokens:
        offsets.done(token)
    assert (offsets.unresumed(), offsets.committable().positions) == (("p",), {})
    offsets.resume("p", committed)
    assert (offsets.unresumed(), offsets.committable().positions) == ((), {"p": 5})


def test_nothing_is_committed_behind_what_others_have_committed() -> None:
    """Somebody had the partition in a generation that was missed here: commits never go back."""
    offsets: Offsets[str] = Offsets()
    offsets.assign(["p"])
    tokens = [offsets.deliver("p", offset) for offset in range(5)]
    offsets.assign(["p"])
    offsets.done(tokens[0])
    offsets.resume("p", 3)
    offsets.done(tokens[1])
    assert offsets.committable().positions == {}
    offsets.done(tokens[3])
    assert offsets.committable().positions == {"p": 4}


def test_what_was_set_back_is_done_again() -> None:
    """Offsets that somebody sets back ask for everything again, whatever is remembered."""
    offsets: Offsets[str] = Offsets()
    offsets.assign(["p"])
    offsets.done(offsets.deliver("p", 7))
    offsets.assign(["p"])
    again = [offsets.deliver("p", offset) for offset in range(8)]
    assert not any(map(offsets.is_done, again))
