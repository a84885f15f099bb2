"""The uploader at a closing `job.planned`: the round's index, then `job.finished`."""

from tests.model.steps.state import Facts, Index, JobState
from tests.model.world import Steps


def finish(world: JobState, job: int, facts: Facts) -> Steps:
    """Write the index of a closed round, unless it is there, and say so."""
    if facts.closed == 0 or facts.closed != facts.round or _gone(world, job):
        return
    if world.jobs[job].round != facts.closed:
        return
    if not world.rules.index_first:
        _say(world, job, facts)
    index: Index | None = world.objects.get(("index", job, facts.closed))
    if index is None:
        yield
        archives = tuple(i for i in sorted(facts.completed) if ("archive", job, i) in world.objects)
        yield
        if _gone(world, job):
            return
        yield
        index = world.create("index", job, facts.closed, Index(facts, archives))
    yield
    if world.rules.index_first and not _gone(world, job):
        assert index is not None
        _say(world, job, index.facts)


def _gone(world: JobState, job: int) -> bool:
    """Whether nobody may hear of the job any more."""
    state = world.jobs.get(job)
    if state is None or (state.deleted and world.rules.deleted_is_silent):
        return True
    return state.cancelled and not world.rules.index_of_cancelled


def _say(world: JobState, job: int, facts: Facts) -> None:
    if not world.rules.status_from_facts:
        state = world.jobs[job]
        kept = sum(row.kept for row in world.rows[job].values() if row.status == "completed")
        status = "completed" if kept >= state.wanted_images else "incomplete" if kept else "failed"
        facts = facts._replace(status=status if state.wanted else "cancelled", kept=kept)
    if world.jobs[job].deleted:
        world.breaks("nothing is said of a deleted job")
    if ("index", job, facts.closed) not in world.objects:
        world.breaks("finished means that the dataset is there")
    if world.finished.setdefault((job, facts.closed), facts) != facts:
        world.breaks("one job.finished a round says one thing")
    world.tell("FINISHED", job, facts)
    world.last_finished[job] = facts
    world.publish("finished", job, facts)
