"""Topics as code: make what the registry says, say where the cluster differs, look inside.

Used by standalone mode, the tests and `pixcrawler topics …`. Every function connects for itself.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.new_partitions import NewPartitions
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code
from aiokafka.structs import ConsumerRecord, TopicPartition

from pixcrawler.common import events, topics
from pixcrawler.common.errors import PixCrawlerError, Poison
from pixcrawler.common.events import Event, Headers
from pixcrawler.common.kafka import Servers, options
from pixcrawler.common.topics import Topic

TIMEOUT_S = 30.0
_APPEARS_S = 60.0
_POLL_S = 0.05
_COMPACTION = {"min.cleanable.dirty.ratio": "0.1", "segment.ms": "3600000"}
"""A compacted topic is cleaned while it is small: the api reads it from its beginning."""


class TopicDrift(PixCrawlerError):
    """The cluster's topics are not what the registry says; one line for each difference."""

    def __init__(self, differences: Sequence[str]) -> None:
        super().__init__("; ".join(differences))
        self.differences = tuple(differences)


@dataclass(frozen=True)
class Applied:
    """What `apply_topics` did: names of topics."""

    created: tuple[str, ...]
    altered: tuple[str, ...]
    unchanged: tuple[str, ...]


@dataclass(frozen=True)
class TopicState:
    """A topic as the cluster has it; `configs` are those that differ from the broker's."""

    name: str
    partitions: int
    replication: int
    configs: Mapping[str, str]


@dataclass(frozen=True)
class Lag:
    """How far a group is behind on one partition; `committed` is None before its first commit."""

    group: str
    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int


class Tailed(NamedTuple):
    """A record, with its event where there is one, else why there is none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    event: Event | None
    problem: str


def configs_of(topic: Topic) -> dict[str, str]:
    """A topic's configuration as Kafka spells it."""
    if topic.compacted:
        return {"cleanup.policy": "compact", **_COMPACTION}
    assert topic.retention_ms is not None
    return {"cleanup.policy": "delete", "retention.ms": str(topic.retention_ms)}


async def apply_topics(
    bootstrap_servers: Servers,
    partitions: int = topics.PARTITIONS,
    replication: int = 1,
    *,
    alter: bool = False,
    wanted: Sequence[Topic] | None = None,
) -> Applied:
    """Create the topics that are missing; look whether the others are as they should be.

    More partitions than wanted are fine: somebody scaled out.

    Args:
        bootstrap_servers: `host:port`, comma-separated, or a cluster.
        partitions: Of the topics that are keyed by job or chunk.
        replication: Replicas of every topic.
        alter: Make different topics as they should be instead of raising.
        wanted: Other topics than the registry's.

    Raises:
        TopicDrift: a topic has fewer partitions or another policy, and `alter` was not given.
        KafkaError: the cluster refused, or cannot be reached.
    """
    registry = {
        topic.name: topic for topic in (topics.registry(partitions) if wanted is None else wanted)
    }
    async with open_admin(bootstrap_servers) as admin:
        there = {state.name: state for state in await _describe(admin, registry)}
        missing = [topic for name, topic in registry.items() if name not in there]
        await _create(admin, missing, replication)
        drifted = [topic for name, topic in registry.items() if _drift(topic, there.get(name))]
        if drifted and not alter:
            raise TopicDrift([line for t in drifted for line in _drift(t, there[t.name])])
        await _alter(admin, [(topic, there[topic.name]) for topic in drifted])
        await _settle(admin, drifted)
    created = tuple(topic.name for topic in missing)
    altered = tuple(topic.name for topic in drifted)
    same = tuple(name for name in registry if name not in {*created, *altered})
    return Applied(created, altered, same)


async def drift(bootstrap_servers: Servers, partitions: int = topics.PARTITIONS) -> tuple[str, ...]:
    """Differences between the registry and the cluster, one line each; changes nothing."""
    registry = topics.registry(partitions)
    async with open_admin(bootstrap_servers) as admin:
        found = await _describe(admin, [topic.name for topic in registry])
    there = {state.name: state for state in found}
    missing = tuple(f"{topic.name} is missing" for topic in registry if topic.name not in there)
    return missing + tuple(
        line for topic in registry for line in _drift(topic, there.get(topic.name))
    )


async def list_topics(bootstrap_servers: Servers) -> tuple[str, ...]:
    """Names of all topics that are not Kafka's own, sorted."""
    async with open_admin(bootstrap_servers) as admin:
        names: list[str] = await admin.list_topics()
    return tuple(sorted(name for name in names if not name.startswith("__")))


async def describe_topics(
    bootstrap_servers: Servers, names: Iterable[str] | None = None
) -> tuple[TopicState, ...]:
    """The state of these topics (those of the registry if not given) that exist."""
    chosen = list(names) if names is not None else [topic.name for topic in topics.registry()]
    async with open_admin(bootstrap_servers) as admin:
        return await _describe(admin, chosen)


async def lag(bootstrap_servers: Servers, groups: Iterable[str] = topics.GROUPS) -> tuple[Lag, ...]:
    """How far the groups are behind, per partition that they read, sorted."""
    reads = {group: topics.read_by(group) for group in sorted(groups)}
    async with open_admin(bootstrap_servers) as admin, open_reader(bootstrap_servers) as reader:
        found = await asyncio.gather(
            *(_lags(admin, reader, group, names) for group, names in reads.items())
        )
    return tuple(lag for lags in found for lag in lags)


async def lag_of_group(
    bootstrap_servers: Servers, group: str, names: Sequence[str]
) -> tuple[Lag, ...]:
    """The same for any group and any topics."""
    async with open_admin(bootstrap_servers) as admin, open_reader(bootstrap_servers) as reader:
        return await _lags(admin, reader, group, names)


async def tail(
    bootstrap_servers: Servers,
    topic: str,
    *,
    start: Literal["beginning", "end"] | int | datetime = "beginning",
    job_id: str | None = None,
    chunk_id: str | None = None,
    follow: bool = False,
) -> AsyncIterator[Tailed]:
    """The records of a topic, decoded, from a point on.

    Args:
        bootstrap_servers: `host:port`, comma-separated, or a cluster.
        topic: Its name; dead letters and topics of others work too.
        start: `beginning`, `end`, an offset (of every partition), or a time.
        job_id: Only records about this job.
        chunk_id: Only records about this chunk.
        follow: Go on for ever; else end where the topic ended when the call was made.

    Yields:
        Records, ascending within each partition.

    Raises:
        KafkaError: there is no such topic, or the cluster cannot be reached.
    """
    async with open_reader(bootstrap_servers) as reader:
        partitions = await _partitions(reader, topic)
        ends = await _end_offsets(reader, partitions)
        begins = await _positions(reader, partitions, start, ends)
        # At once, and to numbers: `seek_to_end` loses against the reset that assigning starts.
        reader.assign(partitions)
        for partition, position in begins.items():
            reader.seek(partition, position)
        while follow or [tp for tp in partitions if await reader.position(tp) < ends[tp]]:
            batches = await reader.getmany(timeout_ms=200)
            records = [record for batch in batches.values() for record in batch]
            for record in sorted(records, key=lambda each: each.timestamp):
                partition = TopicPartition(record.topic, record.partition)
                if not follow and record.offset >= ends[partition]:
                    continue
                tailed = _tailed(record)
                if _about(tailed, job_id, chunk_id):
                    yield tailed


async def start_at(
    reader: AIOKafkaConsumer, partitions: Sequence[TopicPartition], at_ms: int
) -> dict[TopicPartition, int]:
    """Go to the first record since a time (ms since the epoch) of each partition that has any.

    Returns:
        Where each of those ends now; `until` reads to there.
    """
    ends, begins = await asyncio.gather(
        reader.end_offsets(partitions), reader.offsets_for_times(dict.fromkeys(partitions, at_ms))
    )
    starts = {tp: begin.offset for tp, begin in begins.items() if begin is not None}
    reader.assign(list(starts))
    for tp, offset in starts.items():
        reader.seek(tp, offset)
    return {tp: ends[tp] for tp in starts}


async def until(
    reader: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]
) -> AsyncIterator[tuple[TopicPartition, list[ConsumerRecord[bytes, bytes]]]]:
    """Records in batches, until every partition was read to its end."""
    while left := [tp for tp, end in ends.items() if await reader.position(tp) < end]:
        for found in (await reader.getmany(*left, timeout_ms=100)).items():
            yield found


@asynccontextmanager
async def open_admin(bootstrap_servers: Servers) -> AsyncIterator[AIOKafkaAdminClient]:
    """A client for what is asked of brokers and coordinators."""
    admin = AIOKafkaAdminClient(
        **options(bootstrap_servers), request_timeout_ms=round(TIMEOUT_S * 1000)
    )
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


@asynccontextmanager
async def open_reader(bootstrap_servers: Servers) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer without a group."""
    reader = AIOKafkaConsumer(
        **options(bootstrap_servers),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        await reader.start()
        yield reader
    finally:
        await reader.stop()


async def _create(admin: AIOKafkaAdminClient, missing: Sequence[Topic], replication: int) -> None:
    if not missing:
        return
    response = await admin.create_topics(
        [
            NewTopic(topic.name, topic.partitions, replication, topic_configs=configs_of(topic))
            for topic in missing
        ]
    )
    for name, code, *rest in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error(f"cannot create {name}: {rest[0] if rest else ''}")
    await _appear(admin, [topic.name for topic in missing])


async def _appear(admin: AIOKafkaAdminClient, names: Sequence[str]) -> None:
    """Wait until the broker that answers knows of the new topics and their leaders."""
    async with asyncio.timeout(_APPEARS_S):
        while len(await _describe(admin, names, with_leaders=True)) < len(names):  # noqa: ASYNC110 - a broker tells nobody
            await asyncio.sleep(_POLL_S)


async def _settle(admin: AIOKafkaAdminClient, altered: Sequence[Topic]) -> None:
    """Wait until the broker that answers knows of the changes."""
    by_name = {topic.name: topic for topic in altered}
    async with asyncio.timeout(_APPEARS_S):
        while any(_drift(by_name[state.name], state) for state in await _describe(admin, by_name)):  # noqa: ASYNC110 - a broker tells nobody
            await asyncio.sleep(_POLL_S)


async def _describe(
    admin: AIOKafkaAdminClient, names: Iterable[str], *, with_leaders: bool = False
) -> tuple[TopicState, ...]:
    wanted = list(names)
    if not wanted:
        return ()
    # One by one a name that is unknown would be asked for; all of them cost one request as well.
    described: list[dict[str, Any]] = await admin.describe_topics(None)
    there = [
        topic
        for topic in described
        if topic["topic"] in wanted
        and not topic["error_code"]
        and not (with_leaders and any(part["leader"] < 0 for part in topic["partitions"]))
    ]
    configs = await _configs(admin, [topic["topic"] for topic in there])
    return tuple(
        TopicState(
            topic["topic"],
            len(topic["partitions"]),
            len(topic["partitions"][0]["replicas"]),
            configs[topic["topic"]],
        )
        for topic in sorted(there, key=lambda each: str(each["topic"]))
    )


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """What each topic has set for itself."""
    if not names:
        return {}
    responses = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    )
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for response in responses:
        for _code, _message, _kind, name, entries in response.resources:
            for key, value, _read_only, source, *_ in entries:
                if source == _SET_FOR_THE_TOPIC:
                    found[name][key] = value
    return found


_SET_FOR_THE_TOPIC = 1
"""DYNAMIC_TOPIC_CONFIG in Kafka's DescribeConfigs, versions 1 and later."""


def _drift(topic: Topic, state: TopicState | None) -> list[str]:
    """How a topic differs from what it should be."""
    if state is None:
        return []
    lines = []
    if state.partitions < topic.partitions:
        lines.append(f"{topic.name} has {state.partitions} partitions, not {topic.partitions}")
    for key, value in configs_of(topic).items():
        is_now = state.configs.get(key, "the broker's default")
        if is_now != value:
            lines.append(f"{topic.name} has {key} {is_now}, not {value}")
    return lines


async def _alter(admin: AIOKafkaAdminClient, drifted: Sequence[tuple[Topic, TopicState]]) -> None:
    grow = {
        topic.name: NewPartitions(topic.partitions)
        for topic, state in drifted
        if state.partitions < topic.partitions
    }
    if grow:
        await admin.create_partitions(grow)
    if drifted:
        # AlterConfigs replaces a topic's whole configuration, so what others have set is kept.
        responses = await admin.alter_configs(
            [
                ConfigResource(
                    ConfigResourceType.TOPIC, topic.name, {**state.configs, **configs_of(topic)}
                )
                for topic, state in drifted
            ]
        )
        for response in responses:
            for code, message, _kind, name in response.resources:
                if code:
                    raise for_code(code)(f"cannot alter {name}: {message}")


async def _end_offsets(
    reader: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    ends: dict[TopicPartition, int] = await reader.end_offsets(partitions) if partitions else {}
    return ends


async def committed(
    admin: AIOKafkaAdminClient, group: str, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, int]:
    """The offset that is next for a group; missing before its first commit."""
    if not partitions:
        return {}
    place = await coordinator(admin, group)
    found = await admin.list_consumer_group_offsets(
        group, group_coordinator_id=place, partitions=list(partitions)
    )
    return {tp: each.offset for tp, each in found.items() if each.offset >= 0}


async def coordinator(admin: AIOKafkaAdminClient, group: str) -> int:
    """The broker that knows the group; a fresh cluster makes its topic of offsets when asked."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                return int(await admin.find_coordinator(group))
            except KafkaError as error:
                if not error.retriable:
                    raise
            await asyncio.sleep(_POLL_S)


async def _lags(
    admin: AIOKafkaAdminClient, reader: AIOKafkaConsumer, group: str, names: Sequence[str]
) -> tuple[Lag, ...]:
    cluster = await reader._client.fetch_all_metadata()  # noqa: SLF001 - the only way to ask
    partitions = [
        TopicPartition(name, number)
        for name in sorted(names)
        for number in sorted(cluster.partitions_for_topic(name) or ())
    ]
    ends: dict[TopicPartition, int] = await _end_offsets(reader, partitions)
    done = await committed(admin, group, partitions)
    return tuple(_lag(group, tp, done.get(tp), ends[tp]) for tp in partitions)


def _lag(group: str, tp: TopicPartition, committed: int | None, end: int) -> Lag:
    return Lag(group, tp.topic, tp.partition, committed, end, end - (committed or 0))


async def _partitions(reader: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    if topic not in await reader.topics():
        raise PixCrawlerError(f"there is no topic {topic}")
    cluster = await reader._client.fetch_all_metadata()  # noqa: SLF001 - the only way to ask
    return [TopicPartition(topic, number) for number in sorted(cluster.partitions_for_topic(topic))]


async def _positions(
    reader: AIOKafkaConsumer,
    partitions: Sequence[TopicPartition],
    start: Literal["beginning", "end"] | int | datetime,
    ends: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """Where to begin in each partition."""
    if start == "end":
        return dict(ends)
    firsts: dict[TopicPartition, int] = await reader.beginning_offsets(partitions)
    if isinstance(start, datetime):
        ms = int(start.timestamp() * 1000)
        found = await reader.offsets_for_times(dict.fromkeys(partitions, ms))
        return {tp: ends[tp] if at is None else at.offset for tp, at in found.items()}
    if start == "beginning":
        return firsts
    return {tp: min(max(int(start), firsts[tp]), ends[tp]) for tp in partitions}


def _tailed(record: ConsumerRecord[bytes, bytes]) -> Tailed:
    event, problem = None, ""
    try:
        event = events.decode(record.topic, record.key, record.value, record.headers)
    except Poison as poison:
        problem = str(poison)
    return Tailed(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        tuple(record.headers),
        event,
        problem,
    )


def _about(record: Tailed, job_id: str | None, chunk_id: str | None) -> bool:
    """Whether it is about the job and the chunk; where nobody can read it, as its key says."""
    key = (record.key or b"").decode("utf-8", "replace")
    about_job = job_id is None or getattr(record.event, "job_id", key[: len(job_id)]) == job_id
    about_chunk = chunk_id is None or getattr(record.event, "chunk_id", key) == chunk_id
    return about_job and about_chunk
