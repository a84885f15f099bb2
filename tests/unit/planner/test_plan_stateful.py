"""A job's searches over all its rounds, against a naive model: each candidate is asked for once."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pixcrawler.common.documents import Stream
from pixcrawler.common.ranges import URLS, Range, initial_ranges, supply
from pixcrawler.planner.plan import (
    Cursor,
    cursors_for,
    mark_exhausted,
    plan_chunks,
    refill_size,
    rooms,
    streams,
)

SOURCES = ("openverse", "commons", URLS)


class Planning(RuleBasedStateMachine):
    """Splits, refills, searches that run dry, keywords that come later.

    The model is the list of (search, number) that were asked for, and of candidates' numbers.
    """

    @initialize(
        sources=st.lists(st.sampled_from(SOURCES), min_size=1, max_size=3, unique=True),
        keywords=st.lists(st.text("abc", min_size=1, max_size=2), min_size=1, max_size=3),
        urls=st.integers(1, 60),
        size=st.integers(1, 30),
        images=st.integers(1, 100),
    )
    def split(
        self, sources: list[str], keywords: list[str], urls: int, size: int, images: int
    ) -> None:
        self.urls, self.size, self.sources, self.keywords = urls, size, sources, keywords
        self.asked: list[tuple[Stream, int]] = []
        self.ranges: list[Range] = []
        self.dry: set[Stream] = set()
        self.cursors = cursors_for(streams(sources, keywords), ())
        stretches = initial_ranges(images, size, supply(sources, urls))
        there = urls if sources == [URLS] else images
        assert sum(stretch.size for stretch in stretches) == min(images, there)
        before = len(self.ranges)
        self._plan(sum(stretch.size for stretch in stretches))
        assert tuple(self.ranges[before:]) == stretches

    @rule(number=st.integers(0, 60))
    def refill(self, number: int) -> None:
        self._plan(number)

    @rule(kept=st.floats(0, 1))
    def refill_by_yield(self, kept: float) -> None:
        planned = len(self.asked)
        useful = int(planned * kept)
        missing = max(1, min(planned - useful, 50))
        self._plan(refill_size(missing=missing, useful=useful, tried=planned, planned=planned))

    @rule(data=st.data())
    def runs_dry(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from([cursor.stream for cursor in self.cursors]))
        self.cursors = mark_exhausted(self.cursors, [stream])
        self.dry.add(stream)

    @precondition(lambda self: self.sources != [URLS])
    @rule(keyword=st.text("abc", min_size=1, max_size=2))
    def another_keyword(self, keyword: str) -> None:
        self.keywords = [*self.keywords, keyword]
        self.cursors = cursors_for(streams(self.sources, self.keywords), self.cursors)

    def _plan(self, number: int) -> None:
        there = min(number, sum(rooms(self.cursors, self.urls)))
        first = len(self.asked)
        made = plan_chunks(self.cursors, first, number, self.size, self.urls)
        for planned, slices in made.chunks:
            one = [
                (Stream(source=each.source, keyword=each.keyword), each.offset + place)
                for each in slices
                for place in range(each.limit)
            ]
            assert len(one) == planned.size
            assert not {stream for stream, _ in one} & self.dry
            self.asked += one
            self.ranges.append(planned)
        assert len(self.asked) == first + there
        self.cursors = made.cursors

    @invariant()
    def ranges_follow_each_other(self) -> None:
        position = 0
        for each in self.ranges:
            assert each.start == position
            assert 0 < each.size <= self.size
            position = each.end + 1
        assert position == len(self.asked)

    @invariant()
    def nothing_is_asked_twice_and_nothing_is_left_out(self) -> None:
        assert len(self.asked) == len(set(self.asked))
        for cursor in self.cursors:
            numbers = sorted(number for stream, number in self.asked if stream == cursor.stream)
            assert numbers == list(range(cursor.next_offset))

    @invariant()
    def a_list_ends_where_it_ends(self) -> None:
        assert all(number < self.urls for stream, number in self.asked if stream.source == URLS)

    @invariant()
    def cursors_are_one_a_search(self) -> None:
        found: list[Cursor] = list(self.cursors)
        assert len({cursor.stream for cursor in found}) == len(found)


TestPlanning = Planning.TestCase
TestPlanning.settings = settings(deadline=None, max_examples=40, stateful_step_count=12)
