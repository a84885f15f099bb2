"""Every URL of the miniature web, through the fetcher alone, against the web's own truth."""

import asyncio
import hashlib
from pathlib import Path

from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.outcomes import Outcome
from pixcrawler.downloader.fetch import Answer, Fetcher
from pixcrawler.miniweb.names import private_names
from pixcrawler.miniweb.plans import small_plan
from pixcrawler.miniweb.site import running
from pixcrawler.miniweb.truth import Truth
from tests.integration.downloader.harness import settings, tools

OURS = frozenset(
    {
        Outcome.TOO_LARGE,
        Outcome.HTTP_ERROR,
        Outcome.TIMEOUT,
        Outcome.NETWORK_ERROR,
        Outcome.REDIRECT,
        Outcome.BLOCKED,
        Outcome.OPTED_OUT,
    }
)
"""The outcomes that the downloader decides; everything else has bytes for the validator."""


async def test_every_url_has_the_outcome_that_the_truth_says(database: str, tmp_path: Path) -> None:
    """Each fault is told apart; what is no fault of the network arrives with the served bytes."""
    with running(small_plan(private_names())) as site:
        told = settings(database, fetch_timeout_s=1.0, fetch_deadline_s=4.0, fetch_per_host=32)
        async with tools(told, LocalBlobs(tmp_path)) as made:
            answers = await asyncio.gather(
                *(_checked(made.fetcher, position, url) for position, url in enumerate(site.truth))
            )
        state = await asyncio.to_thread(site.state)
    wrong = [
        f"{truth.kind} {truth.url}: {answer.fetched.outcome} ({answer.fetched.detail}), "
        f"not {truth.outcome}"
        for truth, (answer, digest) in zip(site.truth.values(), answers, strict=True)
        if not _agrees(truth, answer, digest)
    ]
    assert wrong == []
    assert state["trespasses"] == []


async def _checked(fetcher: Fetcher, position: int, url: str) -> tuple[Answer, str]:
    answer = await fetcher.fetch(position, url)
    if answer.body is None:
        return answer, ""
    data = await answer.body.read()
    answer.body.close()
    assert len(data) == answer.fetched.bytes
    return answer, hashlib.sha256(data).hexdigest()


def _agrees(truth: Truth, answer: Answer, digest: str) -> bool:
    fetched = answer.fetched
    if truth.outcome in OURS:
        status = truth.http_status in {0, fetched.http_status}
        return fetched.outcome == truth.outcome and status and answer.body is None
    final_url = truth.final_url or truth.url
    return (
        fetched.outcome is None
        and truth.sha256 in {"", digest}
        and fetched.http_status == 200
        and fetched.final_url == final_url
    )
