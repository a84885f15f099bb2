"""`pixcrawler dlq …` as a program, against a real broker."""

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from pixcrawler.common import admin, dlq, ids, topics
from pixcrawler.common.context import Context
from pixcrawler.common.errors import Poison
from pixcrawler.common.events import ChunkEvent, Event
from tests.integration.common.bad import Bad, produce
from tests.integration.common.bench import QUICK, Bench, Gate, new_bench, soon

COMMAND = Path(sys.executable).with_name("pixcrawler")
PATIENT = replace(QUICK, poison_run=1000, poison_ratio=1.0)


class Answer(NamedTuple):
    """How the command ended, and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def document(self) -> dict[str, Any]:
        [only] = self.documents
        return only


@pytest_asyncio.fixture
async def bench(fresh_kafka: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    """A bench on a broker of the module's own: the command sees all letters of a stage."""
    made, publisher = await new_bench(fresh_kafka, monkeypatch)
    yield made
    await publisher.stop()


async def command(servers: str, *words: str) -> Answer:
    """Run it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PIXCRAWLER")}
    process = await asyncio.create_subprocess_exec(
        COMMAND, "dlq", *words,
        env={**environment, "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": servers, "COLUMNS": "300"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Answer(process.returncode, out.decode(), err.decode())


async def dead(_event: ChunkEvent, _context: Context) -> Sequence[Event]:
    """A broken version."""
    raise Poison("a broken version")


async def listed(bench: Bench, stage: str) -> dict[str, dict[str, Any]]:
    """What `list` says, by id."""
    answer = await command(bench.bootstrap, "list", stage, "--json")
    assert answer.code == 0, answer.stderr
    return {each["id"]: each for each in answer.document["items"]}


async def test_a_poison_record_is_listed_shown_replayed_and_discarded(bench: Bench) -> None:
    """Nothing was mended, so it lands in the dead letters again, under the same id."""
    key = bench.chunk(3).encode()
    [offset, _] = await produce(
        bench.bootstrap,
        bench.topic,
        [Bad("junk", b"{not json\n\xff", key, (("origin", b"here"),)), Bad("{}", b"{}", None)],
    )
    stage = bench.stage(Gate(), "downloader", limits=PATIENT)
    async with bench.running(stage):
        await bench.until_committed()
        found = await listed(bench, "downloader")
        [junk] = [each for each in found.values() if each["offset"] == offset]
        [other] = [each for each in found.values() if each["offset"] != offset]
        assert junk == {
            "id": junk["id"],
            "state": "open",
            "letters": 1,
            "died_at": junk["died_at"],
            "topic": bench.topic,
            "partition": 0,
            "offset": offset,
            "timestamp": junk["timestamp"],
            "key": bench.chunk(3),
            "job_id": bench.job_id,
            "chunk_id": bench.chunk(3),
            "exception": "ValidationError",
            "reason": junk["reason"],
            "stage": "downloader",
            "group": bench.group,
            "worker": stage.worker,
            "cut": [],
            "value_bytes": 11,
        }

        shown = await command(bench.bootstrap, "show", "downloader", "--id", junk["id"], "--json")
        assert shown.document["headers"] == [["origin", "here"]]
        assert base64.b64decode(shown.document["value_base64"]) == b"{not json\n\xff"
        assert shown.document["value"] is None
        people = await command(bench.bootstrap, "show", "downloader")
        assert "00000000  7b 6e 6f 74 20 6a 73 6f 6e 0a ff" in people.stdout
        assert "{not json.." in people.stdout
        assert "origin: here" in people.stdout
        table = await command(bench.bootstrap, "list", "downloader")
        assert junk["id"] in table.stdout

        for time in (2, 3):
            again = await command(
                bench.bootstrap, "replay", "downloader", "--id", junk["id"], "--json"
            )
            assert again.document["replayed"] == [junk["id"]]
            await _until_letters(bench, junk["id"], time)
        found = await listed(bench, "downloader")
        assert set(found) == {junk["id"], other["id"]}
        assert (found[junk["id"]]["state"], found[junk["id"]]["letters"]) == ("open", 3)
        assert found[junk["id"]]["offset"] > offset

    gone = await command(bench.bootstrap, "discard", "downloader", "--id", junk["id"], "--json")
    assert (gone.code, gone.document["discarded"]) == (0, [junk["id"]])
    states = {named: each["state"] for named, each in (await listed(bench, "downloader")).items()}
    assert states == {junk["id"]: "discarded", other["id"]: "open"}
    rest = await command(bench.bootstrap, "list", "downloader", "--state", "open", "--json")
    assert [each["id"] for each in rest.document["items"]] == [other["id"]]
    everything = await command(bench.bootstrap, "discard", "downloader")
    assert (everything.code, everything.stderr.strip()) == (0, "1 discarded")


async def _until_letters(bench: Bench, letter_id: str, count: int) -> None:
    """Wait until there are so many letters of an id."""
    found = 0
    async with asyncio.timeout(60):
        async for record in admin.tail(bench.bootstrap, "downloader.dlq", follow=True):
            if dlq.marked(record.headers) is None:
                found += dlq.provenance(record.headers).id == letter_id
            if found == count:
                return


async def test_a_good_record_is_done_when_it_is_replayed(bench: Bench) -> None:
    """What a broken version refused, a good one does; once more harms nothing. Published again is
    what was published: key, value, headers."""
    fact = bench.model(chunk_id=bench.chunk(1), attempt=1)
    await bench.publisher.publish([fact])
    async with bench.running(bench.stage(dead, "validator")):
        await bench.until_committed()
    gate = Gate()
    async with bench.running(bench.stage(gate, "validator")):
        answer = await command(bench.bootstrap, "replay", "validator", "--json")
        [letter_id] = answer.document["replayed"]
        await soon(lambda: len(gate.finished) == 1)
        nothing = await command(bench.bootstrap, "replay", "validator", "--json")
        assert nothing.document == {"stage": "validator", "replayed": [], "failed": []}
        twice = await command(bench.bootstrap, "replay", "validator", "--id", letter_id)
        assert twice.code == 0
        await soon(lambda: len(gate.finished) == 2)
        await bench.until_committed()
    states = [each["state"] for each in (await listed(bench, "validator")).values()]
    assert states == ["replayed"]
    first, *rest = await bench.records(bench.topic, 3)
    for each in rest:
        assert (each.key, each.value) == (first.key, first.value)
        assert dlq.original_headers(each.headers) == first.headers
        assert dict(each.headers)[dlq.ID] == letter_id.encode()


async def test_a_letter_that_was_cut_is_replayed_whole(bench: Bench) -> None:
    """From where the original stands; when that is gone, it says so and exits 1."""
    fact = bench.model(chunk_id=bench.chunk(1), attempt=1)
    value = fact.model_dump_json().encode()[:-1] + b', "extra": "' + b"x" * 950_000 + b'"}'
    await produce(bench.bootstrap, bench.topic, [Bad("large", value, fact.key.encode())])
    async with bench.running(bench.stage(dead, "uploader")):
        await bench.until_committed()
    [letter] = (await listed(bench, "uploader")).values()
    assert letter["cut"] == ["value"]
    gate = Gate()
    async with bench.running(bench.stage(gate, "uploader")):
        answer = await command(bench.bootstrap, "replay", "uploader")
        assert (answer.code, answer.stderr.strip()) == (0, "1 replayed")
        await soon(lambda: gate.finished == [bench.chunk(1)])
        await bench.until_committed()
    *_, last = await bench.records(bench.topic, 2)
    assert last.value == value
    async with admin.open_admin(bench.bootstrap) as client:
        await client.delete_topics([bench.topic])
    gone = await command(bench.bootstrap, "replay", "uploader", "--id", letter["id"], "--json")
    assert gone.code == 1
    assert gone.document["failed"][0]["id"] == letter["id"]


async def test_what_it_cannot_do_is_one_line(bench: Bench) -> None:
    """An id that is not there is 1, a stage that is none 2, a broker that is away 1."""
    unknown = await command(bench.bootstrap, "show", "planner", "--id", "0123456789abcdef")
    assert unknown.code == 1
    assert unknown.stderr.strip().endswith(
        "no dead letter 0123456789abcdef of the planner: see `pixcrawler dlq list planner`"
    )
    assert (await command(bench.bootstrap, "list", "painter")).code == 2
    away = await command("127.0.0.1:9", "list", "planner")
    assert (away.code, len(away.stderr.strip().splitlines())) == (1, 1)


async def test_memory_does_not_grow_with_the_letters(bench: Bench) -> None:
    """A hundred large letters are listed in little more memory than it takes to start."""
    before = await _peak_mb(bench)
    chunk = ids.chunk_id(ids.new_job_id(), 0).encode()
    await produce(
        bench.bootstrap,
        topics.dead_letters("planner"),
        [Bad("large", b"x" * 1_000_000, chunk, (("dlq_topic", b"gone"),)) for _ in range(100)],
    )
    assert await _peak_mb(bench) < before + 40


async def _peak_mb(bench: Bench) -> float:
    """The command's, listing the planner's letters."""
    program = """if True:
        import sys
        from pixcrawler.client.__main__ import main
        sys.argv = ["pixcrawler", "dlq", "list", "planner", "--json"]
        try:
            main()
        except SystemExit as ended:
            assert not ended.code
        for line in open("/proc/self/status"):  # ru_maxrss would be the parent's, if it is larger
            if line.startswith("VmHWM"):
                print(int(line.split()[1]) / 1024, file=sys.stderr)
        """
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program,
        env={**os.environ, "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": bench.bootstrap},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, err = await process.communicate()
    assert process.returncode == 0, err
    return float(err.split()[-1])
