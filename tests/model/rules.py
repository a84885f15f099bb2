"""The rules that keep the promise, each of which can be switched off to see what breaks.

The numbers are those of docs/architecture.md, "Names, and why duplicates are harmless"; what stands
beside them is what the model does, and without which rule it does not. `Names` are the names
themselves, and the sweep.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar


def rule(number: str, says: str) -> bool:
    """A switch, on by default."""
    kept: bool = field(default=True, metadata={"number": number, "says": says})
    return kept


@dataclass(frozen=True, slots=True)
class ChunkRules:
    """What the chunks of one job keep to."""

    write_once: bool = rule("names", "an object that is there is adopted, never written over")
    candidates_pinned: bool = rule(
        "names", "candidates are resolved once; a search is not asked again"
    )
    no_attempt_in_names: bool = rule(
        "names", "trying again goes on with the objects of the last try"
    )
    sweep_by_state: bool = rule("names", "staging of an ended chunk is removed, again and again")
    look_for_result: bool = rule("1", "a stage does no work for a chunk that has a result")
    look_at_own: bool = rule("1", "a stage whose object is there only says so again")
    look_once_more: bool = rule("1", "who misses an input looks for the result before complaining")
    claims_locked: bool = rule("2", "a job's claims are decided one chunk at a time")
    claims_read_back: bool = rule("2", "a chunk that has decided reads its claims back")
    empty_claims_marked: bool = rule("2", "a chunk that claimed nothing has decided all the same")
    claims_bounded: bool = rule("2", "no more is claimed than was asked for; the rest is surplus")
    claims_released: bool = rule(
        "2", "claims of a failed chunk do not count, and may be taken over"
    )
    claims_before_verdicts: bool = rule("2", "verdicts are written after the claims are")
    result_ends_chunk: bool = rule("3", "giving up creates the result, and what is there decides")
    result_before_row: bool = rule("3", "the row is marked failed after the result is there")
    planner_reads_result: bool = rule("8", "before a chunk is planned again its result is read")
    uploaded_reads_result: bool = rule("8", "chunk.uploaded makes the planner read the result")
    failed_names_attempt: bool = rule("8", "chunk.failed counts for the attempt that it names only")
    takeback_is_no_retry: bool = rule("8", "planning a silent chunk again is no failure of it")
    effect_before_event: bool = rule("9", "an event is published after the object that it tells of")
    commit_after_effect: bool = rule("9", "a record is committed after its effect and its events")


@dataclass(frozen=True, slots=True)
class JobRules:
    """What jobs, their rounds and what is shown of them keep to."""

    stray_archives_swept: bool = rule("names", "archives of failed chunks are removed by state")
    unknown_jobs_swept: bool = rule("names", "everything of a job that nobody knows is removed")
    claims_refused: bool = rule("2", "nothing is claimed for failed chunks and unwanted jobs")
    retried_once: bool = rule("3", "a failed chunk has one retry, however often it is asked for")
    retry_is_new_chunk: bool = rule("3", "a failed chunk is final: its retry is another chunk")
    job_locked: bool = rule("4", "work on a job begins with its lock, and reads after it")
    rounds_counted: bool = rule(
        "4", "a job is open while the api has counted more rounds than closed"
    )
    requests_applied: bool = rule("4", "a round's requests are applied before it is closed")
    closed_once: bool = rule("4", "what a closed round says never changes, cancelled or not")
    empty_rounds_close: bool = rule("4", "a round without chunks is a round")
    timer_looks: bool = rule("4", "open jobs are looked at again, whatever was heard")
    split_once: bool = rule("8", "only a job without chunks is split")
    slices_run_again: bool = rule(
        "4", "slices with an image that no live claim holds are run again"
    )
    repeated_until_shown: bool = rule("4", "facts are repeated until what is shown agrees")
    superseded_told: bool = rule("4", "facts name the failed chunks that were retried")
    index_of_cancelled: bool = rule("5", "a cancelled job's round gets its index too")
    index_first: bool = rule("5", "job.finished is said when the index is there")
    status_from_facts: bool = rule("5", "the uploader says the status that the planner decided")
    finished_says_all: bool = rule("6", "job.finished carries everything that its facts said")
    progress_joins: bool = rule("6", "the tracker joins sets; a repeated event adds nothing")
    revision_ordered: bool = rule("6", "the greater revision is shown, compared place by place")
    tombstone_asked: bool = rule("6", "what is shown of a job is written unless it is deleted")
    asked_before_creating: bool = rule("7", "a stage asks if the job is wanted before each object")
    given_up_when_unwanted: bool = rule("7", "open chunks of an unwanted job are given up")
    erased_again: bool = rule("7", "what a deleted job left is erased again and again")
    deleted_is_silent: bool = rule("7", "a deleted job has no job.finished")
    admission_locked: bool = rule("8", "slots are counted under one lock for the cluster")
    admission_reads_result: bool = rule("8", "before a chunk gets a slot its result is read")
    slot_is_the_row: bool = rule("8", "slots are rows that are processing, not a counter")
    outbox: bool = rule("10", "an event leaves with the transaction that it tells of")
    transactions_end: bool = rule("11", "the server ends the transaction of a paused process")


R = TypeVar("R", bound=ChunkRules | JobRules)


def names_of(rules: type[ChunkRules] | type[JobRules]) -> tuple[str, ...]:
    """Every rule's name."""
    return tuple(one.name for one in fields(rules))


def says(rules: type[ChunkRules] | type[JobRules], name: str) -> str:
    """A rule in words."""
    found = next(one for one in fields(rules) if one.name == name)
    return f"rule {found.metadata['number']}: {found.metadata['says']}"


def without(rules: R, name: str) -> R:
    """The same rules but one."""
    off: Any = {name: False}
    return replace(rules, **off)
