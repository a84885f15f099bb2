"""The consumer loop on the real broker: taking, answering, committing."""

import asyncio
from collections.abc import Sequence

import pytest

from pixcrawler.common import topics
from pixcrawler.common.context import Context
from pixcrawler.common.errors import Fatal, GiveUp, Retry, Stopped
from pixcrawler.common.events import (
    ChunkDownloaded,
    ChunkEvent,
    ChunkFailed,
    ChunkProgress,
    ChunkUploaded,
    Event,
    ImageTotals,
)
from pixcrawler.common.publisher import Publisher
from pixcrawler.common.stage import Stage
from tests.integration.common.bench import QUICK, Bench, Gate, soon, soon_there

NO_IMAGES = ImageTotals()


async def test_every_record_is_handled_once_and_committed(bench: Bench) -> None:
    """In quiet times each record is handled once, and everything is committed."""
    await bench.send(*range(20))
    gate = Gate()
    async with bench.running(bench.stage(gate)):
        await bench.until_committed()
    assert sorted(gate.calls) == [bench.chunk(index) for index in range(20)]


async def test_the_answer_is_published_before_the_offset(bench: Bench) -> None:
    """What a handler returns is on its topic, with a child of the record's trace."""

    async def handle(event: ChunkEvent, context: Context) -> Sequence[Event]:
        return [
            ChunkDownloaded(
                chunk_id=event.chunk_id,
                attempt=context.attempt,
                candidates=3,
                downloaded=2,
                bytes=1,
            )
        ]

    await bench.send(1, attempt=4)
    async with bench.running(bench.stage(handle)):
        [answer] = await bench.records(topics.CHUNK_DOWNLOADED, 1)
        await bench.until_committed()
    assert answer.event == ChunkDownloaded(
        chunk_id=bench.chunk(1), attempt=4, candidates=3, downloaded=2, bytes=1
    )


async def test_no_more_in_hand_than_allowed(bench: Bench) -> None:
    """Back-pressure: with room for two, never more than two run, and all get their turn."""
    await bench.send(*range(12))
    gate = Gate()
    async with bench.running(bench.stage(gate, limits=QUICK.with_in_flight(2))):
        await bench.until_committed()
    assert len(gate.finished) == 12
    assert gate.most_at_once <= 2


async def test_a_record_whose_key_is_in_hand_joins(bench: Bench) -> None:
    """The same chunk delivered twice at once is one piece of work; the highest attempt answers."""
    gate = Gate(shut=True)
    stage = bench.stage(gate)
    await bench.send(7, attempt=1)
    async with bench.running(stage):
        await soon(lambda: len(gate.calls) == 1)
        await bench.send(7, attempt=2)
        await bench.send(8)
        await soon(lambda: len(gate.calls) == 2)  # 8, on whatever partition, shows that it polls
        await soon(lambda: _deliveries(stage) == 3)
        gate.open()
        await bench.until_committed()
    assert gate.calls == [bench.chunk(7), bench.chunk(8)]
    assert sorted(gate.attempts) == [1, 2]


class Held(Publisher):
    """A real publisher that waits where the test says so."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(bootstrap, source="/test/held")
        self.waiting = asyncio.Event()
        self.release = asyncio.Event()

    async def publish(self, facts: Sequence[Event], *, traceparent: str = "") -> None:
        self.waiting.set()
        await self.release.wait()
        await super().publish(facts, traceparent=traceparent)


async def test_a_record_that_comes_while_the_answer_is_published_has_its_own(bench: Bench) -> None:
    """It is too late to join: the attempt that it asks for must have an answer."""
    publisher = Held(bench.bootstrap)
    await publisher.start()

    async def handle(event: ChunkEvent, context: Context) -> Sequence[Event]:
        return [ChunkUploaded(chunk_id=event.chunk_id, attempt=context.attempt, images=NO_IMAGES)]

    await bench.send(7, attempt=1)
    stage = bench.stage(handle, publisher=publisher)
    async with bench.running(stage):
        await publisher.waiting.wait()
        await bench.send(7, attempt=2)
        await soon(lambda: any(work.after for work in stage._works.values()))
        publisher.release.set()
        answers = await bench.records(topics.CHUNK_UPLOADED, 2)
        await bench.until_committed()
    await publisher.stop()
    assert [each.event.attempt for each in answers if isinstance(each.event, ChunkUploaded)] == [
        1,
        2,
    ]


async def test_a_record_that_joins_late_raises_the_attempt_of_the_answer(bench: Bench) -> None:
    """Also when the handler has looked at its attempt before."""
    looked, go = asyncio.Event(), asyncio.Event()

    async def handle(event: ChunkEvent, context: Context) -> Sequence[Event]:
        answer = ChunkUploaded(chunk_id=event.chunk_id, attempt=context.attempt, images=NO_IMAGES)
        looked.set()
        await go.wait()
        return [answer]

    await bench.send(7, attempt=1)
    stage = bench.stage(handle)
    async with bench.running(stage):
        await looked.wait()
        await bench.send(7, attempt=3)
        await soon(lambda: _deliveries(stage) == 2)
        go.set()
        [answer] = await bench.records(topics.CHUNK_UPLOADED, 1)
        await bench.until_committed()
    assert isinstance(answer.event, ChunkUploaded)
    assert answer.event.attempt == 3


async def test_a_record_that_comes_after_the_answer_is_worked_on_again(bench: Bench) -> None:
    """Nothing joins work that has its answer already: it is a piece of work of its own."""
    gate = Gate()
    await bench.send(7, attempt=1)
    async with bench.running(bench.stage(gate)):
        await bench.until_committed()
        await bench.send(7, attempt=2)
        await bench.until_committed()
    assert gate.attempts == [1, 2]


async def test_commits_never_pass_an_unfinished_offset(bench: Bench) -> None:
    """While the first record of a partition is in hand, nothing behind it is committed."""
    gate = Gate()
    gate.shut(bench.chunk(1))
    await bench.send(0, 1, 2, 3, partition=0)
    async with bench.running(bench.stage(gate)):
        await soon(lambda: len(gate.finished) == 3)
        await soon_there(lambda: _any_committed(bench))
        assert await bench.committed() == {0: 1}
        gate.open()
        await bench.until_committed()
        assert await bench.committed() == {0: 4}


async def test_a_crash_delivers_again(bench: Bench) -> None:
    """What was in hand when a process died comes to the next one."""
    await bench.send(1)
    held = Gate(shut=True)
    crashing = asyncio.create_task(bench.stage(held).run())
    await soon(lambda: len(held.calls) == 1)
    crashing.cancel()
    await asyncio.wait([crashing])
    assert await bench.committed() == {}
    gate = Gate()
    async with bench.running(bench.stage(gate)):
        await bench.until_committed()
    assert gate.finished == [bench.chunk(1)]


async def test_transient_trouble_is_tried_again(bench: Bench) -> None:
    """`Retry` costs a backoff, and leaves no trace."""
    tries = 0

    async def handle(_event: ChunkEvent, _context: Context) -> Sequence[Event]:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Retry("not yet")
        return ()

    await bench.send(1)
    async with bench.running(bench.stage(handle)):
        await bench.until_committed()
    assert tries == 3


@pytest.mark.parametrize(
    ("error", "word", "retriable", "tries"),
    [
        (GiveUp("nothing", error="no_images", retriable=False), "no_images", False, 1),
        (Retry("busy", error="source"), "source", True, QUICK.retry_tries),
        (ZeroDivisionError("oops"), "internal", True, QUICK.error_tries),
    ],
    ids=["give-up", "retry", "unforeseen"],
)  # fmt: skip
async def test_a_failed_attempt_is_told(
    bench: Bench, error: Exception, word: str, retriable: bool, tries: int
) -> None:
    """Giving up, running out of tries and bugs all become `chunk.failed`, and are committed."""
    calls = 0

    async def handle(_event: ChunkEvent, _context: Context) -> Sequence[Event]:
        nonlocal calls
        calls += 1
        raise error

    await bench.send(1, attempt=2)
    async with bench.running(bench.stage(handle)):
        [failed] = await bench.records(topics.CHUNK_FAILED, 1)
        await bench.until_committed()
    assert isinstance(failed.event, ChunkFailed)
    said = failed.event
    assert (said.chunk_id, said.attempt, said.stage) == (bench.chunk(1), 2, "downloader")
    assert (said.error, said.retriable) == (word, retriable)
    assert str(error) in said.message
    assert calls == tries


async def test_stopped_is_acknowledged_silently(bench: Bench) -> None:
    """A job that nobody wants leaves nothing but a committed offset."""

    async def handle(_event: ChunkEvent, _context: Context) -> Sequence[Event]:
        raise Stopped("deleted")

    await bench.send(1)
    async with bench.running(bench.stage(handle)):
        await bench.until_committed()


async def test_the_planner_never_gives_up(bench: Bench) -> None:
    """A stage that may not write `chunk.failed` tries until it works."""
    calls = 0

    async def handle(_event: ChunkEvent, _context: Context) -> Sequence[Event]:
        nonlocal calls
        calls += 1
        if calls <= 3 * QUICK.retry_tries:
            raise Retry("busy") if calls % 2 else GiveUp("no", error="no", retriable=False)
        return ()

    await bench.send(1)
    async with bench.running(bench.stage(handle, name="planner")):
        await bench.until_committed()
    assert calls == 3 * QUICK.retry_tries + 1


async def test_progress_is_reported_at_most_once_a_second(bench: Bench) -> None:
    """Of many reports in a moment one is published."""
    now = 1000.0

    async def handle(_event: ChunkEvent, context: Context) -> Sequence[Event]:
        nonlocal now
        for done in range(100):
            context.report(done, 200, ImageTotals(candidates=200))
        now += 2
        context.report(150, 200, ImageTotals(candidates=200))
        return ()

    await bench.send(1)
    async with bench.running(bench.stage(handle, clock=lambda: now, drain_s=0)):
        reports = await bench.records(topics.CHUNK_PROGRESS, 2)
    said = [each.event for each in reports]
    assert all(isinstance(event, ChunkProgress) for event in said)
    assert sorted(event.done for event in said if isinstance(event, ChunkProgress)) == [0, 150]


async def test_stop_drains(bench: Bench) -> None:
    """What is in hand when the stage is told to stop is finished and committed."""
    gate = Gate(shut=True)
    stage = bench.stage(gate)
    await bench.send(1)
    async with bench.running(stage):
        await soon(lambda: len(gate.calls) == 1)
        await stage.stop()
        gate.open()
    assert gate.finished == [bench.chunk(1)]
    assert await bench.lag() == 0


async def test_what_does_not_end_in_time_is_not_committed(bench: Bench) -> None:
    """Past the drain budget work is cancelled, and delivered again to someone else."""
    gate = Gate(shut=True)
    await bench.send(1)
    stage = bench.stage(gate, drain_s=0.2)
    async with bench.running(stage):
        await soon(lambda: len(gate.calls) == 1)
    assert gate.cancelled == [bench.chunk(1)]
    assert await bench.lag() == 1


async def test_stop_before_start_and_twice(bench: Bench) -> None:
    """`stop` may come at any time and any number of times."""
    stage = bench.stage(Gate())
    await stage.stop()
    await stage.stop()
    async with asyncio.timeout(5):
        await stage.run()


async def test_not_ready_before_it_has_joined(bench: Bench) -> None:
    """Readiness tells whether the stage consumes."""
    gate = Gate()
    stage = bench.stage(gate)
    with pytest.raises(Fatal):
        await stage.check()
    await bench.send(1)
    async with bench.running(stage):
        await bench.until_committed()
        await stage.check()
        assert stage.alive()


async def test_two_runners_in_one_process(bench: Bench) -> None:
    """Stages of different groups in one process each see every record, undisturbed."""
    await bench.send(*range(10))
    one, two = Gate(), Gate()
    async with bench.running(bench.stage(one), bench.stage(two, group=f"{bench.group}-b")):
        await bench.until_committed()
        await soon(lambda: len(two.finished) == 10)
    assert sorted(one.finished) == sorted(two.finished) == [bench.chunk(i) for i in range(10)]


async def test_a_broken_producer_ends_the_process(bench: Bench) -> None:
    """A fatal error of the producer ends the loop, and nothing is committed."""

    async def handle(_event: ChunkEvent, _context: Context) -> Sequence[Event]:
        raise Fatal("the producer is broken")

    await bench.send(1)
    stage = bench.stage(handle)
    with pytest.raises(Fatal):
        async with asyncio.timeout(30):
            await stage.run()
    assert await bench.committed() == {}


def _deliveries(stage: Stage) -> int:
    return sum(len(work.deliveries) for work in stage._works.values())


async def _any_committed(bench: Bench) -> bool:
    return bool(await bench.committed())
