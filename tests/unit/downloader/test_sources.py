"""Answers of the searches as they are documented."""

import json
from pathlib import Path
from typing import Any

import pytest

from pixcrawler.common.errors import GiveUp
from pixcrawler.common.jobs import ListedUrls
from pixcrawler.downloader.sources import Result, commons, openverse
from pixcrawler.downloader.sources.urls import UrlList
from pixcrawler.downloader.sources.web import Busy, pace

DATA = Path(__file__).parent.parent / "sources_data"


def document(name: str) -> Any:
    return json.loads((DATA / name).read_text())


def test_openverses_documented_answer() -> None:
    """Every field that a dataset needs, with the licence as SPDX names it."""
    answer = document("openverse_images.json")
    openverse.check(answer)
    page = openverse.parse(answer)
    assert page.page_count == 1
    assert page.places == (
        Result(
            url="https://cdn.stocksnap.io/img-thumbs/960w/XNVBVXO3B7.jpg",
            title="Tree Bark Photo",
            creator="Tim Sullivan",
            license="CC0-1.0",
            license_url="https://creativecommons.org/publicdomain/zero/1.0/",
            landing_url="https://stocksnap.io/photo/XNVBVXO3B7",
        ),
    )


def test_openverses_gaps_are_empty_text() -> None:
    """Fields are null where Openverse knows nothing; without a URL there is no candidate."""
    gaps = {"title": None, "creator": None, "license": None, "license_version": None}
    page = openverse.parse({"page_count": 3, "results": [{"url": "u", **gaps}, {"url": None}]})
    assert page.places == (Result(url="u"), None)


def as_version_2(answer: dict[str, Any]) -> dict[str, Any]:
    """The same answer in formatversion 2: a list of pages, flags as booleans."""
    pages = list(answer["query"]["pages"].values())
    return answer | {"batchcomplete": True, "query": {"pages": pages}}


@pytest.mark.parametrize("version", [1, 2])
def test_commons_documented_answer(version: int) -> None:
    """Both format versions; the artist's HTML as text, the original's URL."""
    answer = document("commons_search.json")
    if version == 2:
        answer = as_version_2(answer)
    commons.check(answer)
    pages: dict[str, dict[str, Any]] = {}
    commons.merge(pages, answer)
    assert commons.is_complete(answer)
    (found,) = commons.results(pages.values())
    name = "20120925_PlozevetBretagne_LoneTree_DSC07971_PtrQs.jpg"
    assert found.url == f"https://upload.wikimedia.org/wikipedia/commons/2/25/{name}"
    assert found.landing_url == f"https://commons.wikimedia.org/wiki/File:{name}"
    assert found.creator == "PtrQs"
    assert found.license == "CC-BY-SA-4.0"
    assert found.license_url == "https://creativecommons.org/licenses/by-sa/4.0"
    assert found.title == "20120925 PlozevetBretagne LoneTree DSC07971 PtrQs"


def page(number: int, **info: Any) -> dict[str, Any]:
    return {
        "pageid": number,
        "title": f"File:Photo {number}.jpg",
        "index": number,
        "imageinfo": [{"url": f"https://u.example/{number}", "mime": "image/jpeg"} | info],
    }


def test_commons_pages_are_ordered_by_their_rank() -> None:
    """Formatversion 1 lists them by id."""
    found = commons.results([page(3), page(1), page(2)])
    assert [one.url[-1] for one in found] == ["1", "2", "3"]


def test_commons_other_media_are_no_candidates() -> None:
    """Videos, sounds and books are files, too."""
    kinds = ("video/webm", "audio/ogg", "application/pdf", "image/svg+xml", "image/jpeg")
    found = commons.results([page(n, mime=kind) for n, kind in enumerate(kinds)])
    assert [one.url[-1] for one in found] == ["3", "4"]


def test_commons_names_what_it_knows_little_about() -> None:
    """The file's name as title, who uploaded it as creator."""
    (found,) = commons.results([page(7, user="Uploader")])
    assert (found.title, found.creator, found.license) == ("Photo 7", "Uploader", "")


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("Ana", "Ana"),
        ('<a href="//c/User:X" title="User:X">Ana  &amp; Bo</a>', "Ana & Bo"),
        ("<bdi><a href='x'>村田 光</a>\n</bdi>", "村田 光"),
        ("A<br>B<br/>C", "A B C"),
        ("<div>A</div><div>B</div>", "A B"),
        ('<span style="display: none;">hidden <b>too</b></span>shown', "shown"),
        ("<style>.x{}</style>Ana", "Ana"),
        ("Tom &lt;tom@example.org&gt;", "Tom <tom@example.org>"),
        ("1 &#60; 2", "1 < 2"),
        ("<p>unclosed", "unclosed"),
        ("", ""),
    ],
)
def test_html_becomes_text(html: str, text: str) -> None:
    """One line, without what is not shown."""
    assert commons.text(html) == text


def test_commons_errors_name_the_next_step() -> None:
    """Too many questions pass; a wrong question does not."""
    with pytest.raises(Busy):
        commons.check({"error": {"code": "ratelimited", "info": "slow down"}})
    with pytest.raises(GiveUp):
        commons.check({"error": {"code": "badvalue", "info": "no"}})
    with pytest.raises(Busy):
        commons.check({})
    commons.check({"batchcomplete": True})


@pytest.mark.parametrize(
    ("answer", "complete"),
    [
        ({"batchcomplete": ""}, True),
        ({"batchcomplete": True, "continue": {"gsroffset": 5, "continue": "gsroffset||"}}, True),
        ({"continue": {"iicontinue": "B.jpg|2012", "continue": "||"}}, False),
        ({"continue": {"iistart": "2012", "gsroffset": 3, "continue": "||"}}, False),
        ({"continue": {"gsroffset": 3, "continue": "gsroffset||"}}, True),
        ({}, True),
    ],
)
def test_a_batch_is_complete_when_only_the_search_continues(
    answer: dict[str, Any], complete: bool
) -> None:
    """Otherwise some of its pages lack their URLs."""
    assert commons.is_complete(answer) is complete


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({}, 0.0),
        ({"X-RateLimit-Limit-anon_burst": "20/min", "X-RateLimit-Available-anon_burst": "3"}, 0.0),
        ({"X-RateLimit-Limit-anon_burst": "20/min", "X-RateLimit-Available-anon_burst": "0"}, 3.0),
        ({"X-RateLimit-Limit-a": "200/day", "X-RateLimit-Available-a": "0"}, 432.0),
        ({"X-RateLimit-Available-a": "0"}, 0.0),
    ],
)
def test_a_spent_rate_limit_slows_us_down(headers: dict[str, str], pause: float) -> None:
    """The next question waits as long as one costs."""
    assert pace(headers) == pause


async def test_a_list_is_searched_by_its_places() -> None:
    """And ends where it ends."""
    listed = ("a", "b", "c")

    async def read(offset: int, limit: int) -> ListedUrls:
        return ListedUrls(listed[offset : offset + limit], len(listed))

    source = UrlList(read)
    first = await source.search("", 0, 2)
    assert ([one.url for one in first.candidates], first.exhausted) == (["a", "b"], False)
    rest = await source.search("", 2, 2)
    assert ([one.url for one in rest.candidates], rest.exhausted) == (["c"], True)
    assert (await source.search("", 0, 3)).exhausted
    assert await source.search("", 9, 2) == ((), True)
