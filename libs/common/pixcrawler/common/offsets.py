"""Which offsets may be committed: never past a record that is still in hand.

Pure: no Kafka in here. A record is *delivered*, and at some time *done*, in any order. What may be
committed of a partition is the offset up to which everything delivered is done. Every assignment of
partitions is an *epoch*: nothing is committed between two of them.

A partition that stays over a rebalance keeps its record: the broker delivers again from the last
commit, and what was done, or is in hand, needs no second delivery to count. Where the broker goes
on is told by `resume`, or by the first delivery, and nothing is committed before: somebody else may
have come farther meanwhile. A partition that was away begins with nothing.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

P = TypeVar("P", bound=Hashable)


class Token(NamedTuple, Generic[P]):
    """One record of a partition, for as long as the partition stays: `tenure` counts these stays.

    Equal for each delivery of the record meanwhile; a `tenure` of -1 counts for nothing.
    """

    tenure: int
    partition: P
    offset: int


class Commit(NamedTuple, Generic[P]):
    """What may be committed in an epoch: the offset at which each partition goes on."""

    epoch: int
    positions: Mapping[P, int]


@dataclass
class _Partition:
    """Delivered and not yet committable, ascending; and where everything before is done."""

    tenure: int
    waiting: dict[int, bool] = field(default_factory=dict)  # offset → whether it is done
    began: int | None = None  # what was delivered first
    top: int | None = None  # what was delivered last
    position: int | None = None
    committed: int | None = None
    resumed: bool = True  # whether it is known where the broker goes on
    delivered: int | None = None  # what was delivered last in this epoch

    def knows(self, offset: int) -> bool:
        """Whether it was delivered before."""
        return self.began is not None and self.top is not None and self.began <= offset <= self.top

    def resume(self, offset: int) -> None:
        """The broker goes on here: who has committed what is before has done it."""
        self.resumed = True
        for before in [each for each in self.waiting if each < offset]:
            del self.waiting[before]
        self.committed = offset
        if self.position is not None:
            self.position = max(self.position, offset)
        self.advance()

    def advance(self) -> None:
        """Pass what is done and has nothing before it."""
        while (oldest := next(iter(self.waiting), None)) is not None and self.waiting[oldest]:
            del self.waiting[oldest]
            self.position = oldest + 1


class Offsets(Generic[P]):
    """The ordered records of the partitions that are assigned."""

    def __init__(self) -> None:
        self.epoch = 0
        self._tenures = 0
        self._partitions: dict[P, _Partition] = {}
        self._between: dict[P, _Partition] = {}  # from a revoke to the assignment after it

    def assign(self, partitions: Iterable[P]) -> None:
        """Begin an epoch with these partitions; those that were there before keep their record."""
        self.revoke()
        before, self._between = self._between, {}
        for partition in partitions:
            state = before.get(partition)
            if state is None or state.top is None:
                state = self._new()
            else:
                state.resumed, state.delivered = False, None
            self._partitions[partition] = state

    def revoke(self) -> None:
        """End the epoch: nothing of it may be committed any more."""
        self.epoch += 1
        self._between |= self._partitions
        self._partitions = {}

    def deliver(self, partition: P, offset: int) -> Token[P]:
        """A record has arrived; offsets of a partition ascend, with gaps (compaction)."""
        state = self._partitions.get(partition)
        if state is None:
            return Token(-1, partition, offset)
        if not state.resumed:
            state = self._resume(partition, state, offset)
        state.delivered = offset
        if not state.knows(offset):
            state.waiting[offset] = False
            state.began = offset if state.began is None else state.began
            state.top = offset
        return Token(state.tenure, partition, offset)

    def unresumed(self) -> tuple[P, ...]:
        """Partitions with something to commit, once it is known where the broker goes on."""
        return tuple(
            partition
            for partition, state in self._partitions.items()
            if not state.resumed and (state.waiting or state.position != state.committed)
        )

    def resume(self, partition: P, committed: int | None) -> None:
        """The broker has this committed, so it delivers from there; None: nobody ever committed."""
        state = self._partitions.get(partition)
        if state is not None and state.began is not None and not state.resumed:
            self._resume(partition, state, state.began if committed is None else committed)

    def _resume(self, partition: P, state: _Partition, offset: int) -> _Partition:
        if state.began is not None and offset < state.began:
            # Somebody has set the group's offset back: everything from there is wanted again.
            state = self._partitions[partition] = self._new()
        else:
            state.resume(offset)
        return state

    def _new(self) -> _Partition:
        self._tenures += 1
        return _Partition(self._tenures)

    def is_done(self, token: Token[P]) -> bool:
        """Whether the record was done already, by this process."""
        state = self._state(token)
        return (
            state is not None
            and state.knows(token.offset)
            and state.waiting.get(token.offset, True)
        )

    def done(self, token: Token[P]) -> None:
        """Its effect and its event are there; of a partition that went away: ignored."""
        state = self._state(token)
        if state is not None and token.offset in state.waiting:
            state.waiting[token.offset] = True
            state.advance()

    def _state(self, token: Token[P]) -> _Partition | None:
        state = self._partitions.get(token.partition) or self._between.get(token.partition)
        return state if state is not None and state.tenure == token.tenure else None

    def committable(self) -> Commit[P]:
        """What is done and was not yet committed."""
        return Commit(
            self.epoch,
            {
                partition: state.position
                for partition, state in self._partitions.items()
                if state.resumed
                and state.position is not None
                and state.position != state.committed
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
        """Up to where everything is done; None if nothing was delivered while it stayed."""
        state = self._partitions.get(partition)
        if state is None:
            return None
        return next(iter(state.waiting), state.position)
