"""What the stages find outside, and the tools that they are given: nothing real, but exact."""

import hashlib
import tempfile
from pathlib import Path
from typing import cast

from pixcrawler.common.documents import Fetched
from pixcrawler.common.outcomes import Outcome
from pixcrawler.downloader.fetch import Answer, Fetcher
from pixcrawler.downloader.sources import Result, SearchPage
from pixcrawler.downloader.spool import Spooler
from pixcrawler.validator.decision import Decision, Header, Limits
from tests.model.handlers.process import effect
from tests.model.world import World

PREFIX = b"image "


class Web:
    """Images behind URLs, some of them the same.

    Args:
        world: Where chance comes from.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._flaky = world.pick((0, 4, 12)) if world.chaos else 0
        shared, overlap = world.pick((2, 4, 8)), world.pick((0.4, 0.7, 1.0))
        self.images: dict[str, int] = {}
        self.urls = [self._imagine(at, shared, overlap) for at in range(world.pick((8, 16, 40)))]
        self.spooler = Spooler(1 << 30, Path(tempfile.gettempdir()))

    def _imagine(self, place: int, shared: int, overlap: float) -> str:
        """What a search gives at this place: what comes early is often there once more."""
        world = self._world
        image, url = 100 + place, f"https://web.test/{place}"
        if place < 8 and world.chance() < overlap:
            image = int(world.chance() * shared)
            if world.chance() < 0.3:
                url = f"https://web.test/shared/{image}"
        self.images[url] = image
        return url

    async def search(self, keyword: str, offset: int, limit: int) -> SearchPage:
        """A source's answer; tomorrow's has another order."""
        del keyword
        await effect()
        urls = self.urls[offset : offset + limit]
        if self._world.chance() < 0.3:
            urls = urls[::-1]
        exhausted = offset + limit >= len(self.urls)
        return SearchPage(tuple(map(Result, urls)), exhausted=exhausted)

    async def fetch(self, position: int, url: str) -> Answer:
        """A fetcher's answer: the image, or that it is not there just now."""
        await effect()
        if self._flaky and self._world.chance() < 0.2:
            self._flaky -= 1
            return Answer(Fetched(position=position, outcome=Outcome.HTTP_ERROR), None)
        data = PREFIX + str(self.images[url]).encode()
        body = self.spooler.body()
        await body.write(data)
        return Answer(Fetched(position=position, bytes=len(data), final_url=url), body)

    @property
    def fetcher(self) -> Fetcher:
        """As the downloader knows it."""
        return cast("Fetcher", self)


def decide(data: bytes, limits: Limits, *, heavy: object = None) -> Decision:
    """What a file is, in place of the decoders."""
    del limits, heavy
    return Decision(
        None,
        header=Header("png", 64, 64),
        phash=int(data.removeprefix(PREFIX)),
        sha256=hashlib.sha256(data).digest(),
    )
