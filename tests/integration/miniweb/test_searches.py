"""The searches answer in the shapes and within the limits of the real services."""

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from pixcrawler.miniweb import plans
from pixcrawler.miniweb.searches import Hits, commons, openverse
from pixcrawler.miniweb.server import Server
from pixcrawler.miniweb.site import Site, hosting
from tests.integration.miniweb.conftest import CONTACT

DATA = Path(__file__).parents[2] / "unit" / "sources_data"
WORD = "red panda"
FILES = {
    "action": "query",
    "format": "json",
    "generator": "search",
    "gsrsearch": WORD,
    "gsrnamespace": "6",
    "prop": "imageinfo",
    "iiprop": "url|size|mime|user|extmetadata|mediatype",
}


@pytest.fixture
def hits(server: Server) -> Hits:
    return server.web.hits


def documented(name: str) -> Any:
    return json.loads((DATA / name).read_text())


async def ask(client: ClientSession, url: str, **params: str) -> Any:
    async with client.get(url, params=params) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


def openverse_url(site: Site) -> str:
    return site.env["PIXCRAWLER_SOURCE_OPENVERSE_URL"] + "/v1/images/"


async def test_openverse_lists_everything_in_pages(site: Site, client: ClientSession) -> None:
    """20 a page, in a fixed order, until there is no more; every fact as the truth states it."""
    found: list[dict[str, Any]] = []
    for page in range(1, 21):
        answer = await ask(client, openverse_url(site), q=WORD, page=str(page), page_size="20")
        found += answer["results"]
    listed = [one for one in site.truth.values() if one.listing("openverse", WORD)]
    assert answer["result_count"] == len(found) == len(listed)
    assert answer["page_count"] == -(-len(found) // 20)
    assert {it["url"] for it in found} == {one.url for one in listed}
    for it in found:
        true = site.truth[it["url"]].listing("openverse", WORD)
        assert true is not None
        assert (it["title"], it["creator"]) == (true.title, true.creator)
        assert (it["license_url"], it["foreign_landing_url"]) == (
            true.license_url,
            true.landing_url,
        )


async def test_openverse_answers_have_the_documented_fields(
    site: Site, client: ClientSession
) -> None:
    """The same keys, and values of the same types or null, as in the documented example."""
    example, answer = documented("openverse_images.json"), None
    answer = await ask(client, openverse_url(site), q=WORD)
    assert set(answer) == set(example)
    assert answer["page_size"] == 20
    for result in answer["results"]:
        assert set(result) == set(example["results"][0])
        for name, value in example["results"][0].items():
            assert result[name] is None or type(result[name]) is type(value), name


async def test_openverse_has_limits(site: Site, client: ClientSession) -> None:
    """More than 20 a page is 401, beyond page 20 and nonsense are 400; it tells its rate limit."""
    for params, status in (
        ({"page_size": "21"}, 401),
        ({"page": "21"}, 400),
        ({"page": "0"}, 400),
        ({"page": "x"}, 400),
    ):
        async with client.get(openverse_url(site), params={"q": WORD, **params}) as answer:
            assert answer.status == status
            assert "detail" in await answer.json()
            assert answer.headers["X-RateLimit-Limit-anon_burst"] == "20/min"
    async with client.get(openverse_url(site)[:-1] + "s/") as answer:
        assert answer.status == 404


async def test_commons_lists_everything(site: Site, client: ClientSession) -> None:
    """Both format versions, continued to the end, have every page once; `index` has the order."""
    url = site.env["PIXCRAWLER_SOURCE_COMMONS_URL"]
    orders = []
    for version in ("1", "2"):
        more: dict[str, str] = {}
        pages: list[dict[str, Any]] = []
        while True:
            answer = await ask(client, url, **FILES, gsrlimit="30", formatversion=version, **more)
            batch = answer["query"]["pages"]
            pages += batch.values() if version == "1" else batch
            assert answer["batchcomplete"] == ("" if version == "1" else True)
            if "continue" not in answer:
                break
            more = {name: str(value) for name, value in answer["continue"].items()}
        pages.sort(key=lambda page: page["index"])
        assert [page["index"] for page in pages] == list(range(1, len(pages) + 1))
        orders.append([page["imageinfo"][0]["url"] for page in pages])
    listed = {one.url for one in site.truth.values() if one.listing("commons", WORD)}
    assert orders[0] == orders[1]
    assert set(orders[0]) == listed


async def test_commons_answers_have_the_documented_fields(
    site: Site, client: ClientSession
) -> None:
    """A page has what the documented one has, and its artist is wrapped in HTML sometimes."""
    example = documented("commons_search.json")
    url = site.env["PIXCRAWLER_SOURCE_COMMONS_URL"]
    answer = await ask(client, url, **FILES, gsrlimit="50")
    assert set(answer) == set(example)
    assert set(answer["continue"]) == set(example["continue"])
    (theirs,) = example["query"]["pages"].values()
    for page in answer["query"]["pages"].values():
        assert set(page) == set(theirs)
        assert set(page["imageinfo"][0]) == set(theirs["imageinfo"][0])
        known = set(page["imageinfo"][0]["extmetadata"])
        assert known <= set(theirs["imageinfo"][0]["extmetadata"])
    assert "<a href=" in json.dumps(answer)


async def test_commons_wants_a_contact(site: Site) -> None:
    """A User-Agent without an address gets 403, with one an answer."""
    url = site.env["PIXCRAWLER_SOURCE_COMMONS_URL"]
    async with ClientSession() as nobody:
        for agent, status in (("python-requests/2.32", 403), (CONTACT["User-Agent"], 200)):
            async with nobody.get(url, params=FILES, headers={"User-Agent": agent}) as answer:
                assert answer.status == status


def test_commons_gives_only_what_is_asked_for(hits: Hits) -> None:
    """Only the properties of `iiprop`, no info without `prop=imageinfo`, 10 pages by default."""
    (info,) = next(iter(commons(hits, FILES | {"iiprop": "url"}).body["query"]["pages"].values()))[
        "imageinfo"
    ]
    assert set(info) == {"url", "descriptionurl", "descriptionshorturl"}
    bare = commons(hits, {name: value for name, value in FILES.items() if name != "prop"})
    assert len(bare.body["query"]["pages"]) == 10
    assert "imageinfo" not in json.dumps(bare.body)


def test_filters_in_a_commons_search_are_understood(hits: Hits) -> None:
    """`filetype:bitmap` and quotes do not hide what there is."""
    for query in ("Red  Panda", '"red panda" filetype:bitmap', "filetype:bitmap|drawing red panda"):
        assert "query" in commons(hits, FILES | {"gsrsearch": query}).body


def test_unknown_words_find_nothing(hits: Hits) -> None:
    """No results are an empty list at Openverse and no `query` at Commons."""
    assert openverse(hits, {"q": "unicorn"}, "").body["results"] == []
    assert commons(hits, FILES | {"gsrsearch": "unicorn"}).body == {"batchcomplete": ""}


def test_commons_explains_what_is_wrong() -> None:
    """Errors come with status 200, as MediaWiki has it."""
    for params in ({"action": "help"}, FILES | {"gsrsearch": ""}, FILES | {"gsrlimit": "many"}):
        answer = commons({}, params)
        assert (answer.status, set(answer.body["error"])) == (200, {"code", "info"})


async def test_searches_may_hiccup(client: ClientSession) -> None:
    """With hiccups planned, the first requests fail with 429 and 503, the next do not."""
    plan = plans.Plan((("photo", 4),), hiccups=1)
    async with hosting(plan, 1) as (site, server):
        assert isinstance(server, Server)
        asked = []
        for _ in range(2):
            async with client.get(openverse_url(site), params={"q": WORD}) as answer:
                asked.append((answer.status, answer.headers.get("Retry-After")))
            commons_url = site.env["PIXCRAWLER_SOURCE_COMMONS_URL"]
            async with client.get(commons_url, params=FILES) as answer:
                asked.append((answer.status, None))
        assert asked == [(429, "1"), (503, None), (200, None), (200, None)]
