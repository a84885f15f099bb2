"""The real handlers of downloader, validator and uploader, stopped between any two effects."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from pixcrawler.common import names
from pixcrawler.common.documents import Candidate, Candidates, CandidatesHead, ChunkResult
from pixcrawler.common.errors import Stopped
from pixcrawler.common.ids import chunk_id
from tests.model.handlers.blobs import MemoryBlobs
from tests.model.handlers.world import JOB, OFF, HandlerWorld
from tests.model.running import HANDLERS, broken, story

SCHEDULES = int(os.environ.get("PIXCRAWLER_TEST_HANDLER_SCHEDULES", "300"))

BREAKS = {
    "write_once": "what is decided never changes",
    "job_locked": "no two kept images are the same",
    "claims_released": "as many are kept as were asked for",
    "result_ends_chunk": "row and result agree",
}
"""For each rule a law that does not hold without it."""


@pytest.mark.parametrize("part", range(4))
def test_the_promise_is_kept(part: int) -> None:
    """Whatever dies, sleeps, comes again or late, the real handlers keep every law."""
    seeds = range(part * SCHEDULES // 4, (part + 1) * SCHEDULES // 4)
    for world in broken(HANDLERS, seeds):
        pytest.fail(story(HANDLERS, world.seed))


@pytest.mark.parametrize("rule", OFF)
def test_every_rule_is_needed(rule: str) -> None:
    """Without the rule around them the real handlers break the law that stands beside it."""
    for world in broken(HANDLERS, range(300), off=rule):
        if BREAKS[rule] in world.broken:
            return
    pytest.fail(f"{BREAKS[rule]!r} holds without {rule}")


def test_the_same_seed_is_the_same_schedule() -> None:
    """A schedule can be told again, effect by effect."""
    told = story(HANDLERS, 3)
    assert told == story(HANDLERS, 3)
    assert "create jobs/J/chunks/" in told


class Vanishing(MemoryBlobs):
    """A store in which the chunk ends, and its staging goes, just when a part is to be read."""

    async def stream(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        chunk = chunk_id(JOB, 0)
        ended = ChunkResult(chunk_id=chunk, status="completed")
        self.objects[names.result(chunk)] = ended.model_dump_json().encode()
        await self.delete_prefix(names.staging_prefix(chunk))
        async for piece in super().stream(name, offset=offset, length=length):
            yield piece


async def test_a_part_that_goes_while_it_is_read() -> None:
    """The downloader looks for the result once more before it minds that a part is missing."""
    world = HandlerWorld(0)
    chunk = chunk_id(JOB, 0)
    store = Vanishing()
    world.blobs = store
    head = CandidatesHead(chunk_id=chunk, count=1)
    candidate = Candidate(position=0, url="https://web.test/0/0", source="web")
    store.objects[names.candidates(chunk)] = Candidates(head=head, items=(candidate,)).dump()
    store.objects[names.part(chunk, 0)] = b"whatever"
    record = world.history[0]
    with pytest.raises(Stopped):
        await asyncio.wait_for(world.handle(record, record.detail), 10)
