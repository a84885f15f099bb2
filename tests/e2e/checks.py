"""What must be true of a job that is over, whatever has happened on the way."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pixcrawler.common.events import decode
from pixcrawler.miniweb import compare
from pixcrawler.miniweb.truth import Truth
from tests.e2e.system import STAGES, Json, System
from tests.e2e.waiting import DEADLINE_S, until


def as_the_truth_says(
    system: System,
    job_id: str,
    truth: Mapping[str, Truth],
    folder: Path,
    *,
    requested: int | None = None,
) -> None:
    """The dataset, as users fetch it, is what the truth says."""
    system.fetch(job_id, folder)
    assert compare.compare_dataset(truth, folder, requested=requested) == []


def adds_up(system: System, job_id: str) -> None:
    """Progress, chunks and outcomes tell the same numbers; the job is finished once a round."""
    progress, job = system.progress(job_id), system.job(job_id)
    chunks = [chunk for chunk in system.chunks(job_id) if not chunk["superseded"]]
    outcomes = Counter(str(row["outcome"]) for row in system.outcomes(job_id))
    images = progress["images"]

    statuses = Counter(str(chunk["status"]) for chunk in chunks)
    shown = {
        "completed": progress["completed_chunks"],
        "failed": progress["failed_chunks"],
        "pending": progress["pending_chunks"],
        "processing": progress["active_chunks"],
    }
    assert {k: v for k, v in shown.items() if v} == dict(statuses)
    assert progress["total_chunks"] == len(chunks) == job["total_chunks"]
    assert (job["completed_chunks"], job["failed_chunks"]) == (
        statuses["completed"],
        statuses["failed"],
    )
    counted = system.api.get(f"/v1/jobs/{job_id}/chunks/progress")
    assert counted["is_complete"]
    assert counted["completed_chunks"] == statuses["completed"]

    kept = outcomes.pop("kept", 0)
    assert images["valid"] == kept
    assert images["dropped"] == dict(outcomes)
    assert images["candidates"] == kept + outcomes.total()
    assert kept == sum(c["images"]["valid"] for c in chunks if c["status"] == "completed")
    assert progress["status"] == job["status"]
    finished_once_a_round(system, job_id, job["round"])


def finished_once_a_round(system: System, job_id: str, last: int) -> None:
    """`job.finished` has one id for a round, and all records of an id say the same.

    (What a newer version adds to a record, this one does not read.)
    """
    said: dict[str, set[str]] = {}
    for record in system.read(["job.finished"], job_id):
        event = decode(record.topic, record.key, record.value, record.headers)
        said.setdefault(record.event_id, set()).add(event.model_dump_json())
    assert f"{job_id}:{last}" in said
    assert set(said) <= {f"{job_id}:{number}" for number in range(1, last + 1)}
    assert {event_id: len(values) for event_id, values in said.items()} == dict.fromkeys(said, 1)


def nothing_left(system: System, job_id: str, *, deadline_s: float = DEADLINE_S) -> None:
    """No staging, no slot, no lag, no event that waits, no dead letter."""
    no_staging(system, job_id, deadline_s=deadline_s)
    soon = partial(until, deadline_s=deadline_s)
    soon("no slot is in use", lambda: system.api.get("/v1/capacity")["active_chunks"] == 0)
    soon(
        "the outbox is empty",
        lambda: not system.rows("SELECT 1 FROM outbox WHERE NOT sent LIMIT 1"),
    )
    soon(
        "nobody is behind",
        lambda: not +system.lag(),
        about=lambda: {k: v for k, v in system.lag().items() if v},
    )
    assert system.read([f"{stage}.dlq" for stage in STAGES]) == []


def no_staging(system: System, job_id: str, *, deadline_s: float = DEADLINE_S) -> None:
    """No part of any chunk."""
    staging = f"staging/{job_id}/"
    until(
        "staging is empty",
        lambda: not system.names(staging),
        deadline_s=deadline_s,
        about=lambda: system.names(staging),
    )


def all_well(
    system: System,
    job_id: str,
    truth: Mapping[str, Truth],
    folder: Path,
    *,
    requested: int | None = None,
) -> Json:
    """Everything of the above; the progress."""
    as_the_truth_says(system, job_id, truth, folder, requested=requested)
    nothing_left(system, job_id)
    adds_up(system, job_id)
    return system.progress(job_id)
