"""The web is a pure function of its seed, its plan and its ports."""

import re
from collections import Counter
from dataclasses import replace
from itertools import chain

import pytest

from pixcrawler.miniweb import plans
from pixcrawler.miniweb.kinds import KINDS
from pixcrawler.miniweb.pages import OutOfTilesError, Ports
from pixcrawler.miniweb.photos import Photos
from pixcrawler.miniweb.plans import Plan
from pixcrawler.miniweb.truth import dump, load, supply
from pixcrawler.miniweb.web import MiniWeb

PORTS = Ports(9001, 9002, (9003, 9004, 9005, 9006), 9007, 9008, 9009)
OUTCOMES = {
    "kept", "corrupt", "not_image", "unsupported", "too_small", "bomb", "too_large", "http_error",
    "timeout", "network_error", "redirect", "blocked", "opted_out",
}  # fmt: skip


@pytest.fixture(scope="module")
def demo() -> MiniWeb:
    return MiniWeb(plans.demo_plan(), 1, PORTS)


@pytest.fixture(scope="module")
def small() -> MiniWeb:
    return MiniWeb(plans.small_plan(), 3, PORTS)


def test_the_same_seed_gives_the_same_web(small: MiniWeb) -> None:
    """Routes, search results and truth are equal, byte for byte."""
    other = MiniWeb(plans.small_plan(), 3, PORTS)
    assert small.truth == other.truth
    assert small.hits == other.hits
    assert dict(small.routes) == dict(other.routes)


def test_another_seed_gives_another_web() -> None:
    """Other URLs, in another order."""
    one, other = (MiniWeb(plans.tiny(20), seed, PORTS) for seed in (1, 2))
    assert not set(one.truth) & set(other.truth)


def test_ports_change_addresses_only(small: MiniWeb) -> None:
    """On other ports the same images are listed in the same order with the same words."""
    ports = replace(PORTS, media=(19003, 19004, 19005, 19006))
    there = MiniWeb(plans.small_plan(), 3, ports)
    assert [one.sha256 for one in small.truth.values()] == [
        one.sha256 for one in there.truth.values()
    ]
    words = [
        [hit.listing for hit in chain.from_iterable(web.hits.values())] for web in (small, there)
    ]
    assert words[0] == words[1]


def test_the_demo_has_what_the_demo_needs(demo: MiniWeb) -> None:
    """600 URLs or more, 300 kept or more, every outcome, nothing beyond what Openverse shows."""
    assert len(demo.truth) >= 600
    assert demo.supply >= 300
    assert {one.outcome for one in demo.truth.values()} == OUTCOMES
    assert {one.kind for one in demo.truth.values()} == set(KINDS) - {"private-name"}
    assert all(len(listed) <= 400 for listed in demo.hits.values())


@pytest.mark.parametrize("seed", range(2))
def test_every_url_is_listed_and_every_listed_url_is_true(seed: int) -> None:
    """The searches list the URLs of the plan, once each but for those listed by both."""
    plan = plans.small_plan()
    web = MiniWeb(plan, seed, PORTS)
    times = Counter(hit.url for hit in chain.from_iterable(web.hits.values()))
    assert set(times) == set(web.truth)
    assert Counter(times.values())[2] == plan.listed_twice
    for one in web.truth.values():
        assert len(one.listings) == times[one.url]


def test_listings_end_with_a_photograph(demo: MiniWeb) -> None:
    """A job that keeps all there is cannot stop before a listing's end: its last image is there."""
    assert {demo.truth[listed[-1].url].kind for listed in demo.hits.values()} == {"photo"}


def test_pairs_stay_together() -> None:
    """In a plan for one chunk the members of a group are neighbours, the first at an even place."""
    web = MiniWeb(plans.within_chunk_duplicates_plan(), 1, PORTS)
    groups = [web.truth[hit.url].group for listed in web.hits.values() for hit in listed]
    for at in range(0, len(groups) - 1, 2):
        assert groups[at] == groups[at + 1]
    assert len(set(groups)) == 21  # 20 pairs, and all that are in none


def test_a_good_plan_has_nothing_but_photographs() -> None:
    """A thousand of them fit into the listings of two keywords."""
    web = MiniWeb(plans.good_plan(1000), 1, PORTS)
    assert web.supply == len(web.truth) == 1000
    assert len(web.hits) == 4


def test_more_than_there_is_cannot_be_had() -> None:
    """The plan that asks for too many photographs is refused, not repeated."""
    with pytest.raises(OutOfTilesError, match="only"):
        MiniWeb(plans.tiny(6), 1, PORTS, Photos(Photos.load().tiles[:5]))


def test_an_unknown_kind_is_refused() -> None:
    """A typing error in a plan does not go unnoticed."""
    with pytest.raises(ValueError, match="foto"):
        Plan((("foto", 1),))


def test_licences_are_spdx_where_there_is_one(demo: MiniWeb) -> None:
    """All that the truth states are identifiers of SPDX, but Commons' own words."""
    stated = {it.license for one in demo.truth.values() for it in one.listings}
    words = {it for it in stated if not re.fullmatch(r"CC[0-9A-Z.-]+", it)}
    assert words == {"Public domain", "Attribution"}
    assert {"CC0-1.0", "CC-PDM-1.0", "CC-BY-SA-4.0", "CC-BY-SA-3.0-DE"} <= stated


def test_plan_and_truth_survive_json() -> None:
    """What goes to the child process and comes back is what was meant."""
    plan = plans.small_plan(("private.example",))
    assert Plan.from_json(plan.to_json()) == plan
    web = MiniWeb(plan, 1, PORTS)
    assert load(dump(web.truth)) == web.truth
    assert supply(load(dump(web.truth)).values()) == web.supply
