"""The laws of jobs, rounds, slots and what is shown, under tens of thousands of schedules."""

import os

import pytest

from tests.model.rules import JobRules, says
from tests.model.running import JOBS, broken, story

SCHEDULES = int(os.environ.get("PIXCRAWLER_TEST_MODEL_SCHEDULES", "25000"))

BREAKS = {
    "stray_archives_swept": "a failed chunk has no archive",
    "unknown_jobs_swept": "a deleted job leaves no object",
    "claims_refused": "a deleted job leaves no row",
    "retried_once": "a chunk is retried once",
    "retry_is_new_chunk": "what was asked for is done",
    "job_locked": "no stretch is planned twice",
    "rounds_counted": "a job closes",
    "requests_applied": "the index is there and agrees",
    "closed_once": "a round that is over is said to be finished",
    "empty_rounds_close": "a job closes",
    "timer_looks": "a job closes",
    "split_once": "no stretch is planned twice",
    "slices_run_again": "as many are kept as were asked for",
    "repeated_until_shown": "what is shown is the truth",
    "superseded_told": "what is shown is the truth",
    "index_of_cancelled": "the index is there and agrees",
    "index_first": "finished means that the dataset is there",
    "status_from_facts": "one job.finished a round says one thing",
    "finished_says_all": "what is shown is the truth",
    "progress_joins": "what is shown is the truth",
    "revision_ordered": "what is shown is the truth",
    "tombstone_asked": "a deleted job is not shown (after every record came again)",
    "asked_before_creating": "whoever works on a cancelled job makes one more object at most",
    "given_up_when_unwanted": "a job closes",
    "erased_again": "a deleted job leaves no object",
    "deleted_is_silent": "nothing is said of a deleted job",
    "admission_locked": "no more chunks are in work than there are slots",
    "admission_reads_result": "a chunk that has ended gets no slot",
    "slot_is_the_row": "no more chunks are in work than there are slots",
    "outbox": "no record is lost",
    "transactions_end": "a job closes",
}
"""For each rule a law that does not hold without it."""


@pytest.mark.parametrize("part", range(6))
def test_the_promise_is_kept(part: int) -> None:
    """Whatever crashes, sleeps, comes again, late or never, every law of two jobs holds."""
    seeds = range(part * SCHEDULES // 6, (part + 1) * SCHEDULES // 6)
    for world in broken(JOBS, seeds):
        pytest.fail(story(JOBS, world.seed))


def test_every_rule_is_tried() -> None:
    """No rule of the model is without its proof."""
    assert list(BREAKS) == list(JOBS.rules)


@pytest.mark.parametrize("rule", BREAKS)
def test_every_rule_is_needed(rule: str) -> None:
    """Without the rule some schedule breaks the law that stands beside it."""
    for world in broken(JOBS, range(20_000), off=rule):
        if BREAKS[rule] in world.broken:
            return
    pytest.fail(f"{BREAKS[rule]!r} holds without {rule} ({says(JobRules, rule)})")
