"""`pixcrawler topics replay … --dry-run`, `dlq replay … --dry-run`: told, not done."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

from pixcrawler.client import output
from pixcrawler.client.connection import blob_store, database_url, kafka
from pixcrawler.client.rehearsal import Rehearsed, rehearse
from pixcrawler.client.topics import parse_start, run
from pixcrawler.common import admin, logs
from pixcrawler.common.admin import Tailed
from pixcrawler.common.db.engine import connect

WORDS = {
    "dead_letter": "to the dead letters again",
    "ignored": "nothing",
    "answered": "says its answer again",
    "taken": "takes it",
    "failed": "the attempt fails",
    "retried": "tries, and again later",
}


def of_topic(
    topic: str, job: str | None, chunk: str | None, start: str, number: int, *, json: bool
) -> int:
    """What would become of records of a topic."""
    servers, begin = kafka(), parse_start(start)

    async def found() -> AsyncIterator[Tailed]:
        shown = 0
        records = admin.tail(servers, topic, start=begin, job_id=job, chunk_id=chunk)
        async with aclosing(records):  # type: ignore[type-var] # it is a generator
            async for record in records:
                yield record
                shown += 1
                if shown == number:
                    output.note(f"the first {number} records: -n shows more")
                    return

    return run(tell(found(), json=json))


async def tell(records: AsyncIterator[Tailed], *, json: bool) -> int:
    """Rehearse each record and say what would happen; nothing does."""
    engine = connect(database_url(), pool_size=2, application="pixcrawler-rehearsal")
    blobs = blob_store()
    counted: Counter[str] = Counter()
    try:
        # The handlers' own lines would tell of what does not happen.
        with logs.silenced(), output.stream(enabled=json) as item:
            async for record in records:
                found = await rehearse(engine, blobs, record)
                counted.update(each.verdict for each in found)
                if json:
                    item(_document(record, found))
                else:
                    _show(record, found)
    finally:
        await engine.dispose()
        await blobs.close()
    if not json:
        told = ", ".join(f"{WORDS[verdict]} ({n})" for verdict, n in counted.most_common())
        output.note(f"nothing was published; it would be: {told}" if told else "no such record")
    return 0


def _document(record: Tailed, found: Sequence[Rehearsed]) -> dict[str, object]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "key": _key(record),
        "stages": [each._asdict() for each in found],
    }


def _show(record: Tailed, found: Sequence[Rehearsed]) -> None:
    place = f"{record.topic}/{record.partition}@{record.offset} {_key(record)}"
    output.result.print(place, markup=False, soft_wrap=True)
    for each in found or ():
        line = f"  {each.stage}: {WORDS[each.verdict]}: {each.detail}"
        output.result.print(line, markup=False, soft_wrap=True)
    if not found:
        output.result.print("  nobody reads this topic", markup=False, soft_wrap=True)


def _key(record: Tailed) -> str:
    return (record.key or b"").decode("utf-8", "replace")
