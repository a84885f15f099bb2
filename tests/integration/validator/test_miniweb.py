"""Every file that the miniature web serves is what its truth says."""

import gzip

import numpy as np
import pytest
from yarl import URL

from pixcrawler.common.outcomes import Outcome
from pixcrawler.miniweb import plans
from pixcrawler.miniweb.pages import Ports
from pixcrawler.miniweb.photos import Photos
from pixcrawler.miniweb.replies import Answer
from pixcrawler.miniweb.truth import Truth
from pixcrawler.miniweb.web import MiniWeb
from pixcrawler.validator.decision import Limits
from pixcrawler.validator.images import decide, digest

PORTS = Ports(9001, 9002, (9003, 9004, 9005, 9006), 9007, 9008, 9009)
OURS = {"kept", "corrupt", "not_image", "unsupported", "too_small", "bomb"}
"""Outcomes that the content decides."""


@pytest.fixture(scope="module")
def served() -> list[tuple[Truth, bytes]]:
    """What is served at once with status 200, and its truth."""
    web = MiniWeb(plans.demo_plan(), 1, PORTS)
    found = []
    for truth in web.truth.values():
        if truth.outcome not in OURS or not truth.url.startswith("http"):
            continue
        url = URL(truth.url)
        reply = web.reply(url.port or 0, url.raw_path_qs)
        if isinstance(reply, Answer) and reply.status == 200:
            packed = ("Content-Encoding", "gzip") in reply.headers
            found.append((truth, gzip.decompress(reply.body) if packed else reply.body))
    return found


def test_every_file_is_what_the_truth_says(served: list[tuple[Truth, bytes]]) -> None:
    """Outcome, digest, format, size; the hash within 4 bits of the full-size one."""
    assert len(served) >= 500
    assert {truth.outcome for truth, _ in served} == OURS
    wrong = []
    for truth, data in served:
        decision = decide(data, Limits())
        if str(decision.outcome or Outcome.KEPT) != truth.outcome:
            wrong.append((truth.kind, truth.outcome, decision))
            continue
        if truth.outcome != "kept":
            continue
        assert digest(data).hex() == truth.sha256
        assert decision.header is not None
        assert decision.header.format == truth.format
        if truth.width:
            assert (decision.header.width, decision.header.height) == (truth.width, truth.height)
        if truth.phash:
            assert decision.phash is not None
            assert (decision.phash ^ int(truth.phash, 16)).bit_count() <= 4
    assert wrong == []


def test_no_two_photographs_are_taken_for_one() -> None:
    """All tiles as they are served, hashed as we hash: any two are more than 6 bits apart."""
    photos = Photos.load()
    found = [decide(photos.jpeg(index), Limits()).phash for index in range(500)]
    values = np.array(found, dtype=np.uint64)
    apart = np.bitwise_count(values[:, None] ^ values[None, :])
    assert apart[~np.eye(len(values), dtype=bool)].min() > 6
