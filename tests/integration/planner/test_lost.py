"""What completed chunks have lost, counted over a large job."""

import tracemalloc

from pixcrawler.common import ids
from pixcrawler.common.outcomes import Outcome
from pixcrawler.planner import endings
from tests.integration.planner.desk import Desk, verdict

SURPLUS = 400
"""Images of a chunk that its job did not want."""


async def counted(desk: Desk, job: str, chunks: list[str]) -> tuple[dict[str, int], int]:
    """What they have lost, and the most memory that it took to count it, in bytes."""
    tracemalloc.start()
    try:
        lost = await endings.count_lost(desk.engine, desk.blobs, job, chunks)
        return lost, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_memory_does_not_grow_with_the_job(desk: Desk) -> None:
    """Sixteen chunks of surplus take as much memory as four; what a claim holds is not lost."""
    job = await desk.started(16 * SURPLUS, chunk_size=SURPLUS)
    chunks = [ids.chunk_id(job, index) for index in range(16)]
    for chunk in chunks:
        surplus = [
            verdict(place, f"{chunk}/{place}", Outcome.SURPLUS) for place in range(1, SURPLUS)
        ]
        await desk.write_verdicts(chunk, [verdict(0, chunk, Outcome.KEPT), *surplus])
    await desk.claim(chunks[0], [f"{chunks[1]}/7"], 1)
    await counted(desk, job, chunks[:1])  # what is made once
    _, small = await counted(desk, job, chunks[:4])
    lost, large = await counted(desk, job, chunks)
    assert lost == {chunk: SURPLUS - 1 - (chunk == chunks[1]) for chunk in chunks}
    assert large < 1.5 * small
