"""A chunk's work, downloader, validator and uploader in one: from its slices to its result."""

from collections.abc import Generator

from tests.model.steps.state import WIDTH, Chunk, JobState, Result, Row
from tests.model.world import Steps


def work(world: JobState, chunk: Chunk, attempt: int) -> Steps:
    """An attempt: looking first, asking before each object, stopping between any two effects."""
    row = world.rows.get(chunk[0], {}).get(chunk[1])
    if row is not None and row.attempt < attempt:
        world.breaks("no event tells of what never was")
    result = world.result(chunk)
    if result is None and not world.unwanted(chunk[0]):
        yield
        kept = yield from _judge(world, chunk, attempt)
        if kept is not None:
            result = yield from _pack(world, chunk, attempt, kept)
    if result is not None and result.completed:
        yield
        world.publish("uploaded", chunk)


def _judge(
    world: JobState, chunk: Chunk, attempt: int
) -> Generator[None, None, tuple[int, ...] | None]:
    """What is kept; None if that is the end of it."""
    if _fails(world, chunk, attempt):
        return None
    world.publish("progress", chunk, 1 + int(world.chance() * 40))
    yield
    kept: tuple[int, ...] | None = world.objects.get(("verdicts", *chunk))
    if kept is None:
        claimed = claim(world, chunk)
        if claimed is None:
            return None
        yield
        if _asked(world, chunk):
            return None
        yield
        kept = world.create("verdicts", *chunk, claimed)
    yield
    return kept


def _pack(
    world: JobState, chunk: Chunk, attempt: int, kept: tuple[int, ...]
) -> Generator[None, None, Result | None]:
    """The archive and the result; None if that is the end of it."""
    if _fails(world, chunk, attempt) or _asked(world, chunk):
        return None
    yield
    if kept:
        world.create("archive", *chunk, kept)
        yield
    if _asked(world, chunk):
        return None
    yield
    result: Result = world.create("result", *chunk, Result(True, len(kept)))
    return result


def _fails(world: JobState, chunk: Chunk, attempt: int) -> bool:
    """Bad luck; sometimes another attempt would not help."""
    if world.flaky and world.chance() < 0.3:
        world.flaky -= 1
        world.publish("failed", chunk, (attempt, world.chance() < 0.75))
        return True
    return False


def _asked(world: JobState, chunk: Chunk) -> bool:
    """Whether the job turns out not to be wanted."""
    return world.rules.asked_before_creating and world.unwanted(chunk[0])


def claim(world: JobState, chunk: Chunk) -> tuple[int, ...] | None:
    """The transaction of a chunk's claims, under the job's lock; None if it may not claim."""
    job = chunk[0]
    row: Row | None = world.rows.get(job, {}).get(chunk[1])
    refused = row is None or row.status == "failed" or world.unwanted(job)
    if refused and (world.rules.claims_refused or (row and row.status == "failed")):
        return None
    claims = world.claims.setdefault(job, {})
    if chunk not in world.decided:
        world.decided.add(chunk)
        live = sum(not world.failed(owner) for owner in claims.values())
        first, last = row.stretch if row else (0, WIDTH)
        for image in world.supply[job][first:last]:
            free = image not in claims or world.failed(claims[image])
            if free and (job not in world.jobs or live < world.jobs[job].wanted_images):
                claims[image] = chunk
                live += 1
    return tuple(sorted(image for image, owner in claims.items() if owner == chunk))
