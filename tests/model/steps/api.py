"""What people do: each wish is one transaction, its event leaves through the outbox."""

from tests.model.steps.state import JobState


def wish(world: JobState, what: str, number: int) -> None:
    """Someone wants something of a job; what is not possible is refused."""
    job = world.jobs.get(number)
    if job is None:
        return
    world.tell("API", what, number)
    if what == "delete":
        if not job.deleted:
            job.deleted = True
            world.leave("cancelled", number, True)
    elif not job.wanted:
        return
    elif what == "cancel":
        job.cancelled = True
        job.round = max(job.round, 1)
        world.hands_at_cancel[number] = sum(
            1
            for work in (*world.running, *world.asleep)
            if work.record
            and work.record.kind == "planned"
            and _job_of(work.record.subject) == number
        )
        world.leave("cancelled", number, False)
    elif what == "start":
        if job.round == 0:
            job.round = 1
            world.leave("created", number, 1)
    elif job.round:
        more(world, what, number)


def more(world: JobState, what: str, number: int) -> None:
    """A further round: more images, or a failed chunk once more."""
    job = world.jobs[number]
    if what == "extend":
        job.wanted_images += 1 + int(world.chance() * 2)
        job.requests.append(("extend", None))
        job.round += 1
        world.leave("created", number, job.round)
        return
    gone = [(number, i) for i, row in world.rows[number].items() if row.status == "failed"]
    if gone:
        chunk = world.pick(gone)
        for _ in range(1 + (world.chance() < 0.5)):
            job.requests.append(("retry", chunk))
            job.round += 1
            world.leave("created", number, job.round)


def _job_of(subject: object) -> int:
    assert isinstance(subject, tuple)
    found: int = subject[0]
    return found
