"""What a chunk went through: the `attempts` that people see, as far as events tell of it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from pixcrawler.common.context import RecordRef
from pixcrawler.common.events import Value

KEPT = 40
"""Steps remembered of one chunk; the oldest are forgotten first."""

MESSAGE = 300
"""Characters remembered of what a step said when it failed."""

Outcome = Literal["running", "done", "failed", "lost"]


class Step(Value):
    """One stage's work in one attempt.

    Attributes:
        attempt: Which admission it belongs to.
        stage: Whose work it is.
        worker: Which replica told of it last, empty while none has.
        topic: Where its input stands; partition and offset are None until a record told it.
        partition: Likewise.
        offset: Likewise.
        state: `lost` when it was silent for too long and planned again.
        error: The short word with which it failed.
        message: What it said then, for people.
        started_at: When its input was there.
        ended_at: When it was done, failed or lost.
    """

    attempt: int
    stage: str
    worker: str = ""
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    state: Outcome = "running"
    error: str = ""
    message: str = ""
    started_at: datetime
    ended_at: datetime | None = None


Steps = tuple[Step, ...]


def begun(
    steps: Steps,
    attempt: int,
    stage: str,
    at: datetime,
    *,
    topic: str = "",
    record: RecordRef | None = None,
) -> Steps:
    """A stage has its input: the step is added, or told where its input stands."""
    where: dict[str, object] = (
        {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        if record
        else {"topic": topic}
    )
    if _index(steps, attempt, stage) is None:
        return (*steps, Step(attempt=attempt, stage=stage, started_at=at).model_copy(update=where))[
            -KEPT:
        ]
    return _change(steps, attempt, stage, where)


def ended(
    steps: Steps,
    attempt: int,
    stage: str,
    at: datetime,
    *,
    state: Outcome,
    error: str = "",
    message: str = "",
    worker: str = "",
) -> Steps:
    """A stage is done with an attempt; a step that has ended stays as it is."""
    steps = steps if _index(steps, attempt, stage) is not None else begun(steps, attempt, stage, at)
    if steps[_index(steps, attempt, stage) or 0].ended_at is not None:
        return steps
    change = _end(at, state, error, message) | {"worker": worker}
    return _change(steps, attempt, stage, change)


def closed(
    steps: Steps, at: datetime, *, state: Outcome, error: str = "", message: str = ""
) -> Steps:
    """Everything that is still running ends so."""
    change = _end(at, state, error, message)
    return tuple(
        step.model_copy(update=change) if step.ended_at is None else step for step in steps
    )


def parse(rows: Sequence[object]) -> Steps:
    """From the column's JSON."""
    return tuple(map(Step.model_validate, rows))


def dump(steps: Steps) -> list[dict[str, object]]:
    """As the column's JSON."""
    return [step.model_dump(mode="json") for step in steps]


def _end(at: datetime, state: Outcome, error: str, message: str) -> dict[str, object]:
    return {"state": state, "error": error, "message": message[:MESSAGE], "ended_at": at}


def _index(steps: Steps, attempt: int, stage: str) -> int | None:
    found = (i for i, s in enumerate(steps) if (s.attempt, s.stage) == (attempt, stage))
    return next(found, None)


def _change(steps: Steps, attempt: int, stage: str, change: dict[str, object]) -> Steps:
    return tuple(
        step.model_copy(update=change) if (step.attempt, step.stage) == (attempt, stage) else step
        for step in steps
    )
