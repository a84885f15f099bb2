"""How far each stage is behind, how fast records come and go, and when it will have caught up.

All of it is read from Kafka at once, without waiting for a second look:

- how many records a group has before it: ends of partitions less what it has committed;
- for how long: when the first record that is not done was written;
- how fast records come: how many were written within the window (the offset of a time);
- how fast they go: how far the group's commits came within the window. Kafka keeps them as records
  of its own topic `__consumer_offsets`, and the end of that topic is their history;
- who works: the members of the group that have partitions.
"""

import asyncio
import struct
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeGroupsRequest, DescribeGroupsRequest_v2
from aiokafka.structs import ConsumerRecord, TopicPartition

from pixcrawler.common import admin, topics
from pixcrawler.common.kafka import Servers

State = Literal["up_to_date", "catching_up", "keeping_up", "falling_behind", "standing_still"]

WINDOW_S = 60.0
"""Seconds that rates are taken over: a chunk takes some in every stage, and a change shows soon."""
LEAD_IN = 4
"""Windows of history that are read before the one that counts: where a group stood at its begin."""
HISTORY_S = 1.0
"""Seconds that reading the history may take; what is not read by then is not known."""
OLDEST_S = 0.5
"""Seconds that reading the oldest records may take, likewise."""
STILL_S = 10.0
"""Seconds for which a record waits at least before it says anything: work takes its time."""
NOISE = 2
"""Records by which come and go may differ within the window and still be as much."""


@dataclass(frozen=True, order=True)
class Replica:
    """A member of a group: its client's id, where it is, and how many partitions it has."""

    name: str
    host: str
    partitions: int


@dataclass(frozen=True)
class Pace:
    """A group on its topics, or on one of them.

    Attributes:
        lag: Records that are not done.
        oldest_s: Seconds since the first of those was written; None if there is none.
        came: Records that were written within the window.
        went: Records that were done within the window; None if the history cannot be read.
        window_s: The window.
    """

    lag: int
    oldest_s: float | None
    came: int
    went: int | None
    window_s: float

    @property
    def come(self) -> float:
        """Records a second that are written."""
        return self.came / self.window_s

    @property
    def go(self) -> float | None:
        """Records a second that are done."""
        return None if self.went is None else self.went / self.window_s

    @property
    def state(self) -> State | None:
        """What these numbers say; None where they do not."""
        if not self.lag:
            return "up_to_date"
        if self.went is None:
            return None
        if self.oldest_s is not None and self.oldest_s < STILL_S:
            return "keeping_up"
        if self.went == 0:
            return "standing_still"
        grown = self.came - self.went
        if abs(grown) <= max(NOISE, self.came / 10):
            return "keeping_up"
        return "falling_behind" if grown > 0 else "catching_up"

    @property
    def until_s(self) -> float | None:
        """Seconds until it will have caught up as things go; None if it does not, 0 if it has."""
        if self.state == "up_to_date":
            return 0.0
        if self.state != "catching_up" or self.went is None:
            return None
        return self.lag * self.window_s / (self.went - self.came)


@dataclass(frozen=True)
class StagePace:
    """A group: on all of its topics, on each of them, and who works."""

    group: str
    total: Pace
    topics: Mapping[str, Pace]
    replicas: tuple[Replica, ...]


class Commit(NamedTuple):
    """A commit as the history has it: when, and the offset that is next."""

    at_ms: int
    offset: int


class Ends(NamedTuple):
    """Where a partition begins and ends, and where it ended when the window began."""

    first: int
    end: int
    then: int


@dataclass(frozen=True)
class Seen:
    """What Kafka says.

    Attributes:
        now_ms: When it was asked, as are all times in ms since the epoch.
        window_s: The window.
        partitions: Of all topics that any group reads.
        committed: The offset that is next for a group; missing before its first commit.
        written: When the first record that a group has not done was written.
        history: What groups have committed since some windows ago, in that order; None if it
            cannot be read.
        members: Of each group.
    """

    now_ms: int
    window_s: float
    partitions: Mapping[TopicPartition, Ends]
    committed: Mapping[tuple[str, TopicPartition], int]
    written: Mapping[tuple[str, TopicPartition], int]
    history: Mapping[tuple[str, TopicPartition], Sequence[Commit]] | None
    members: Mapping[str, tuple[Replica, ...]]


async def paces(
    bootstrap_servers: Servers,
    groups: Sequence[str] = topics.GROUPS,
    *,
    window_s: float = WINDOW_S,
) -> tuple[StagePace, ...]:
    """Every group's pace, in the order of the groups.

    Raises:
        KafkaError: the cluster cannot be reached, or refuses.
    """
    reads = {group: topics.read_by(group) for group in groups}
    return assess(await look(bootstrap_servers, reads, window_s), reads)


async def look(
    bootstrap_servers: Servers, reads: Mapping[str, Collection[str]], window_s: float
) -> Seen:
    """Ask Kafka, as much as can be at once.

    Args:
        bootstrap_servers: `host:port`, comma-separated, or a cluster.
        reads: Groups, and the topics that each reads.
        window_s: Over how many seconds rates are wanted.

    Raises:
        KafkaError: the cluster cannot be reached, or refuses.
    """
    async with AsyncExitStack() as stack:
        asker, reader, historian = await asyncio.gather(
            stack.enter_async_context(admin.open_admin(bootstrap_servers)),
            stack.enter_async_context(admin.open_reader(bootstrap_servers)),
            stack.enter_async_context(admin.open_reader(bootstrap_servers)),
        )
        now_ms = round(time.time() * 1000)
        begin_ms = now_ms - round(window_s * 1000)
        cluster = await reader._client.fetch_all_metadata()  # noqa: SLF001 - the only way to ask
        every = {name for names in reads.values() for name in names}
        all_ = [
            TopicPartition(name, number)
            for name in sorted(every)
            for number in sorted(cluster.partitions_for_topic(name) or ())
        ]
        since_ms = begin_ms - round(LEAD_IN * window_s * 1000)
        count = len(cluster.partitions_for_topic(topics.COMMITS) or ())
        ends, firsts, thens, committed, members, history = await asyncio.gather(
            reader.end_offsets(all_),
            reader.beginning_offsets(all_),
            reader.offsets_for_times(dict.fromkeys(all_, begin_ms)),
            _committed(asker, reads, all_),
            _members(asker, list(reads)),
            _history(historian, _places(reads, count), since_ms),
        )
        partitions = {
            tp: Ends(firsts[tp], ends[tp], thens[tp].offset if thens[tp] else ends[tp])
            for tp in all_
        }
        due = {
            (group, tp): position
            for group, names in reads.items()
            for tp, each in partitions.items()
            if tp.topic in names
            and (position := max(committed.get((group, tp), 0), each.first)) < each.end
        }
        written = await _written(reader, due)
    return Seen(now_ms, window_s, partitions, committed, written, history, members)


def assess(seen: Seen, reads: Mapping[str, Collection[str]]) -> tuple[StagePace, ...]:
    """What follows from it for each group."""
    found = []
    for group, names in reads.items():
        by_topic = {name: _pace(seen, group, [name]) for name in names}
        whole = _pace(seen, group, names)
        found.append(StagePace(group, whole, by_topic, seen.members.get(group, ())))
    return tuple(found)


def _pace(seen: Seen, group: str, names: Collection[str]) -> Pace:
    mine = {tp: each for tp, each in seen.partitions.items() if tp.topic in names}
    written = [at for (whose, tp), at in seen.written.items() if whose == group and tp in mine]
    went = None
    if seen.history is not None:
        begin_ms = seen.now_ms - round(seen.window_s * 1000)
        went = sum(
            _went(
                seen.history.get((group, tp), ()), seen.committed.get((group, tp)), each, begin_ms
            )
            for tp, each in mine.items()
        )
    return Pace(
        lag=sum(
            each.end - min(max(seen.committed.get((group, tp), 0), each.first), each.end)
            for tp, each in mine.items()
        ),
        oldest_s=max(seen.now_ms - min(written), 0) / 1000 if written else None,
        came=sum(each.end - each.then for each in mine.values()),
        went=went,
        window_s=seen.window_s,
    )


def _went(history: Sequence[Commit], committed: int | None, ends: Ends, begin_ms: int) -> int:
    """How far a group's commits came since then.

    Where it stood at that time its last commit before says. If that is older than the history, it
    had nothing to do for as long: then it stood at the partition's end.
    """
    within = [each for each in history if each.at_ms >= begin_ms]
    if committed is None or not within:
        return 0
    before = [each for each in history if each.at_ms < begin_ms]
    stood = before[-1].offset if before else min(within[0].offset, ends.then)
    return max(committed - stood, 0)


# ---- asking


async def _committed(
    asker: AIOKafkaAdminClient,
    reads: Mapping[str, Collection[str]],
    partitions: Sequence[TopicPartition],
) -> dict[tuple[str, TopicPartition], int]:
    async def of(group: str, names: Collection[str]) -> dict[TopicPartition, int]:
        mine = [tp for tp in partitions if tp.topic in names]
        return await admin.committed(asker, group, mine)

    found = await asyncio.gather(*(of(group, names) for group, names in reads.items()))
    return {
        (group, tp): offset
        for group, offsets in zip(reads, found, strict=True)
        for tp, offset in offsets.items()
    }


class _DescribeGroups(DescribeGroupsRequest):  # type: ignore[misc] # it is untyped
    """In version 2: aiokafka 0.14 reads the answer of version 3 as if it were one of 2."""

    def build(self, request_struct_class: type[Any]) -> DescribeGroupsRequest_v2:  # noqa: ARG002
        return DescribeGroupsRequest_v2(self._groups)


async def _members(
    asker: AIOKafkaAdminClient, groups: Sequence[str]
) -> dict[str, tuple[Replica, ...]]:
    """Who is in each group, and has how many partitions."""
    places = await asyncio.gather(*(admin.coordinator(asker, group) for group in groups))
    known: dict[int, list[str]] = defaultdict(list)
    for group, place in zip(groups, places, strict=True):
        known[place].append(group)
    answers = await asyncio.gather(
        *(asker._send_request(_DescribeGroups(some), place) for place, some in known.items())  # noqa: SLF001 - see above
    )
    return {
        group: tuple(sorted(_replica(group, *member) for member in members))
        for answer in answers
        for _error, group, _state, _type, _protocol, members in answer.groups
    }


def _replica(
    group: str, _member: str, client: str, host: str, _metadata: bytes, assigned: bytes
) -> Replica:
    """A member as the coordinator describes it."""
    partitions = 0
    if assigned:
        given = ConsumerProtocolMemberAssignment.decode(assigned)
        partitions = len(given.partitions())
    return Replica(client.removeprefix(f"{group}-"), host.removeprefix("/"), partitions)


async def _written(
    reader: AIOKafkaConsumer, due: Mapping[tuple[str, TopicPartition], int]
) -> dict[tuple[str, TopicPartition], int]:
    """When the first record at or after each position was written.

    Those that do not come in time are missing.
    """
    wanted: dict[TopicPartition, list[int]] = defaultdict(list)
    for (_, tp), position in due.items():
        if position not in wanted[tp]:
            wanted[tp].append(position)
    found: dict[tuple[TopicPartition, int], int] = {}
    until = time.monotonic() + OLDEST_S
    while wanted and time.monotonic() < until:  # a partition has one position at a time
        asked = {tp: positions.pop() for tp, positions in wanted.items()}
        wanted = defaultdict(list, {tp: rest for tp, rest in wanted.items() if rest})
        reader.assign(list(asked))
        for tp, position in asked.items():
            reader.seek(tp, position)
        left = set(asked)
        while left and time.monotonic() < until:
            for tp, batch in (await reader.getmany(*left, timeout_ms=100)).items():
                found[tp, asked[tp]] = batch[0].timestamp
                left.discard(tp)
    return {
        (group, tp): found[tp, position]
        for (group, tp), position in due.items()
        if (tp, position) in found
    }


# ---- the history of commits


def _places(groups: Iterable[str], count: int) -> list[TopicPartition]:
    """Where the groups' commits are: by Java's hash of their names, as the broker does it."""
    if not count:
        return []
    return sorted(
        {TopicPartition(topics.COMMITS, _abs(java_hash(group)) % count) for group in groups}
    )


def _abs(number: int) -> int:
    """As Kafka's `Utils.abs`."""
    return 0 if number == -(1 << 31) else abs(number)


def java_hash(text: str) -> int:
    """`String.hashCode`, for ASCII."""
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


async def _history(
    reader: AIOKafkaConsumer, places: Sequence[TopicPartition], since_ms: int
) -> dict[tuple[str, TopicPartition], list[Commit]] | None:
    """What was committed since then, per group and partition; None if we may not read it."""
    if not places:
        return None
    found: dict[tuple[str, TopicPartition], list[Commit]] = defaultdict(list)
    try:
        ends = await admin.start_at(reader, places, since_ms)
        async with asyncio.timeout(HISTORY_S):
            async for _, batch in admin.until(reader, ends):
                for record in batch:
                    remember(found, record)
    except (KafkaError, TimeoutError):
        return None
    return found


def remember(
    found: dict[tuple[str, TopicPartition], list[Commit]], record: ConsumerRecord[bytes, bytes]
) -> None:
    """A record of the topic of offsets, if it is a commit: its key is of version 0 or 1.

    The format is that of OffsetCommitKey.json and OffsetCommitValue.json in Kafka's source.
    """
    if record.key is None or record.value is None or record.key[:2] not in {b"\0\0", b"\0\1"}:
        return
    group, rest = _text(record.key[2:])
    topic, rest = _text(rest)
    (partition,) = struct.unpack_from(">i", rest)
    (offset,) = struct.unpack_from(">q", record.value, 2)
    found.setdefault((group, TopicPartition(topic, partition)), []).append(
        Commit(record.timestamp, offset)
    )


def _text(data: bytes) -> tuple[str, bytes]:
    (size,) = struct.unpack_from(">h", data)
    return data[2 : 2 + size].decode(), data[2 + size :]
