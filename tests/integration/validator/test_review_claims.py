"""Claims of one URL whose bytes differ from one request to the next."""

import hashlib

from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.outcomes import Outcome
from pixcrawler.validator.claims import Image, Ruling
from tests.integration.validator.ledger import Ledger


async def test_a_url_is_kept_once(engine: AsyncEngine) -> None:
    """A host that encodes anew at each request does not get its image kept twice by two chunks."""
    url = "https://cdn.example/1"
    ledger = await Ledger.open(engine, chunks=2, max_images=10)
    first = Image(0, url, hashlib.sha256(b"a").digest(), 0)
    again = Image(3, url, hashlib.sha256(b"b").digest(), (1 << 64) - 1)
    assert (await ledger.claim(0, [first], near=None))[0].outcome is Outcome.KEPT
    expected = {3: Ruling(Outcome.DUPLICATE, url)}
    assert await ledger.claim(1, [again], near=None) == expected
    assert await ledger.claim(1, [again], near=None) == expected
    assert len(await ledger.live()) == 1
