"""Reading a topic of dead letters, and what people do with them: replay and discard.

A topic of dead letters holds letters and marks (`dlq.py`). The last mark of an id counts, for the
letters up to the one that it names: a letter that comes after it (the record was replayed, and died
again) is open once more. The topic is read twice: first for the state of each id, a few words each,
then for the letters themselves, one at a time; so memory does not grow with their values.

The topic has one partition, so its offsets are the order of what was said.
"""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from pixcrawler.common import admin, dlq, topics
from pixcrawler.common.admin import Tailed
from pixcrawler.common.context import RecordRef
from pixcrawler.common.dlq import Mark, Provenance, State
from pixcrawler.common.errors import PixCrawlerError
from pixcrawler.common.events import Headers, Record
from pixcrawler.common.kafka import Servers, options

LARGEST_RECORD = 64 * 1024 * 1024
"""Bytes of a record that is replayed; whether it is too large is for the broker to say."""
_FETCH_S = 30.0
_NOWHERE = Provenance(
    topic="",
    partition=-1,
    offset=-1,
    timestamp_ms=-1,
    group="",
    stage="",
    worker="",
    exception="",
    message="nobody knows where it comes from",
    time=datetime.fromtimestamp(0, UTC),
)


class NotReplayed(PixCrawlerError):
    """The letter cannot be replayed; the message says why."""


@dataclass(frozen=True)
class Standing:
    """What is known of an id.

    Attributes:
        letters: How many letters of it there are.
        place: The offset of the last of them.
        mark: The last mark.
        marked_at: Its offset.
    """

    letters: int = 0
    place: int = -1
    mark: Mark | None = None
    marked_at: int = -1

    @property
    def state(self) -> State:
        """What became of the last letter."""
        return "open" if self.mark is None or self.mark.upto < self.place else self.mark.state

    def after(self, offset: int, mark: Mark | None) -> "Standing":
        """With one record more: a mark, or (None) a letter."""
        if mark is None:
            return replace(self, letters=self.letters + 1, place=max(offset, self.place))
        if offset < self.marked_at:
            return self
        return replace(self, mark=mark, marked_at=offset)


@dataclass(frozen=True)
class Letter:
    """The last letter of an id.

    Attributes:
        id: 16 hex digits.
        state: What became of it.
        letters: How many of it there are: the record was delivered or replayed again.
        offset: Where it stands in the topic of dead letters.
        key: The record's key, None if it had none.
        value: The record's value, None if it had none.
        headers: The record's headers.
        provenance: Where it comes from, and why it died.
    """

    id: str
    state: State
    letters: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    provenance: Provenance


async def standings(bootstrap_servers: Servers, stage: str) -> Mapping[str, Standing]:
    """The state of every id.

    Raises:
        KafkaError: the cluster cannot be reached.
        PixCrawlerError: there is no such topic.
    """
    found: dict[str, Standing] = {}
    async for record in admin.tail(bootstrap_servers, topics.dead_letters(stage)):
        mark = dlq.marked(record.headers)
        known = mark.id if mark else _provenance(record).id
        found[known] = found.get(known, Standing()).after(record.offset, mark)
    return found


async def read(
    bootstrap_servers: Servers,
    stage: str,
    *,
    ids: Collection[str] = (),
    state: State | None = None,
) -> AsyncIterator[Letter]:
    """The last letter of each id, in the order of their writing.

    Args:
        bootstrap_servers: `host:port`, comma-separated, or a cluster.
        stage: Whose dead letters.
        ids: Only these; all if none are given.
        state: Only letters in this state.

    Raises:
        KafkaError: the cluster cannot be reached.
        PixCrawlerError: there is no such topic.
    """
    known = await standings(bootstrap_servers, stage)
    wanted = {
        standing.place: standing
        for named, standing in known.items()
        if standing.letters
        and (not ids or named in ids)
        and (state is None or standing.state == state)
    }
    if not wanted:
        return
    topic, start = topics.dead_letters(stage), min(wanted)
    async for record in admin.tail(bootstrap_servers, topic, start=start):
        standing = wanted.pop(record.offset, None)
        if standing is not None:
            yield _letter(record, standing)
        if not wanted:
            return


async def count_since(bootstrap_servers: Servers, since: datetime) -> dict[str, int]:
    """How many letters were written since then, by stage; a record that died again counts again.

    Raises:
        KafkaError: the cluster cannot be reached.
    """
    found = dict.fromkeys(topics.CONSUMERS, 0)
    places = {TopicPartition(topics.dead_letters(stage), 0): stage for stage in found}
    ms = int(since.timestamp() * 1000)
    async with admin.open_reader(bootstrap_servers) as reader:
        ends = await admin.start_at(reader, list(places), ms)
        async for tp, batch in admin.until(reader, ends):
            found[places[tp]] += sum(dlq.marked(tuple(r.headers)) is None for r in batch)
    return {stage: number for stage, number in found.items() if number}


class Desk:
    """Where letters are replayed and discarded; `open_desk` makes one.

    Args:
        bootstrap_servers: `host:port`, comma-separated, or a cluster.
        stage: Whose letters.
        producer: Started.
        there: The topics of the cluster.
    """

    def __init__(
        self,
        bootstrap_servers: Servers,
        stage: str,
        producer: AIOKafkaProducer,
        there: Collection[str],
    ) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._stage = stage
        self._producer = producer
        self._there = there

    async def replay(self, letter: Letter) -> None:
        """Publish the record again to the topic that it comes from, then mark the letter.

        It is what it was, key, value and headers; one header more names the letter, so that the
        record keeps the id if it dies again. If this is interrupted in between, replaying again
        harms nothing: to the stage it is a second delivery.

        Raises:
            NotReplayed: what was cut of the letter is not where it stood any more, or there is no
                such topic.
            KafkaError: the cluster cannot be reached, or refuses the record.
        """
        said = letter.provenance
        if said.topic not in self._there:
            raise NotReplayed(f"there is no topic {said.topic!r}: {said.message}")
        key, value, headers = await whole(self._bootstrap_servers, letter)
        if key is None and value is None:
            raise NotReplayed("the record has neither key nor value")
        await self._send(Record(said.topic, key, value, (*headers, (dlq.ID, letter.id.encode()))))
        await self._mark(letter, "replayed")

    async def discard(self, letter: Letter) -> None:
        """Mark the letter: nobody needs to look at it any more.

        Raises:
            KafkaError: the cluster cannot be reached.
        """
        await self._mark(letter, "discarded")

    async def _mark(self, letter: Letter, state: State) -> None:
        mark = Mark(letter.id, state, letter.offset)
        await self._send(dlq.mark(mark, stage=self._stage, key=letter.key))

    async def _send(self, record: Record) -> None:
        await self._producer.send_and_wait(
            record.topic, record.value, key=record.key, headers=list(record.headers)
        )


@asynccontextmanager
async def open_desk(bootstrap_servers: Servers, stage: str) -> AsyncIterator[Desk]:
    """A desk for a stage's letters.

    Raises:
        KafkaError: the cluster cannot be reached.
    """
    producer = AIOKafkaProducer(
        **options(bootstrap_servers),
        enable_idempotence=True,
        acks="all",
        max_request_size=LARGEST_RECORD,
    )
    try:
        await producer.start()
        there = await admin.list_topics(bootstrap_servers)
        yield Desk(bootstrap_servers, stage, producer, there)
    finally:
        await producer.stop()


async def whole(
    bootstrap_servers: Servers, letter: Letter
) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of a letter's record, with what did not fit into the letter.

    Raises:
        NotReplayed: what was cut is not where it stood any more.
        KafkaError: the cluster cannot be reached.
    """
    if letter.provenance.cut:
        return await _original(bootstrap_servers, letter.provenance)
    return letter.key, letter.value, letter.headers


def _letter(record: Tailed, standing: Standing) -> Letter:
    said = _provenance(record)
    return Letter(
        id=said.id,
        state=standing.state,
        letters=standing.letters,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=dlq.original_headers(record.headers),
        provenance=said,
    )


def _provenance(record: Tailed) -> Provenance:
    """What the letter says of itself; of what is no letter, only an id."""
    try:
        return dlq.provenance(record.headers)
    except ValueError:
        place = RecordRef(record.topic, record.partition, record.offset, record.timestamp_ms)
        return _NOWHERE._replace(id=dlq.letter_id(place, None, None, ()))


async def _original(
    bootstrap_servers: Servers, said: Provenance
) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of the record, from where it stands."""
    partition = TopicPartition(said.topic, said.partition)
    reader = AIOKafkaConsumer(
        **options(bootstrap_servers),
        auto_offset_reset="none",
        enable_auto_commit=False,
    )
    try:
        await reader.start()
        [first] = (await reader.beginning_offsets([partition])).values()
        [end] = (await reader.end_offsets([partition])).values()
        reader.assign([partition])
        reader.seek(partition, said.offset)
        if first <= said.offset < end:
            found = await reader.getmany(
                partition, timeout_ms=round(_FETCH_S * 1000), max_records=1
            )
            for record in found.get(partition, ()):
                if record.offset == said.offset:
                    headers = dlq.original_headers(record.headers)
                    return record.key, record.value, headers
    except UnicodeDecodeError as error:
        raise NotReplayed("this client cannot read the original: publish it by hand") from error
    finally:
        await reader.stop()
    raise NotReplayed(
        f"the letter lacks its {said.cut}, and the original at "
        f"{said.topic}/{said.partition}@{said.offset} is gone"
    )
