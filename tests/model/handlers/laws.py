"""The promise over what the real handlers have left: objects, claims and what was said."""

import hashlib
from collections.abc import Iterator
from io import BytesIO
from zipfile import ZipFile

from pixcrawler.common import bitmaps, names
from pixcrawler.common.chunk_outcomes import ChunkObjects, merge, totals
from pixcrawler.common.documents import Candidates, ChunkResult, DatasetIndex, Verdict, Verdicts
from pixcrawler.common.events import JobFacts
from pixcrawler.common.ids import chunk_id
from pixcrawler.common.outcomes import VALID, Outcome
from tests.model.handlers.world import (
    JOB,
    WANTED,
    HandlerWorld,
    small_parts_and_quick_images,
)


def handler_laws(world: HandlerWorld) -> Iterator[str]:
    """The laws that this schedule has broken."""
    job = world.rows.jobs[JOB]
    if world.closing is None:
        yield "a job closes"
        return
    if job.deleted:
        if world.blobs.objects:
            yield "a deleted job leaves no object"
        return
    objects = [_objects(world, chunk) for chunk in world.planned]
    for one in objects:
        yield from _chunk(world, one)
    yield from _numbers(world, objects, world.closing)
    yield from _index(world, objects, world.closing)
    if any(name.startswith("staging/") for name in world.blobs.objects):
        yield "no staging is left"


def _objects(world: HandlerWorld, chunk: str) -> ChunkObjects:
    """What `read_objects` reads."""
    found = world.blobs.objects
    candidates, verdicts = found.get(names.candidates(chunk)), found.get(names.verdicts(chunk))
    result = found.get(names.result(chunk))
    return ChunkObjects(
        chunk,
        Candidates.parse(candidates) if candidates is not None else None,
        Verdicts.parse(verdicts) if verdicts is not None else None,
        ChunkResult.model_validate_json(result) if result is not None else None,
    )


def _chunk(world: HandlerWorld, objects: ChunkObjects) -> Iterator[str]:
    chunk, candidates, verdicts, result, _ = objects
    archive = world.blobs.objects.get(names.archive(chunk, "zip"))
    if result is None or result.status != world.rows.chunks[chunk]:
        yield "row and result agree"
        return
    if result.status == "failed":
        if archive is not None:
            yield "a failed chunk has no archive"
        return
    if candidates is None or verdicts is None:
        yield "every URL has an outcome"
        return
    if [v.url for v in verdicts.items] != [c.url for c in candidates.items]:
        yield "every URL has an outcome"
    kept = [v for v in verdicts.items if v.outcome is Outcome.KEPT]
    if any(v.sha256 and int(v.phash, 16) != world.web.images[v.url] for v in verdicts.items):
        yield "an outcome is that of what its URL shows"
    claimed = {c.sha256.hex() for c in world.rows.claims.values() if c.chunk_id == chunk}
    if claimed != {v.sha256 for v in kept}:
        yield "what is claimed is kept"
    yield from _archive(archive, result, kept)


def _archive(archive: bytes | None, result: ChunkResult, kept: list[Verdict]) -> Iterator[str]:
    if archive is None or result.archive is None:
        if kept or archive is not None or result.archive is not None:
            yield "what is kept is in the archive"
        return
    if hashlib.sha256(archive).hexdigest() != result.archive.sha256:
        yield "an archive is what its result says"
    with ZipFile(BytesIO(archive)) as opened:
        files = [name for name in opened.namelist() if name.startswith("images/")]
        inside = {hashlib.sha256(opened.read(name)).hexdigest() for name in files}
    if inside != {v.sha256 for v in kept} or len(files) != len(kept):
        yield "what is kept is in the archive"


def _numbers(world: HandlerWorld, objects: list[ChunkObjects], facts: JobFacts) -> Iterator[str]:
    rows = merge(objects)
    if len({row.url for row in rows}) != len(rows):
        yield "a URL has one outcome"
    kept = [row for row in rows if row.outcome is Outcome.KEPT]
    if len({row.sha256 for row in kept}) != len(kept):
        yield "no two kept images are the same"
    if len(kept) > WANTED:
        yield "no more is kept than was asked for"
    if len(kept) < WANTED and facts.reason not in {"cancelled", "budget"}:
        hashes = {row.sha256 for row in kept}
        # Slices may be run again; the web's last answer is what is there.
        last = {world.planned[one.chunk_id].made.slices: one for one in objects}
        left = [
            verdict
            for one in last.values()
            if one.verdicts is not None and one.result is not None
            for verdict in one.verdicts.items
            if one.result.status == "completed" and verdict.outcome in VALID
            if verdict.sha256 not in hashes
        ]
        if left or facts.reason != "exhausted":
            yield "as many are kept as were asked for"
    if len(kept) != facts.kept:
        yield "what is said to be kept is kept"


def _index(world: HandlerWorld, objects: list[ChunkObjects], facts: JobFacts) -> Iterator[str]:
    found = world.blobs.objects.get(names.dataset_index(JOB, 1))
    if found is None or world.finished is None:
        yield "a round that is over is said to be finished"
        return
    index = DatasetIndex.model_validate_json(found)
    done = [chunk_id(JOB, i) for i in bitmaps.indices(bitmaps.from_ranges(facts.completed))]
    archives = {names.archive(chunk, "zip") for chunk in done} & set(world.blobs.objects)
    named = {file.object for file in index.files if file.path.startswith("chunk_")}
    missing = [f.object for f in index.files if f.object not in world.blobs.objects]
    if index.facts != facts or named != archives or missing:
        yield "the index is there and agrees"
    if index.images.valid != totals(merge(objects)).valid:
        yield "the index counts what is kept"
    if world.finished.images != index.images or world.finished.kept != facts.kept:
        yield "one job.finished a round says one thing"


def run_handlers(seed: int, off: str = "", *, traced: bool = False) -> HandlerWorld:
    """One schedule, its promise checked, then every record once more, and the same again."""
    with small_parts_and_quick_images():
        return _run(HandlerWorld(seed, off, traced=traced))


def _run(world: HandlerWorld) -> HandlerWorld:
    world.settle()
    for law in handler_laws(world):
        world.breaks(law)
    if not world.broken:
        before = dict(world.blobs.objects)
        world.replay_all()
        world.swept = 0
        world.settle()
        for law in handler_laws(world):
            world.breaks(f"{law} (after every record came again)")
        if world.blobs.objects != before:
            world.breaks("a replay changes nothing")
    return world
