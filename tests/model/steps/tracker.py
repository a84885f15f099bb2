"""The tracker: a table with a changelog, batches of what is shown, and its own kinds of trouble."""

from typing import Any

from tests.model.steps.state import Facts, JobState, Known, Shown
from tests.model.world import Record


def handle(world: JobState, record: Record) -> None:
    """Join a record into its job's state, to be shown with the next batch."""
    job = merge(world, world.table, record)
    world.changelog[job] = world.table[job].copy()
    world.uncommitted.append(record)
    world.unshown.add(job)


def merge(world: JobState, table: dict[int, Known], record: Record) -> int:
    """Join a record into a table; its job."""
    subject = record.subject
    job: int = subject if isinstance(subject, int) else subject[0]  # type: ignore[index]
    known = table.setdefault(job, Known())
    match record.kind:
        case "facts":
            _learn(world, known, record.detail)
        case "finished":
            if known.finished is None or record.detail.closed > known.finished.closed:
                known.finished = record.detail
            if world.rules.finished_says_all:
                _learn(world, known, record.detail)
        case "uploaded":
            known.uploaded |= {subject[1]}  # type: ignore[index]
            known.counted += 1
        case "progress":
            index = subject[1]  # type: ignore[index]
            known.progress[index] = max(known.progress.get(index, 0), record.detail)
        case "cancelled":
            known.deleted |= record.detail
    return job


def _learn(world: JobState, known: Known, facts: Facts) -> None:
    if known.facts is None or _order(facts) > _order(known.facts):
        known.facts = facts
    if world.rules.superseded_told:
        known.superseded |= facts.superseded


def _order(facts: Facts) -> tuple[int, int, int, int]:
    ended = len(facts.completed) + len(facts.failed) + len(facts.superseded)
    return (facts.round, facts.closed, facts.total, ended)


def show(world: JobState, table: dict[int, Known], job: int) -> None:
    """Write a job's row, unless it is gone or a greater revision is there."""
    known = table[job]
    if known.deleted or (world.rules.tombstone_asked and world.erased(job)):
        world.shown.pop(job, None)
        return
    now = _view(world, known)
    before = world.shown.get(job)
    if before is None or now.revision >= before.revision:
        world.shown[job] = now


def _view(world: JobState, known: Known) -> Shown:
    facts, finished = known.facts, known.finished
    total = facts.total if facts else 0
    completed = (facts.completed if facts else frozenset()) | known.uploaded
    failed = facts.failed if facts else frozenset()
    numbers = (
        finished.closed if finished else 0,
        facts.round if facts else 0,
        facts.closed if facts else 0,
        total,
        len(completed) + len(failed) + len(known.superseded) + sum(known.progress.values()),
    )
    final = finished if finished and numbers[0] >= numbers[1] else None
    revision: Any = numbers if world.rules.revision_ordered else sum(numbers)
    done = len(completed) if world.rules.progress_joins else known.counted
    counts = (total - len(known.superseded), done, len(failed - known.superseded))
    return Shown(revision, final, counts)


def flush(world: JobState) -> None:
    """Write the batch."""
    for job in world.unshown:
        show(world, world.table, job)
    world.unshown.clear()


def trouble(world: JobState) -> None:
    """A worker dies, or one that was paused goes on with the table that it had."""
    luck = world.chance()
    if luck < 0.17:
        world.older = {job: known.copy() for job, known in world.table.items()}
        world.tell("TRACKER paused; it keeps its table")
    elif luck < 0.6:
        if world.older is not None and world.history:
            _zombie(world, world.older)
    elif luck < 0.8:
        world.tell("TRACKER dies; another recovers from the changelog")
        world.table = {job: known.copy() for job, known in world.changelog.items()}
        world.bag += world.uncommitted
        world.uncommitted.clear()
        world.unshown.clear()
    elif luck < 0.9:
        world.uncommitted.clear()
    else:
        flush(world)


def _zombie(world: JobState, older: dict[int, Known]) -> None:
    """A worker that was paused overwrites the changelog with what it knows, and shows it."""
    for record in (world.pick(world.history) for _ in range(4)):
        if record.reader != "tracker":
            continue
        job = merge(world, older, record)
        world.changelog[job] = older[job].copy()
        show(world, older, job)
        world.tell("TRACKER's zombie overwrites the changelog of", job, "after", record.kind)
