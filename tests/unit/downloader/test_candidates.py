"""What a chunk's candidates are when not every source answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from pixcrawler.common.controls import PAUSED_MARK, SOURCE_PAUSED, Control
from pixcrawler.common.documents import Candidates, Stream
from pixcrawler.common.errors import GiveUp, Retry
from pixcrawler.common.events import Slice
from pixcrawler.downloader.candidates import resolve
from pixcrawler.downloader.sources import Away, Pausable, Paused, Result, SearchPage

CHUNK = "0199a000-0000-7000-8000-000000000000-00000"
SLICES = tuple(Slice(source=name, keyword="cat", offset=0, limit=3) for name in ("one", "two"))
PAUSED = Paused(
    Control(kind="source", name="two", reason="why", since=datetime(2026, 1, 1, tzinfo=UTC))
)
REFUSED = GiveUp("two refuses", error="source_refused", retriable=True)


@dataclass
class Scripted:
    """A source that answers as it is told, the last answer for ever."""

    script: list[SearchPage | Exception]
    asked: int = 0
    offsets: list[int] = field(default_factory=list)

    async def search(self, keyword: str, offset: int, limit: int) -> SearchPage:
        """See `Source.search`."""
        assert (keyword, limit) == ("cat", 3)
        answer = self.script[min(self.asked, len(self.script) - 1)]
        self.asked += 1
        self.offsets.append(offset)
        if isinstance(answer, Exception):
            raise answer
        return answer


def page(*urls: str, exhausted: bool = False) -> SearchPage:
    return SearchPage(tuple(map(Result, urls)), exhausted)


async def resolved(
    *scripts: Sequence[SearchPage | Exception],
) -> tuple[Candidates, list[int]]:
    sources = {
        name: Scripted(list(script)) for name, script in zip(("one", "two"), scripts, strict=True)
    }
    found = await resolve(CHUNK, SLICES, sources)
    return found, [source.asked for source in sources.values()]


@pytest.mark.parametrize("why", [Away("two is away", final=True), REFUSED], ids=["away", "refused"])
async def test_what_answered_is_pinned_and_the_rest_named(why: Exception) -> None:
    """When asking again is useless: the candidates of one, and the slice of the other with why."""
    found, _ = await resolved([page("a", "b", exhausted=True)], [why])
    assert [candidate.url for candidate in found.items] == ["a", "b"]
    assert found.head.count == 2
    assert found.head.exhausted == (Stream(source="one", keyword="cat"),)
    [owed] = found.head.unanswered
    assert (owed.source, owed.keyword, owed.offset, owed.limit) == ("two", "cat", 0, 3)
    assert owed.reason == str(why)
    assert Candidates.parse(found.dump()) == found


async def test_nothing_is_pinned_while_asking_again_may_help() -> None:
    """What is pinned stays for ever: so a source that may be back in a moment is waited for."""
    with pytest.raises(Away, match="two is away"):
        await resolved([page("a")], [Away("two is away")])


async def test_nobody_rests_for_one_while_another_answers() -> None:
    """The chunk does not wait for a source that rests if it can go on."""
    _, asked = await resolved([page("a")], [Away("two rests", final=True, rest_s=60)])
    assert asked == [1, 1]


async def test_without_any_answer_a_rest_is_waited_for_once() -> None:
    """Then the chunk goes on with who is back; the other is named."""
    found, asked = await resolved(
        [Away("one rests", final=True, rest_s=0.01), page("a")],
        [Away("two is spent", final=True)],
    )
    assert [candidate.url for candidate in found.items] == ["a"]
    assert [owed.reason for owed in found.head.unanswered] == ["two is spent"]
    assert asked == [2, 2]


async def test_without_any_answer_nothing_is_pinned() -> None:
    """The attempt fails with every source's words, after a rest at once, else after some tries."""
    away, rests = Away("one is away", final=True), Away("two rests", final=True, rest_s=0.01)
    with pytest.raises(Retry, match=r"^one is away; two refuses$"):
        await resolved([away], [Away("two refuses", final=True)])
    with pytest.raises(GiveUp, match=r"^one is away; two rests$") as failed:
        await resolved([away], [rests])
    assert (failed.value.error, failed.value.retriable) == ("source_unavailable", True)
    with pytest.raises(GiveUp) as refused:
        await resolved([REFUSED], [REFUSED])
    assert refused.value.error == "source_refused"


async def test_an_empty_answer_is_an_answer() -> None:
    """No result is no trouble: nothing is unanswered."""
    found, _ = await resolved([page(exhausted=True)], [page("b")])
    assert (found.head.unanswered, found.head.count) == ((), 1)


async def test_a_paused_source_is_named_and_not_waited_for() -> None:
    """The chunk goes on with the other one; the reason says that nothing is wrong with it."""
    found, asked = await resolved([page("a")], [PAUSED])
    assert [candidate.url for candidate in found.items] == ["a"]
    [owed] = found.head.unanswered
    assert owed.reason == f"{PAUSED_MARK}two is paused since 2026-01-01 00:00:00Z (why)"
    assert asked == [1, 1]


async def test_where_all_are_paused_the_chunk_waits() -> None:
    """By an error of its own; beside one that does not answer it is as if there were no other."""
    with pytest.raises(GiveUp, match="two is paused") as given_up:
        await resolved([PAUSED], [PAUSED])
    assert (given_up.value.error, given_up.value.retriable) == (SOURCE_PAUSED, True)
    with pytest.raises(Away, match="one is away"):
        await resolved([Away("one is away")], [PAUSED])


async def test_a_source_that_is_paused_is_not_asked() -> None:
    """As soon as it is, and until it is not."""
    source, paused = Scripted([page("a")]), dict[str, Control]()
    pausable = Pausable("two", source, lambda: paused)
    assert (await pausable.search("cat", 0, 3)).candidates[0].url == "a"
    since = datetime(2026, 1, 1, tzinfo=UTC)
    paused["two"] = Control(kind="source", name="two", reason="", since=since)
    with pytest.raises(Paused):
        await pausable.search("cat", 0, 3)
    assert source.asked == 1
    paused.clear()
    await pausable.search("cat", 0, 3)
    assert source.asked == 2
