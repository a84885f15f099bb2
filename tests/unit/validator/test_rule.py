"""Which images of a chunk are kept, without a database."""

from hypothesis import given
from hypothesis import strategies as st

from pixcrawler.common.outcomes import Outcome
from pixcrawler.validator.claims import Image, Matches, rule


def images(*phashes: int) -> list[Image]:
    return [Image(place, f"u{place}", bytes([place]), value) for place, value in enumerate(phashes)]


def test_candidate_order_decides_within_a_chunk() -> None:
    """The first of near ones is kept; near-duplicates are not transitive."""
    rulings, kept = rule(images(0, 0b111111, 0b111111111111), Matches(), near=6, room=9)
    assert [one.position for one in kept] == [0, 2]
    assert rulings[1].outcome is Outcome.NEAR_DUPLICATE
    assert rulings[1].duplicate_of == "u0"


def test_others_come_before_the_number() -> None:
    """What is like a claim is its duplicate also when there is no room; the rest is surplus."""
    others = Matches(equal={0: "x"}, near={1: "y"})
    rulings, kept = rule(images(0, 2**40 - 1, 2**64 - 1), others, near=6, room=0)
    assert kept == []
    assert [str(rulings[place].outcome) for place in range(3)] == [
        "duplicate",
        "near_duplicate",
        "surplus",
    ]
    assert rulings[0].duplicate_of == "x"


def test_less_than_no_room_keeps_nothing() -> None:
    """A job whose number shrank, or never had room."""
    rulings, kept = rule(images(1), Matches(), near=6, room=-3)
    assert (kept, rulings[0].outcome) == ([], Outcome.SURPLUS)


@given(
    st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 255), max_size=40),
    st.integers(0, 20),
    st.none() | st.integers(0, 16),
)
def test_the_rulings_are_consistent(phashes: list[int], room: int, near: int | None) -> None:
    """Kept: within the number, no two near. Dropped as near: near to the kept one that is named.
    Surplus: only when the number was reached, and near to none of the kept before it."""
    asked = images(*phashes)
    rulings, kept = rule(asked, Matches(), near=near, room=room)
    limit = -1 if near is None else near
    by_url = {one.url: one for one in kept}
    assert len(kept) <= room
    for one in asked:
        ruling = rulings[one.position]
        before = [it for it in kept if it.position < one.position]
        alike = [it for it in before if (it.phash ^ one.phash).bit_count() <= limit]
        match ruling.outcome:
            case Outcome.KEPT:
                assert by_url[one.url] is one
                assert not alike
            case Outcome.NEAR_DUPLICATE:
                assert by_url[ruling.duplicate_of] in alike
            case _:
                assert ruling.outcome is Outcome.SURPLUS
                assert len(before) == room
                assert not alike
