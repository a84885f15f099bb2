from pathlib import Path

import pytest

from pixcrawler.client import running
from pixcrawler.client.errors import USAGE, CommandError
from pixcrawler.client.running import Wish


def wish(
    *keywords: str,
    number: int | None = None,
    sources: tuple[str, ...] = (),
    urls: Path | None = None,
    near: int | None = 6,
) -> Wish:
    return Wish(keywords, number, sources, urls, 5, 64, near, "zip", Path("somewhere"))


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list.txt"
    path.write_bytes(
        b"\xef\xbb\xbfhttp://a/1.jpg\r\n\r\n  # a comment\n   http://a/2.jpg  \nhttp://a/1.jpg\n"
    )
    return path


def test_a_request_has_the_defaults() -> None:
    """What is not said is left to the API, but for the number."""
    assert running.request(wish("red panda")) == {
        "keywords": ["red panda"],
        "priority": 5,
        "options": {"min_size": 64, "near_duplicates": 6, "format": "zip"},
        "max_images": 500,
    }


def test_off_is_null() -> None:
    """`--near-duplicates off` asks for none to be looked for."""
    assert running.request(wish("x", near=None))["options"]["near_duplicates"] is None


def test_a_list_without_a_number_means_all_of_it(listed: Path) -> None:
    """Byte-order mark, Windows line ends, blanks and comments do no harm; each URL counts once."""
    body = running.request(wish(urls=listed))
    assert body["urls"] == ["http://a/1.jpg", "http://a/2.jpg"]
    assert body["max_images"] == 2
    assert body["sources"] == ["urls"]


def test_a_list_beside_searches(listed: Path) -> None:
    """A source that is named is searched too."""
    body = running.request(wish("cat", number=7, sources=("commons",), urls=listed))
    assert body["sources"] == ["commons", "urls"]
    assert body["max_images"] == 7


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "holds no URL"), (b"# only\n\n  # comments", "holds no URL"), (b"\xff\xfe\x00", "read")],
)
def test_a_list_without_a_url(tmp_path: Path, content: bytes, words: str) -> None:
    """An empty list, or one that is no text, is wrong usage."""
    path = tmp_path / "list"
    path.write_bytes(content)
    with pytest.raises(CommandError, match=words) as caught:
        running.read_urls(path)
    assert caught.value.code == USAGE


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    """It is named once, in words."""
    with pytest.raises(CommandError) as caught:
        running.read_urls(tmp_path / "nope")
    assert str(caught.value) == f"{tmp_path / 'nope'} cannot be read: No such file or directory"
