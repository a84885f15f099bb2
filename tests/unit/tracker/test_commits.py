"""A tracker whose commits stand still is noticed."""

import pytest
from faust.types import TP

from pixcrawler.tracker.worker import Commits

ONE, OTHER = TP("chunk.planned", 0), TP("chunk.planned", 1)


def test_a_partition_that_stands_still_is_noticed() -> None:
    """Records beyond a commit that does not move for longer than the limit raise."""
    commits = Commits(10)
    commits.check({ONE: 5, OTHER: 3}, {ONE: 9, OTHER: 3}, 0)
    commits.check({ONE: 5, OTHER: 4}, {ONE: 9, OTHER: 4}, 9)
    with pytest.raises(RuntimeError, match=r"chunk\.planned/0 has stood still at 5 of 9"):
        commits.check({ONE: 5, OTHER: 5}, {ONE: 9, OTHER: 5}, 11)


def test_a_partition_that_was_never_committed_counts_from_its_beginning() -> None:
    """Records that were never committed at all are noticed as well."""
    commits = Commits(10)
    commits.check({}, {ONE: 2}, 0)
    with pytest.raises(RuntimeError, match="at 0 of 2"):
        commits.check({}, {ONE: 2}, 11)


def test_a_quiet_a_moving_and_a_lost_partition_are_no_stall() -> None:
    """At its end, on its way, or assigned to another: nothing is wrong."""
    commits = Commits(10)
    for now in range(0, 100, 5):
        commits.check({ONE: 5, OTHER: now}, {ONE: 5, OTHER: 1000}, now)
    commits.check({ONE: 5}, {ONE: 9}, 100)
    commits.check({}, {}, 105)
    commits.check({ONE: 5}, {ONE: 9}, 111)
