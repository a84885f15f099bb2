"""`pixcrawler topics …`: Kafka itself, without the API."""

import asyncio
import json as jsonlib
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from aiokafka.errors import KafkaError

from pixcrawler.client import moments, output
from pixcrawler.client.connection import kafka
from pixcrawler.client.errors import USAGE, CommandError
from pixcrawler.common import admin, pace, topics
from pixcrawler.common.admin import Tailed
from pixcrawler.common.kafka import Servers
from pixcrawler.common.pace import Pace, StagePace

T = TypeVar("T")
Start = Literal["beginning", "end"] | int | datetime


def list_topics(*, json: bool) -> int:
    """The registry's topics as the cluster has them."""
    found = ask(admin.describe_topics)
    there = {state.name: state for state in found}
    rows = [
        {
            "name": topic.name,
            "key": topic.key,
            "partitions": there[topic.name].partitions if topic.name in there else 0,
            "cleanup": "compact" if topic.compacted else "delete",
            "writers": list(topic.writers),
            "readers": list(topic.readers),
            "description": topic.description,
        }
        for topic in topics.registry()
    ]
    if json:
        output.document({"items": rows})
    else:
        missing = [row["name"] for row in rows if not row["partitions"]]
        if missing:
            output.note(f"{len(missing)} topics are missing: pixcrawler topics apply")
        output.table(
            ("topic", "key", "partitions", "cleanup", "what"),
            [
                [row[k] for k in ("name", "key", "partitions", "cleanup", "description")]
                for row in rows
            ],
        )
    return 0


def describe(name: str, *, json: bool) -> int:
    """One topic."""
    found = ask(lambda servers: admin.describe_topics(servers, [name]))
    if not found:
        raise CommandError(f"there is no topic {name}: see `pixcrawler topics list`")
    state = found[0]
    known = next((topic for topic in topics.registry() if topic.name == name), None)
    answer = {
        "name": state.name,
        "partitions": state.partitions,
        "replication": state.replication,
        "configs": dict(state.configs),
        "writers": list(known.writers) if known else [],
        "readers": list(known.readers) if known else [],
        "description": known.description if known else "",
    }
    if json:
        output.document(answer)
    else:
        output.fields(answer)
    return 0


def apply(partitions: int, replication: int, *, json: bool) -> int:
    """Create what is missing."""
    applied = ask(lambda servers: admin.apply_topics(servers, partitions, replication))
    answer = {"created": list(applied.created), "unchanged": list(applied.unchanged)}
    if json:
        output.document(answer)
    else:
        output.note(f"{len(applied.created)} created, {len(applied.unchanged)} as they should be")
    return 0


def lag(*, json: bool) -> int:
    """How far behind each group is, topic by topic."""
    found = ask(admin.lag)
    behind: dict[tuple[str, str], int] = {}
    for each in found:
        behind[each.group, each.topic] = behind.get((each.group, each.topic), 0) + each.lag
    rows = [{"group": g, "topic": t, "lag": lag} for (g, t), lag in sorted(behind.items())]
    if json:
        output.document({"items": rows})
    else:
        output.table(("group", "topic", "records behind"), [list(row.values()) for row in rows])
    return 0


def tail(
    topic: str,
    job: str | None,
    chunk: str | None,
    start: str,
    number: int | None,
    *,
    follow: bool,
    json: bool,
) -> int:
    """The records of a topic."""
    begin = parse_start(start)
    servers = kafka()

    async def show() -> None:
        shown = 0
        records = admin.tail(servers, topic, start=begin, job_id=job, chunk_id=chunk, follow=follow)
        async for record in records:
            _show_record(record, json=json)
            shown += 1
            if shown == number:
                return
        if not shown:
            output.note("no such record")

    run(show())
    return 0


def parse_start(text: str) -> Start:
    """`beginning`, `end`, an offset, or a time (ISO 8601; UTC where it names no zone)."""
    if text == "beginning":
        return "beginning"
    if text == "end":
        return "end"
    if text.isdecimal():
        return int(text)
    when = moments.iso(text)
    if when is None:
        message = (
            f"--from takes beginning, end, an offset or a time such as 2026-01-31T12:00, not {text}"
        )
        raise CommandError(message, USAGE)
    return when


def stages(window: str, *, json: bool) -> int:
    """Which stage is behind, by how much, and when it will have caught up."""
    window_s = moments.span(window, option="--window").total_seconds()
    found = ask(lambda servers: pace.paces(servers, window_s=window_s))
    if json:
        output.document({"window_s": window_s, "items": [_stage(each) for each in found]})
        return 0
    output.table(
        ("stage", "records", "oldest", "come/s", "go/s", "replicas", "caught up"),
        [
            (
                each.group,
                each.total.lag,
                output.seconds(each.total.oldest_s),
                _rate(each.total.come),
                _rate(each.total.go),
                sum(bool(replica.partitions) for replica in each.replicas),
                _verdict(each),
            )
            for each in found
        ],
    )
    for each in found:
        for topic, part in each.topics.items():
            if part.lag and each.total.state != "keeping_up":
                old = output.seconds(part.oldest_s)
                output.note(
                    f"{each.group}: {part.lag} of {topic}, the oldest for {old or 'a while'}"
                )
    return 0


def _verdict(stage: StagePace) -> str:
    """When it will have caught up, or why not."""
    at = stage.total
    if at.lag and not any(replica.partitions for replica in stage.replicas):
        return "no: no replica works"
    words = {
        None: "unknown: the history of commits cannot be read",
        "up_to_date": "yes",
        "catching_up": f"in {output.seconds(at.until_s)}",
        "keeping_up": "it keeps up",
        "standing_still": f"no: nothing was done for {output.seconds(at.window_s)}",
        "falling_behind": f"no: {_rate(at.come)}/s come, {_rate(at.go)}/s go",
    }
    return words[at.state]


def _rate(records: float | None) -> str:
    return "" if records is None else f"{records:.3g}"


def _stage(stage: StagePace) -> dict[str, object]:
    return {
        "stage": stage.group,
        **_numbers(stage.total),
        "replicas": [
            {"name": each.name, "host": each.host, "partitions": each.partitions}
            for each in stage.replicas
        ],
        "topics": [{"topic": name, **_numbers(part)} for name, part in stage.topics.items()],
    }


def _numbers(at: Pace) -> dict[str, object]:
    def short(value: float | None) -> float | None:
        return None if value is None else round(value, 3)

    return {
        "lag": at.lag,
        "oldest_s": short(at.oldest_s),
        "come_per_s": short(at.come),
        "go_per_s": short(at.go),
        "state": at.state,
        "caught_up_in_s": short(at.until_s),
    }


def _show_record(record: Tailed, *, json: bool) -> None:
    value = _value(record)
    key = (record.key or b"").decode("utf-8", "replace")
    when = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
    if json:
        output.document(
            {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "timestamp": when,
                "key": key,
                "headers": {name: raw.decode("utf-8", "replace") for name, raw in record.headers},
                "value": value,
                "problem": record.problem,
            }
        )
        return
    text = value if isinstance(value, str) else jsonlib.dumps(value, ensure_ascii=False)
    problem = f"  ({record.problem})" if record.problem else ""
    place = f"{when:%H:%M:%S} {record.partition}@{record.offset}"
    output.result.print(f"{place} {key} {text}{problem}", markup=False, soft_wrap=True)


def _value(record: Tailed) -> Any:
    if record.event is not None:
        return record.event.model_dump(mode="json")
    if record.value is None:
        return None
    try:
        return jsonlib.loads(record.value)
    except ValueError:
        return record.value.decode("utf-8", "replace")


def ask(question: Callable[[Servers], Coroutine[Any, Any, T]]) -> T:
    """Kafka's answer; what cannot be reached is one line."""
    return run(question(kafka()))


def run(work: Coroutine[Any, Any, T]) -> T:
    """The same for what knows the cluster already."""
    try:
        return asyncio.run(work)
    except (KafkaError, OSError) as error:
        raise CommandError(f"Kafka: {str(error) or type(error).__name__}") from error
