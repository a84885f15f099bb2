"""A tracker whose commits stand still is noticed."""

import pytest

from pixcrawler.tracker.worker import Commits


def test_commits_that_stand_still_while_events_come_are_noticed() -> None:
    """Events without a commit for longer than the limit raise."""
    commits = Commits(10)
    commits.check(5, 100, 0)
    commits.check(5, 101, 9)
    with pytest.raises(RuntimeError, match="stood still"):
        commits.check(5, 102, 11)


def test_a_quiet_topic_is_no_stall() -> None:
    """Nothing to commit is fine for ever, and a commit starts the clock anew."""
    commits = Commits(10)
    for now in range(0, 100, 5):
        commits.check(5, 100, now)
    commits.check(6, 110, 100)
    commits.check(6, 120, 109)
