"""The promise, as laws over a world that has come to rest.

Whatever was killed, paused, repeated or reordered: every candidate URL ends with one outcome; a job
keeps exactly the number asked for where that many exist; no two kept images of a job are the same;
what is decided never changes. And what follows from it for rows, slots, events, what is shown, and
what a cancelled or deleted job leaves.
"""

from collections.abc import Iterator
from typing import Any

from tests.model.rules import ChunkRules, JobRules
from tests.model.steps.chunks import CANDIDATES, WANTED, ChunkWorld
from tests.model.steps.jobs import JobWorld
from tests.model.world import Name


def chunk_laws(world: ChunkWorld) -> Iterator[str]:
    """The laws that this schedule of one job's chunks has broken."""
    rows, objects = world.rows, world.objects
    if world.closed is None or any(row.open for row in rows.values()):
        yield "every chunk ends, and the job closes"
        return
    archives = {name: kept for name, kept in objects.items() if name[0] == "archive"}
    kept = [image for images in archives.values() for image in images]
    if len(kept) != len(set(kept)):
        yield "no two kept images are the same"
    if len(kept) > WANTED:
        yield "no more is kept than was asked for"
    if len(kept) < WANTED:
        yield "as many are kept as were asked for"
    if world.closed != len(kept):
        yield "what is said to be kept is kept"
    for chunk, row in rows.items():
        yield from _chunk(world, chunk, completed=row.completed)
    if any(len(outcomes) > 1 for outcomes in world.told.values()):
        yield "a URL has one outcome"
    if any(name[0] == "part" for name in objects):
        yield "no staging is left"


def _chunk(world: ChunkWorld, chunk: int, *, completed: bool) -> Iterator[str]:
    result = world.result(chunk)
    if result is None or result.completed != completed:
        yield "row and result agree"
        return
    archives = [images for name, images in world.objects.items() if name[:2] == ("archive", chunk)]
    if not completed:
        if archives:
            yield "a failed chunk has no archive"
        return
    verdicts = [v for name, v in world.objects.items() if name[:2] == ("verdicts", chunk)]
    if len(verdicts) != 1:
        yield "a URL has one outcome"
        return
    urls = {url for url, _, _ in verdicts[0].outcomes}
    if len(urls) != CANDIDATES or len(verdicts[0].outcomes) != CANDIDATES:
        yield "every URL has an outcome"
    if any(image not in {None, world.truth(url)} for url, image, _ in verdicts[0].outcomes):
        yield "an outcome is that of what its URL shows"
    if archives != [verdicts[0].kept] and (archives or verdicts[0].kept):
        yield "what is kept is in the archive"
    claimed = {image for image, owner in world.claims.items() if owner == chunk}
    if claimed != set(verdicts[0].kept):
        yield "what is claimed is kept"


def run_chunks(seed: int, rules: ChunkRules, *, traced: bool = False) -> ChunkWorld:
    """One schedule, its promise checked, then every record once more, and the same again."""
    world = ChunkWorld(seed, rules, traced=traced)
    world.settle()
    for law in chunk_laws(world):
        world.breaks(law)
    if not world.broken:
        before: dict[Name, Any] = dict(world.objects)
        closed = world.closed
        world.over = True
        world.replay_all()
        world.settle()
        for law in chunk_laws(world):
            world.breaks(f"{law} (after every record came again)")
        if world.objects != before or world.closed != closed:
            world.breaks("a replay changes nothing")
    return world


def job_laws(world: JobWorld) -> Iterator[str]:
    """The laws that this schedule of two jobs has broken."""
    for job in world.supply:
        state = world.jobs.get(job)
        if state is None or state.deleted:
            yield from _deleted(world, job)
        elif state.round:
            yield from _job(world, job)


def _deleted(world: JobWorld, job: int) -> Iterator[str]:
    if any(name[1] == job for name in world.objects):
        yield "a deleted job leaves no object"
    rows = world.rows[job] or world.claims.get(job)
    if rows or any(chunk[0] == job for chunk in world.decided):
        yield "a deleted job leaves no row"
    if job in world.shown:
        yield "a deleted job is not shown"


def _job(world: JobWorld, job: int) -> Iterator[str]:
    state, rows, book = world.jobs[job], world.rows[job], world.books.get(job)
    if book is None or book.closed != state.round or book.facts is None:
        yield "a job closes"
        return
    if any(row.open for row in rows.values()):
        yield "every chunk ends, and no slot is leaked"
        return
    if book.facts.status != "cancelled":
        yield from _requests(world, job)
    done = {index for index, row in rows.items() if row.status == "completed"}
    if any((index in done) != _completed(world, (job, index)) for index in rows):
        yield "row and result agree"
    archives = {name[2]: v for name, v in world.objects.items() if name[:2] == ("archive", job)}
    if not set(archives) <= done:
        yield "a failed chunk has no archive"
    kept = [image for index in done for image in archives.get(index, ())]
    yield from _numbers(world, job, kept)
    yield from _plan(world, job)
    yield from _told(world, job, tuple(sorted(i for i in done if i in archives)))


def _completed(world: JobWorld, chunk: tuple[int, int]) -> bool:
    result = world.result(chunk)
    return result is not None and result.completed


def _requests(world: JobWorld, job: int) -> Iterator[str]:
    retried = [row.retry_of for row in world.rows[job].values() if row.retry_of]
    asked = {chunk for what, chunk in world.jobs[job].requests if what == "retry"}
    if world.jobs[job].wanted and not asked <= set(retried):
        yield "what was asked for is done"


def _numbers(world: JobWorld, job: int, kept: list[int]) -> Iterator[str]:
    state, facts = world.jobs[job], world.books[job].facts
    assert facts is not None
    if len(kept) != len(set(kept)):
        yield "no two kept images are the same"
    if len(kept) > state.wanted_images:
        yield "no more is kept than was asked for"
    true = "completed" if len(kept) >= facts.wanted else "incomplete" if kept else "failed"
    if facts.kept != len(kept) or facts.status not in {true, "cancelled"}:
        yield "what is said to be kept is kept"
    if facts.status == "cancelled" or job in world.cut_short or len(kept) >= state.wanted_images:
        return
    rows, supply = world.rows[job], world.supply[job]
    cursor = max((row.stretch[1] for row in rows.values()), default=0)
    there = set(supply[cursor:])
    for row in rows.values():
        if row.status == "completed":
            there |= set(supply[slice(*row.stretch)])
    if len(there) > len(kept):
        yield "as many are kept as were asked for"


def _plan(world: JobWorld, job: int) -> Iterator[str]:
    rows = world.rows[job].values()
    retried = [row.retry_of for row in rows if row.retry_of]
    if len(retried) != len(set(retried)):
        yield "a chunk is retried once"
    planned = [at for row in rows if row.origin in {"first", "more"} for at in range(*row.stretch)]
    if len(planned) != len(set(planned)):
        yield "no stretch is planned twice"


def _told(world: JobWorld, job: int, archives: tuple[int, ...]) -> Iterator[str]:
    state, rows, facts = world.jobs[job], world.rows[job], world.books[job].facts
    assert facts is not None
    index = world.objects.get(("index", job, state.round))
    if index is None or index.archives != archives or index.facts != facts:
        yield "the index is there and agrees"
    if world.finished.get((job, state.round)) != facts:
        yield "a round that is over is said to be finished"
    superseded = {row.retry_of[1] for row in rows.values() if row.retry_of}
    failed = {index for index, row in rows.items() if row.status == "failed"}
    done = sum(row.status == "completed" for row in rows.values())
    counts = (len(rows) - len(superseded), done, len(failed - superseded))
    shown = world.shown.get(job)
    if shown is None or shown.final != facts or shown.counts != counts:
        yield "what is shown is the truth"
    late = world.created_since.get(job, 0)
    if late > world.hands_at_cancel.get(job, 0):
        yield "whoever works on a cancelled job makes one more object at most"


def run_jobs(seed: int, rules: JobRules, *, traced: bool = False) -> JobWorld:
    """One schedule, its promise checked, then every record once more, and the same again."""
    world = JobWorld(seed, rules, traced=traced)
    world.settle()
    for law in job_laws(world):
        world.breaks(law)
    if not world.broken:
        before: dict[Name, Any] = dict(world.objects)
        _replay(world)
        for law in job_laws(world):
            world.breaks(f"{law} (after every record came again)")
        if world.objects != before:
            world.breaks("a replay changes nothing")
    return world


def _replay(world: JobWorld) -> None:
    """Every record again; sometimes long after, when some are gone, and the tracker's table too."""
    if world.chance() < 0.5:
        world.tell("---- the tracker's table is gone, and short-lived records with it")
        world.table, world.changelog, world.older = {}, {}, None
        gone = {"cancelled", "created", "planned", "progress"}
        world.history = [record for record in world.history if record.kind not in gone]
    world.over = True
    world.lost += 1
    world.replay_all()
    world.chaos = 6
    world.settle()
