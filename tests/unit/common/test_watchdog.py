"""A process that was paused stops itself."""

from pixcrawler.common.watchdog import EXIT_PAUSED, Watchdog


def test_a_gap_longer_than_the_limit_ends_the_process() -> None:
    """Before the next write, with an exit code of its own."""
    now, ended = 100.0, list[int]()
    watchdog = Watchdog(10.0, clock=lambda: now, end=ended.append)
    watchdog.beat()
    now += 9.9
    watchdog.ensure_fresh()
    assert ended == []
    now += 0.2
    watchdog.ensure_fresh()
    assert ended == [EXIT_PAUSED]


def test_the_beat_itself_notices() -> None:
    """A pause is not healed by a beat that happens to come before the next write."""
    now, ended = 100.0, list[int]()
    watchdog = Watchdog(10.0, clock=lambda: now, end=ended.append)
    watchdog.beat()
    now += 11
    watchdog.beat()
    assert ended == [EXIT_PAUSED]


def test_before_the_first_beat_nothing_is_wrong() -> None:
    """What does not beat is not watched: tools and tests that publish."""
    ended = list[int]()
    Watchdog(10.0, clock=lambda: 1e9, end=ended.append).ensure_fresh()
    assert ended == []
