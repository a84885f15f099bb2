import io
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pixcrawler.client import running
from pixcrawler.client.__main__ import app
from pixcrawler.client.errors import USAGE, CommandError
from pixcrawler.client.operations import transform_options
from pixcrawler.client.running import Wish
from pixcrawler.client.url_lists import PIECE, ListFile


def wish(
    *keywords: str,
    number: int | None = None,
    sources: tuple[str, ...] = (),
    urls: Path | None = None,
    near: int | None = 6,
) -> Wish:
    return Wish(keywords, number, sources, urls, 5, 64, near, "zip", Path("somewhere"))


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


def test_a_list_without_a_number_means_all_of_it() -> None:
    """The API knows how many that is."""
    body = running.request(wish(urls=Path("list.csv")), "the-list")
    assert body["urls"] == "the-list"
    assert "max_images" not in body
    assert body["sources"] == ["urls"]


def test_a_list_beside_searches() -> None:
    """A source that is named is searched too."""
    asked = wish("cat", number=7, sources=("commons",), urls=Path("list.csv"))
    body = running.request(asked, "the-list")
    assert body["sources"] == ["commons", "urls"]
    assert body["max_images"] == 7


def test_an_empty_list(tmp_path: Path) -> None:
    """It is wrong usage, before anything is started."""
    (tmp_path / "list").touch()
    with pytest.raises(CommandError, match="is empty") as caught:
        ListFile(tmp_path / "list")
    assert caught.value.code == USAGE


def test_a_list_is_sent_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file also again; what came through a pipe only once."""
    content = b"http://a/1.jpg\n" * 50_000
    (tmp_path / "list.txt").write_bytes(content)
    file, told = ListFile(tmp_path / "list.txt"), list[int]()
    file.on_progress = told.append
    for _ in range(2):
        pieces = list(file)
        assert b"".join(pieces) == content
        assert max(map(len, pieces)) <= PIECE
    assert told[-1] == file.size == len(content)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    piped = ListFile(Path("-"))
    assert (piped.name, piped.size, b"".join(piped)) == ("", None, content)
    with pytest.raises(CommandError, match="cannot be sent again"):
        list(piped)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    """It is named once, in words."""
    with pytest.raises(CommandError) as caught:
        ListFile(tmp_path / "nope")
    assert str(caught.value) == f"{tmp_path / 'nope'} cannot be read: No such file or directory"


def test_only_what_is_asked_for_of_transforming_is_sent() -> None:
    """So that an API of before, which does not know it, still takes the rest."""
    how = {"upright": False, "resize_mode": "keep_ratio", "image_size": 9, "quality": 95}
    assert transform_options(**how) == {"resize_mode": "keep_ratio", "image_size": 9}
    asked = wish("x")._replace(transform=transform_options(**how))
    assert running.request(asked)["options"] == {
        "min_size": 64,
        "near_duplicates": 6,
        "format": "zip",
        "resize_mode": "keep_ratio",
        "image_size": 9,
    }


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--resize-mode", "keep_ratio"], "--image-size"),
        (["--image-size", "256"], "--image-size"),
        (["--resize-only-if-bigger"], "--resize-only-if-bigger"),
        (["--image-format", "png", "--quality", "80"], "--quality"),
    ],
)
def test_what_makes_no_sense_together_is_wrong_usage(words: list[str], option: str) -> None:
    """Said before anything is started, with the option's own name."""
    result = CliRunner().invoke(app, ["run", "x", *words, "-o", "/nowhere"])
    assert (result.exit_code, option in result.output) == (USAGE, True)
