"""A schedule is a function of its seed."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos import schedule
from tests.chaos.schedule import NEEDS, SESSION_S, Blow, Kind
from tests.e2e.system import SERVICES, SESSION_TIMEOUT_S

SEEDS = st.integers(0, 10**9)
ROUNDS = st.integers(0, 200)
DECKS = st.builds(schedule.kinds, brokers=st.sampled_from((1, 3)), local=st.booleans())
LENGTHS = st.floats(1, 300)


@given(SEEDS, LENGTHS, DECKS, ROUNDS)
def test_the_same_seed_gives_the_same_schedule(
    seed: int, length_s: float, deck: tuple[Kind, ...], number: int
) -> None:
    """Nothing but the arguments decides."""
    first = schedule.schedule(seed, length_s, deck, number=number)
    assert schedule.schedule(seed, length_s, deck, number=number) == first
    assert [str(blow) for blow in first] == [
        str(blow) for blow in schedule.schedule(seed, length_s, deck, number=number)
    ]


def test_a_seed_gives_this_schedule_in_every_process() -> None:
    """It does not hang on hashes or on the order of sets, which differ from process to process."""
    first, second = schedule.schedule(1, 60)[:2]
    assert first == FIRST, repr(first)
    assert second == SECOND, repr(second)


@given(SEEDS, ROUNDS)
def test_another_round_is_another_schedule(seed: int, number: int) -> None:
    """Neither two rounds nor two seeds are the same."""
    one = schedule.schedule(seed, 60, number=number)
    assert one != schedule.schedule(seed, 60, number=number + 1)
    assert one != schedule.schedule(seed + 1, 60, number=number)


@given(SEEDS, DECKS, ROUNDS)
def test_every_kind_comes_before_any_comes_again(
    seed: int, deck: tuple[Kind, ...], number: int
) -> None:
    """As long as there is time for each of them."""
    blows = schedule.schedule(seed, 3.0 * (len(deck) + 1), deck, number=number)
    assert {blow.kind for blow in blows} == set(deck)


@given(SEEDS, LENGTHS, DECKS, st.floats(1, 60))
def test_blows_are_what_they_may_be(
    seed: int, length_s: float, deck: tuple[Kind, ...], longest_s: float
) -> None:
    """In order, of the deck, long enough to matter, no two at the same thing at the same time."""
    blows = schedule.schedule(seed, length_s, deck, longest_s=longest_s)
    assert [blow.at_s for blow in blows] == sorted(blow.at_s for blow in blows)
    for blow in blows:
        assert blow.kind in deck
        assert set(blow.services) <= set(SERVICES)
        assert bool(blow.services) == (blow.kind in schedule.TARGETS)
        shortest_s, _ = schedule.LASTS_S.get(blow.kind, (0.0, 0.0))
        assert shortest_s <= blow.lasts_s + 0.001
        assert blow.lasts_s <= max(shortest_s, longest_s) + 0.001
        if blow.kind in {Kind.PAUSE, Kind.TRACKER_ZOMBIE}:
            assert blow.lasts_s > SESSION_S
    for need in set(NEEDS.values()):
        same = [blow for blow in blows if NEEDS.get(blow.kind) == need]
        assert all(one.end_s < other.at_s for one, other in pairwise(same))


def test_the_session_is_that_of_the_system() -> None:
    """A pause is longer than what the services wait for."""
    assert SESSION_S == SESSION_TIMEOUT_S


FIRST = Blow(2.813, Kind.PAUSE, ("api", "planner", "validator", "tracker"), 8.532, 488921764)
SECOND = Blow(4.043, Kind.RESET, ("tracker",), 0.0, 3696043567)
