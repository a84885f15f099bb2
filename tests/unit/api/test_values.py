"""The api's pure parts."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pixcrawler.api import byteranges, cursors, sources
from pixcrawler.api.links import FileLink, Links
from pixcrawler.api.problems import Problem
from pixcrawler.api.requests import NewJob
from pixcrawler.api.settings import Settings
from pixcrawler.common.chunk_outcomes import ChunkObjects, OutcomeRow, Standing
from pixcrawler.common.documents import ChunkResult
from pixcrawler.common.outcomes import Outcome
from pixcrawler.common.ranges import SOURCES

JOB = "0198c5a0-0000-7000-8000-000000000000"


def test_known_sources() -> None:
    """The command refuses by itself what the api would refuse."""
    assert sources.KNOWN == SOURCES


@given(st.text(st.characters(codec="ascii", categories=["L", "N"])), st.integers(0, 2**31 - 1))
def test_cursors_come_back(text: str, number: int) -> None:
    """load(dump(x)) == x."""
    assert cursors.load(cursors.dump(text, number), str, int) == (text, number)


@given(st.text(max_size=30))
@example("W10")
@example("WzFd")
@example("Wy0xXQ")
def test_any_other_cursor_is_a_422(text: str) -> None:
    """Whatever a client sends as a cursor, the answer is a problem or a position."""
    with suppress(Problem):
        (position,) = cursors.load(text, int)
        assert 0 <= int(position) < 2**31


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 200))
def test_ranges_are_slices(first: int, last: int, size: int) -> None:
    """A range gives the bytes that it names, cut at the end; none at all is a 416."""
    header = f"bytes={first}-{last}"
    data = bytes(index % 256 for index in range(size))
    if last < first:
        assert byteranges.parse(header, size) is None
    elif first >= size:
        with pytest.raises(Problem):
            byteranges.parse(header, size)
    else:
        part = byteranges.parse(header, size)
        assert part is not None
        assert data[part.start : part.start + part.length] == data[first : last + 1]


@given(st.integers(1, 300), st.integers(1, 200))
def test_ranges_from_the_end(count: int, size: int) -> None:
    """`-n` are the last n bytes, or all there are."""
    part = byteranges.parse(f"bytes=-{count}", size)
    assert part == (max(size - count, 0), min(count, size))


@pytest.mark.parametrize("header", [None, "", "bytes=-", "bytes=a-b", "bytes=0-1,2-3", "x=0-1"])
def test_no_range(header: str | None) -> None:
    """What is no single range asks for everything."""
    assert byteranges.parse(header, 10) is None


def test_an_empty_file_has_no_range() -> None:
    """No byte of an empty file can be asked for."""
    with pytest.raises(Problem):
        byteranges.parse("bytes=0-", 0)


def test_links_of_another_key() -> None:
    """Only who has the key can sign, and only before the end."""
    now = [1000.0]
    links, others = Links(b"a", lambda: now[0]), Links(b"b", lambda: now[0])
    path = links.path("datasets/x/a b.zip", filename="ä.zip", expires_s=10)
    assert path.startswith("/v1/files/datasets/x/a%20b.zip?filename=%C3%A4.zip&expires=1010&")
    link, signature = FileLink("datasets/x/a b.zip", "ä.zip", 1010), path.rpartition("=")[2]
    links.check(link, signature)
    with pytest.raises(Problem, match="not valid"):
        others.check(link, signature)
    now[0] = 1010
    with pytest.raises(Problem, match="expired"):
        links.check(link, signature)


@pytest.mark.parametrize(
    ("body", "sources"),
    [
        ({"keywords": ["a"], "max_images": 1}, ("openverse", "commons")),
        ({"keywords": ["a"], "max_images": 1, "sources": ["commons", "commons"]}, ("commons",)),
        ({"urls": ["http://x"]}, ("urls",)),
        ({"keywords": ["a"], "urls": ["http://x"]}, ("openverse", "commons", "urls")),
        ({"keywords": ["a"], "urls": ["http://x"], "sources": ["commons"]}, ("commons", "urls")),
        ({"urls": ["http://x"], "sources": ["urls"]}, ("urls",)),
    ],
)
def test_sources_of_a_job(body: dict[str, Any], sources: tuple[str, ...]) -> None:
    """The default two for keywords, and URLs that are there are used."""
    assert NewJob.model_validate(body).wanted_sources == sources


def test_the_key_of_links() -> None:
    """Equal for replicas that are told the same; another secret is another key."""

    def key(**told: str) -> bytes:
        return Settings(**{"database_url": "postgresql+asyncpg://a:b@c/d", **told}).link_key  # type: ignore[arg-type]

    assert key() == key()
    assert key(api_link_secret="x") == key(
        api_link_secret="x", database_url="postgresql+asyncpg://other/other"
    )
    assert key() != key(api_link_secret="x")


CHUNK = st.tuples(
    st.sampled_from(["completed", "failed", None]),
    st.dictionaries(
        st.sampled_from("abcdef"), st.sampled_from([Outcome.KEPT, Outcome.TIMEOUT]), max_size=4
    ),
)


@given(st.lists(CHUNK, max_size=6), st.integers(0, 6))
def test_standing_in_two_steps(chunks: list[tuple[Any, dict[str, Outcome]]], cut: int) -> None:
    """What was worked out before over some chunks, and the rest on top, is the same as at once."""
    read = []
    for index, (status, outcomes) in enumerate(chunks):
        chunk = f"{JOB}-{index:05d}"
        result = status and ChunkResult(chunk_id=chunk, status=status)
        rows = [OutcomeRow(url=u, outcome=o, chunk_id=chunk) for u, o in outcomes.items()]
        read.append((ChunkObjects(chunk, None, None, result), rows))
    whole, below = Standing(), Standing()
    for objects, rows in read:
        whole.add(objects, rows)
    for objects, rows in read[:cut]:
        below.add(objects, rows)
    above = Standing(below=below)
    for objects, rows in read[cut:]:
        above.add(objects, rows)
    for objects, rows in read:
        assert list(above.rows(objects, rows)) == list(whole.rows(objects, rows))
    shown = [row.url for objects, rows in read for row in whole.rows(objects, rows)]
    assert sorted(shown) == sorted({url for _, outcomes in chunks for url in outcomes})
