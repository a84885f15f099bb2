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
        candidates: In a chunk.
    """

    def __init__(self, world: World, candidates: int) -> None:
        self._world = world
        self._candidates = candidates
        self._flaky = world.pick((0, 4, 12)) if world.chaos else 0
        self._shared = world.pick((2, 4, 8))
        self._overlap = world.pick((0.4, 0.7, 1.0))
        self._urls: dict[int, list[str]] = {}
        self.images: dict[str, int] = {}
        self.spooler = Spooler(1 << 30, Path(tempfile.gettempdir()))

    def urls(self, chunk: int) -> list[str]:
        """Those of a chunk; only its first two chunks have what others have as well."""
        if chunk not in self._urls:
            self._urls[chunk] = [self._imagine(chunk, place) for place in range(self._candidates)]
        return self._urls[chunk]

    def _imagine(self, chunk: int, place: int) -> str:
        world = self._world
        if chunk > 1 or world.chance() > self._overlap:
            image = 100 + chunk * 10 + place
        else:
            image = int(world.chance() * self._shared)
        url = f"https://web.test/{chunk}/{place}"
        if image < 100 and world.chance() < 0.3:
            url = f"https://web.test/shared/{image}"
        self.images[url] = image
        return url

    async def search(self, keyword: str, offset: int, limit: int) -> SearchPage:
        """A source's answer; tomorrow's differs."""
        await effect()
        urls = self.urls(int(keyword))[offset : offset + limit]
        if self._world.chance() < 0.3:
            urls = urls[::-1]
        return SearchPage(tuple(map(Result, urls)), exhausted=False)

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
