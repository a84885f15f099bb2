"""The jobs that a round runs, and what is to become of each."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pixcrawler.miniweb.site import Site
from pixcrawler.miniweb.truth import Truth
from tests.e2e.system import mixed

ENOUGH = 1000
"""More than there is."""


class Wish(StrEnum):
    """What a job is for."""

    EVERYTHING = "everything"
    """Scattered duplicates, all that there is."""
    NUMBER = "number"
    """The same, fewer than there are: exactly so many."""
    QUIET = "as in a quiet run"
    """Duplicates within chunks, more than there is: every archive as in a quiet run."""
    SEARCH = "search"
    """Keywords instead of URLs, every kind of page."""
    EXTENDED = "extended"
    """A number, and a second round with more."""
    CANCELLED = "cancelled"
    """Cancelled on its way."""
    DELETED = "deleted"
    """Deleted on its way."""


@dataclass(frozen=True, slots=True)
class Webs:
    """What there is to crawl."""

    small: Site
    """Every kind of page; the one that searches find."""
    scattered: Site
    """Groups of equal and nearly equal images, anywhere."""
    paired: Site
    """The same, side by side."""


@dataclass(frozen=True, slots=True)
class Order:
    """A job to be.

    Attributes:
        wish: What it is for.
        body: What the API is asked.
        truth: What must become of its URLs.
        number: Of images, where fewer are asked for than there are.
        more: Images that the second round asks for.
    """

    wish: Wish
    body: Mapping[str, Any] = field(hash=False)
    truth: Mapping[str, Truth] = field(hash=False)
    number: int | None = None
    more: int = 0


def orders(seed: str, webs: Webs) -> Iterator[Order]:
    """Jobs for ever: every wish once before any comes again, as the seed says."""
    dice = random.Random(seed)
    while True:
        wishes = list(Wish)
        dice.shuffle(wishes)
        for wish in wishes:
            yield _order(wish, webs, dice)


def quiet(webs: Webs) -> Order:
    """What every job of its kind is compared with."""
    urls = list(webs.paired.truth)
    return Order(Wish.QUIET, _listed(urls, ENOUGH), webs.paired.truth)


def _order(wish: Wish, webs: Webs, dice: random.Random) -> Order:
    if wish is Wish.QUIET:
        return quiet(webs)
    if wish is Wish.SEARCH:
        web = webs.small
        body = {"keywords": web.keywords, "sources": web.sources, "max_images": ENOUGH}
        return Order(wish, body, web.truth)
    web = webs.scattered
    urls = mixed(web.truth, seed=dice.getrandbits(32))
    if wish in {Wish.NUMBER, Wish.EXTENDED}:
        number = dice.randint(web.supply // 3, web.supply - 20)
        return Order(wish, _listed(urls, number), web.truth, number, more=dice.randint(1, 15))
    return Order(wish, _listed(urls, ENOUGH), web.truth)


def _listed(urls: list[str], number: int) -> dict[str, Any]:
    return {"urls": urls, "max_images": number}
