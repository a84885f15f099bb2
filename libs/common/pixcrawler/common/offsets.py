"""Which offsets may be committed: never past a record that is still in hand.

Pure: no Kafka in here. A record is *delivered*, and at some time *done*, in any order. What may be
committed of a partition is the offset up to which everything delivered is done. Every assignment
of partitions is an *epoch* of its own: what was delivered in an earlier one does not count, since
the broker delivers it again from the last commit. What was done in an earlier one, and could not be
committed because of something before it, is remembered while the partition stays: delivered again,
it is done.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

P = TypeVar("P", bound=Hashable)


class Token(NamedTuple, Generic[P]):
    """One delivery of one record."""

    epoch: int
    partition: P
    offset: int


class Commit(NamedTuple, Generic[P]):
    """What may be committed in an epoch: the offset at which each partition goes on."""

    epoch: int
    positions: Mapping[P, int]


@dataclass
class _Partition:
    """Delivered and not yet committable, ascending; and where everything before is done."""

    waiting: dict[int, bool] = field(default_factory=dict)  # offset → whether it is done
    delivered: int | None = None
    began: int = 0  # what was delivered first
    position: int | None = None
    committed: int | None = None


class Offsets(Generic[P]):
    """The ordered records of the partitions that are assigned."""

    def __init__(self) -> None:
        self.epoch = 0
        self._partitions: dict[P, _Partition] = {}
        self._done_before: dict[P, set[int]] = {}

    def assign(self, partitions: Iterable[P]) -> None:
        """Begin an epoch with these partitions; nothing has been delivered in it."""
        self.revoke()
        self._partitions = {partition: _Partition() for partition in partitions}
        self._done_before = {
            partition: done
            for partition, done in self._done_before.items()
            if partition in self._partitions
        }

    def revoke(self) -> None:
        """End the epoch: nothing of it may be committed any more."""
        self.epoch += 1
        for partition, state in self._partitions.items():
            done = self._done_before.setdefault(partition, set())
            done |= {offset for offset, is_done in state.waiting.items() if is_done}
            # What is before the position was committed just now, or it was not: both is fine.
            if state.position is not None and state.position != state.committed:
                done |= set(range(state.committed or state.began, state.position))
        self._partitions = {}

    def done_before(self, token: Token[P]) -> bool:
        """Whether the record was done in an earlier epoch, by this process."""
        return token.offset in self._done_before.get(token.partition, ())

    def deliver(self, partition: P, offset: int) -> Token[P]:
        """A record has arrived; offsets of a partition ascend, with gaps (compaction)."""
        state = self._partitions.get(partition)
        if state is not None:
            state.waiting[offset] = False
            if state.delivered is None:
                state.began = offset
                before = self._done_before.get(partition, set())
                self._done_before[partition] = {each for each in before if each >= offset}
            state.delivered = offset
        return Token(self.epoch, partition, offset)

    def done(self, token: Token[P]) -> None:
        """Its effect and its event are there. Of an earlier epoch: remembered."""
        state = self._partitions.get(token.partition)
        if token.epoch != self.epoch and token.partition in self._done_before:
            self._done_before[token.partition].add(token.offset)
        if token.epoch != self.epoch or state is None or token.offset not in state.waiting:
            return
        state.waiting[token.offset] = True
        while (oldest := next(iter(state.waiting), None)) is not None and state.waiting[oldest]:
            del state.waiting[oldest]
            state.position = oldest + 1
            self._done_before[token.partition].discard(oldest)

    def committable(self) -> Commit[P]:
        """What is done and was not yet committed."""
        return Commit(
            self.epoch,
            {
                partition: state.position
                for partition, state in self._partitions.items()
                if state.position is not None and state.position != state.committed
            },
        )

    def committed(self, commit: Commit[P]) -> None:
        """The broker has it. Of an earlier epoch: ignored."""
        if commit.epoch == self.epoch:
            for partition, position in commit.positions.items():
                self._partitions[partition].committed = position

    def expected(self, partition: P) -> int | None:
        """The offset after the last that was delivered; None if nothing was in this epoch."""
        state = self._partitions.get(partition)
        if state is None or state.delivered is None:
            return None
        return state.delivered + 1

    def in_hand(self, partition: P) -> bool:
        """Whether something that was delivered is not committable yet."""
        state = self._partitions.get(partition)
        return state is not None and bool(state.waiting)

    def reached(self, partition: P) -> int | None:
        """Up to where everything is done; None if nothing was delivered in this epoch."""
        state = self._partitions.get(partition)
        if state is None:
            return None
        return next(iter(state.waiting), state.position)
