"""The laws of a job's chunks, under tens of thousands of random schedules."""

import os

import pytest

from tests.model.rules import ChunkRules, says
from tests.model.running import CHUNKS, broken, story

SCHEDULES = int(os.environ.get("PIXCRAWLER_TEST_MODEL_SCHEDULES", "25000"))

BREAKS = {
    "write_once": "what is decided never changes",
    "candidates_pinned": "an outcome is that of what its URL shows",
    "no_attempt_in_names": "no two kept images are the same",
    "sweep_by_state": "no staging is left",
    "look_for_result": "a replay after the end creates nothing",
    "look_at_own": "nothing is fetched that is stored already",
    "look_once_more": "nobody complains of a chunk that has ended",
    "claims_locked": "no two kept images are the same",
    "claims_read_back": "what is claimed is kept",
    "empty_claims_marked": "as many are kept as were asked for",
    "claims_bounded": "no more is kept than was asked for",
    "claims_released": "as many are kept as were asked for",
    "claims_before_verdicts": "no two kept images are the same",
    "result_ends_chunk": "row and result agree",
    "result_before_row": "row and result agree",
    "planner_reads_result": "a chunk that has ended is not planned again",
    "uploaded_reads_result": "what is said to be kept is kept",
    "failed_names_attempt": "a chunk is given up after as many failures as are allowed",
    "takeback_is_no_retry": "a chunk is given up after as many failures as are allowed",
    "effect_before_event": "no input is missing",
    "commit_after_effect": "no record is lost",
}
"""For each rule a law that does not hold without it."""


@pytest.mark.parametrize("part", range(6))
def test_the_promise_is_kept(part: int) -> None:
    """Whatever crashes, sleeps, comes again or late, every law of a job's chunks holds."""
    seeds = range(part * SCHEDULES // 6, (part + 1) * SCHEDULES // 6)
    for world in broken(CHUNKS, seeds):
        pytest.fail(story(CHUNKS, world.seed))


def test_every_rule_is_tried() -> None:
    """No rule of the model is without its proof."""
    assert list(BREAKS) == list(CHUNKS.rules)


@pytest.mark.parametrize("rule", BREAKS)
def test_every_rule_is_needed(rule: str) -> None:
    """Without the rule some schedule breaks the law that stands beside it."""
    for world in broken(CHUNKS, range(20_000), off=rule):
        if BREAKS[rule] in world.broken:
            return
    pytest.fail(f"{BREAKS[rule]!r} holds without {rule} ({says(ChunkRules, rule)})")


def test_a_schedule_can_be_told() -> None:
    """The same seed is the same schedule, and its story names the broken law."""
    told = story(CHUNKS, 0, "effect_before_event")
    assert told == story(CHUNKS, 0, "effect_before_event")
    assert "!! no input is missing" in told
