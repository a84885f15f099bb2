"""`pixcrawler dlq …`: look at dead letters, replay them, discard them."""

import asyncio
import base64
import json as jsonlib
import logging
import re
from collections.abc import AsyncIterator, Collection, Coroutine, Iterator
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar

from aiokafka.errors import KafkaError

from pixcrawler.client import output
from pixcrawler.client.connection import kafka
from pixcrawler.client.errors import DONE, FAILED, CommandError
from pixcrawler.common import letters
from pixcrawler.common.admin import Tailed
from pixcrawler.common.dlq import State
from pixcrawler.common.letters import Letter, NotReplayed

Stage = Literal["planner", "downloader", "validator", "uploader", "tracker", "api"]

T = TypeVar("T")

_REASON_AT_MOST = 80
_KEY_AT_MOST = 60
_DUMP_AT_MOST = 4096
"""Bytes of a value that people see as a hexdump; `--json` has all of it."""
_DUMP_WIDTH = 16
_ID_OF_A_JOB = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(-\d{5,})?")


def list_letters(stage: Stage, state: State | None, *, json: bool) -> int:
    """One line for each letter."""
    servers = kafka()

    async def show() -> None:
        rows = []
        with output.stream(enabled=json) as one:
            async for letter in letters.read(servers, stage, state=state):
                if json:
                    one(_summary(letter))
                else:
                    rows.append(_row(letter))
        if not json:
            _table(stage, rows)

    _run(show())
    return DONE


def show_letters(stage: Stage, ids: Collection[str], state: State | None, *, json: bool) -> int:
    """Whole letters, one after the other."""
    servers = kafka()

    async def show() -> set[str]:
        shown = set()
        async for letter in letters.read(servers, stage, ids=ids, state=state):
            shown.add(letter.id)
            if json:
                output.document({**_summary(letter), **_content(letter)})
            else:
                _show(letter)
        return shown

    shown = _run(show())
    _ensure_known(stage, set(ids) - shown)
    if not shown:
        output.note(f"no such dead letter of the {stage}")
    return DONE


def replay(stage: Stage, ids: Collection[str], *, json: bool) -> int:
    """Publish the records again: these, or all that are open."""
    servers = kafka()
    failed: list[dict[str, str]] = []

    async def publish() -> list[str]:
        replayed = []
        async with letters.open_desk(servers, stage) as desk:
            async for letter in letters.read(servers, stage, ids=ids, state=_chosen(ids)):
                try:
                    await desk.replay(letter)
                except (NotReplayed, KafkaError) as error:
                    why = str(error) or type(error).__name__
                    failed.append({"id": letter.id, "reason": why})
                else:
                    replayed.append(letter.id)
        return replayed

    replayed = _run(publish())
    _ensure_known(stage, set(ids) - {*replayed, *(each["id"] for each in failed)})
    if json:
        output.document({"stage": stage, "replayed": replayed, "failed": failed})
    else:
        output.note(f"{len(replayed)} replayed")
    for each in failed:
        output.note(f"{each['id']} was not replayed: {each['reason']}")
    return FAILED if failed else DONE


def rehearse(stage: Stage, ids: Collection[str], *, json: bool) -> int:
    """What would become of the records, were they published again: these, or all that are open."""
    from pixcrawler.client import rehearsing

    servers = kafka()
    seen: set[str] = set()

    async def records() -> AsyncIterator[Tailed]:
        async for letter in letters.read(servers, stage, ids=ids, state=_chosen(ids)):
            seen.add(letter.id)
            try:
                key, value, headers = await letters.whole(servers, letter)
            except NotReplayed as error:
                output.note(f"{letter.id} would not be replayed: {error}")
                continue
            said = letter.provenance
            place = (said.topic, said.partition, said.offset, said.timestamp_ms)
            yield Tailed(*place, key, value, headers, None, "")

    code = _run(rehearsing.tell(records(), json=json))
    _ensure_known(stage, set(ids) - seen)
    return code


def discard(stage: Stage, ids: Collection[str], *, json: bool) -> int:
    """Mark letters as not worth another look: these, or all that are open."""
    servers = kafka()

    async def mark() -> list[str]:
        discarded = []
        async with letters.open_desk(servers, stage) as desk:
            async for letter in letters.read(servers, stage, ids=ids, state=_chosen(ids)):
                await desk.discard(letter)
                discarded.append(letter.id)
        return discarded

    discarded = _run(mark())
    _ensure_known(stage, set(ids) - set(discarded))
    if json:
        output.document({"stage": stage, "discarded": discarded})
    else:
        output.note(f"{len(discarded)} discarded")
    return DONE


def hexdump(value: bytes) -> Iterator[str]:
    """Offset, bytes, and what of them is printable ASCII; the beginning of a long value."""
    for start in range(0, min(len(value), _DUMP_AT_MOST), _DUMP_WIDTH):
        line = value[start : start + _DUMP_WIDTH]
        shown = "".join(chr(each) if 32 <= each < 127 else "." for each in line)  # noqa: PLR2004 - ASCII
        yield f"{start:08x}  {line.hex(' '):<{3 * _DUMP_WIDTH - 1}}  {shown}"
    if len(value) > _DUMP_AT_MOST:
        yield f"… {len(value)} bytes in all"


def about(letter: Letter) -> tuple[str, str]:
    """Ids of the job and the chunk that a letter is about, as its key or its value says."""
    named = _text(letter.key)
    if not _ID_OF_A_JOB.fullmatch(named):
        said = _parsed(letter.value)
        said = said if isinstance(said, dict) else {}
        named = str(said.get("chunk_id") or said.get("job_id") or "")
    match = _ID_OF_A_JOB.fullmatch(named)
    if match is None:
        return "", ""
    return (named.rpartition("-")[0], named) if match[2] else (named, "")


def _chosen(ids: Collection[str]) -> State | None:
    """Who names a letter means it, whatever became of it; else all that are open are meant."""
    return None if ids else "open"


def _ensure_known(stage: str, unknown: Collection[str]) -> None:
    if unknown:
        named = ", ".join(sorted(unknown))
        raise CommandError(
            f"no dead letter {named} of the {stage}: see `pixcrawler dlq list {stage}`"
        )


def _summary(letter: Letter) -> dict[str, Any]:
    said = letter.provenance
    job, chunk = about(letter)
    return {
        "id": letter.id,
        "state": letter.state,
        "letters": letter.letters,
        "died_at": said.time,
        "topic": said.topic,
        "partition": said.partition,
        "offset": said.offset,
        "timestamp": _moment(said.timestamp_ms),
        "key": None if letter.key is None else _text(letter.key),
        "job_id": job,
        "chunk_id": chunk,
        "exception": said.exception,
        "reason": said.message,
        "stage": said.stage,
        "group": said.group,
        "worker": said.worker,
        "cut": said.cut.split(",") if said.cut else [],
        "value_bytes": None if letter.value is None else len(letter.value),
    }


def _content(letter: Letter) -> dict[str, Any]:
    encoded = None if letter.value is None else base64.b64encode(letter.value).decode()
    return {
        "headers": [[name, _text(value)] for name, value in letter.headers],
        "value": _parsed(letter.value),
        "value_base64": encoded,
    }


def _row(letter: Letter) -> tuple[object, ...]:
    said = letter.provenance
    return (
        letter.id,
        letter.state,
        said.time,
        f"{said.topic}/{said.partition}@{said.offset}",
        _text(letter.key)[:_KEY_AT_MOST],
        letter.letters,
        said.exception,
        said.message[:_REASON_AT_MOST],
    )


def _table(stage: str, rows: list[tuple[object, ...]]) -> None:
    if not rows:
        output.note(f"no dead letters of the {stage}")
        return
    columns = ("id", "state", "when", "where", "key", "times", "exception", "reason")
    output.table(columns, rows)


def _show(letter: Letter) -> None:
    output.fields({key: value for key, value in _summary(letter).items() if value != ""})
    for name, value in letter.headers:
        output.result.print(f"  {name}: {_text(value)}", markup=False, soft_wrap=True)
    parsed = _parsed(letter.value)
    if letter.value is None:
        lines = ["no value"]
    elif parsed is not None:
        lines = jsonlib.dumps(parsed, indent=2, ensure_ascii=False).splitlines()
    else:
        lines = list(hexdump(letter.value))
    for line in [*lines, ""]:
        output.result.print(line, markup=False, soft_wrap=True)


def _parsed(value: bytes | None) -> Any:
    """What the value says in JSON; None if it is none."""
    if value is None:
        return None
    try:
        return jsonlib.loads(value)
    except (ValueError, RecursionError):
        return None


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace")


def _moment(ms: int) -> datetime | None:
    return None if ms < 0 else datetime.fromtimestamp(ms / 1000, UTC)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run it; what cannot be reached is one line."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it says it in many
    try:
        return asyncio.run(work)
    except KafkaError as error:
        raise CommandError(f"Kafka: {str(error) or type(error).__name__}") from error
