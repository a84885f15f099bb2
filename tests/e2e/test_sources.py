"""Sources that are away, or have nothing left for us: jobs go on with the others, or wait."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixcrawler.miniweb import plans, site
from pixcrawler.miniweb.plans import Plan
from pixcrawler.miniweb.site import Site
from pixcrawler.miniweb.truth import Truth
from tests.e2e import checks
from tests.e2e.system import STAGES, Json, System, running
from tests.e2e.waiting import until

SPENT_S = 2
"""So long a search says that its quota is spent: longer than the downloader waits here."""
SETTINGS = {
    "PIXCRAWLER_SOURCE_WAIT_S": "1.5",
    "PIXCRAWLER_BREAKER_FAILURES": "2",
    "PIXCRAWLER_BREAKER_RECOVERY_S": "0.5",
    "PIXCRAWLER_CHUNK_MAX_RETRIES": "1",
}
SOURCES = ("openverse", "commons")


@pytest.fixture(scope="module")
def good_web() -> Iterator[Site]:
    """Photographs, 40 by each of two searches for each of three keywords.

    A keyword for each test: what a search has answered is remembered for a while.
    """
    plan = Plan((("photo", 240),), keywords=plans.KEYWORDS[:3])
    with site.running(plan, seed=11) as web:
        yield web


@pytest.fixture(scope="module")
def own_system(good_web: Site) -> Iterator[System]:
    """A system of its own: what it remembers of a search would disturb other tests."""
    with running({**good_web.env, **SETTINGS}, dict.fromkeys(STAGES, 1)) as system:
        yield system


@pytest.fixture
def web(good_web: Site) -> Iterator[Site]:
    """The web, with both searches well in the end."""
    good_web.reset()
    yield good_web
    for source in SOURCES:
        good_web.set_mood(source, "well")


def start(system: System, keyword: str, number: int) -> str:
    """A job for a keyword at both sources."""
    return system.create(keywords=[keyword], sources=list(SOURCES), max_images=number)


def true_of(web: Site, keyword: str) -> dict[str, Truth]:
    """What is true of the images that a keyword finds."""
    return {
        url: true
        for url, true in web.truth.items()
        if any(listing.keyword == keyword for listing in true.listings)
    }


def reason(system: System, job: str) -> str:
    """Why its latest round ended as it did."""
    [row] = system.rows(
        "SELECT facts FROM job_rounds WHERE job_id = $1 ORDER BY round DESC LIMIT 1", job
    )
    told: Json = json.loads(row[0])
    return str(told["reason"])


def why(system: System, job: str, code: str) -> Json:
    """What is said of a job with this code at present; empty if nothing is."""
    reasons: list[Json] = system.api.get(f"/v1/jobs/{job}/explanation")["reasons"]
    return next((one for one in reasons if one["code"] == code), {})


def kept_by_source(system: System, job: str) -> Counter[str]:
    """How many images of each source are kept."""
    return Counter(str(row["source"]) for row in system.outcomes(job) if row["outcome"] == "kept")


def test_a_job_goes_on_with_the_source_that_answers(
    own_system: System, web: Site, tmp_path: Path
) -> None:
    """One has no quota left: no chunk fails, and the other gives all that was asked for."""
    web.set_mood("openverse", "spent", wait_s=SPENT_S)
    keyword = web.keywords[0]
    job = start(own_system, keyword, 35)
    assert own_system.finish(job)["status"] == "completed"
    checks.all_well(own_system, job, true_of(web, keyword), tmp_path, requested=35)
    assert kept_by_source(own_system, job) == {"commons": 35}
    chunks = own_system.chunks(job)
    assert {chunk["status"] for chunk in chunks} == {"completed"}
    assert {owed["source"] for chunk in chunks for owed in chunk["unanswered"]} == {"openverse"}
    assert "openverse" in chunks[0]["unanswered"][0]["reason"]


def test_what_was_not_answered_is_asked_for_in_the_next_round(
    own_system: System, web: Site, tmp_path: Path
) -> None:
    """More than one source has: incomplete; with both, a retry comes to exactly the number."""
    web.set_mood("openverse", "away")
    keyword = web.keywords[1]
    job = start(own_system, keyword, 70)
    assert own_system.finish(job)["status"] == "incomplete"
    assert reason(own_system, job) == "unavailable"
    assert kept_by_source(own_system, job)["openverse"] == 0

    web.set_mood("openverse", "well")
    own_system.api.post(f"/v1/jobs/{job}/retry")
    assert own_system.finish(job)["status"] == "completed"
    checks.all_well(own_system, job, true_of(web, keyword), tmp_path, requested=70)


def test_a_job_without_any_source_says_so_and_is_taken_up_again(
    own_system: System, web: Site, tmp_path: Path
) -> None:
    """Both away: it ends with the reason in plain words; a retry reaches the number."""
    for source in SOURCES:
        web.set_mood(source, "away")
    keyword = web.keywords[2]
    job = start(own_system, keyword, 60)  # more than either source has
    waits = until(
        "it is said why the job waits", lambda: why(own_system, job, "waits_after_failure")
    )
    assert waits["stage"] == "downloader"
    assert waits["worker"] in own_system.processes("downloader")
    assert "source_unavailable: " in waits["sentence"]
    assert own_system.finish(job)["status"] == "failed"
    assert reason(own_system, job) == "unavailable"
    assert why(own_system, job, "unavailable")
    said = own_system.chunks(job)[0]["error_message"]
    assert "openverse cannot be reached (" in said
    assert "commons cannot be reached (" in said

    for source in SOURCES:
        web.set_mood(source, "well")
    own_system.api.post(f"/v1/jobs/{job}/retry")
    assert own_system.finish(job)["status"] == "completed", own_system.chunks(job)
    checks.all_well(own_system, job, true_of(web, keyword), tmp_path, requested=60)
    assert set(kept_by_source(own_system, job)) == set(SOURCES)
