"""The miniature web as a value: what is served where, what the searches list, what is true."""

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

from pixcrawler.miniweb import hashes, network
from pixcrawler.miniweb.kinds import KINDS
from pixcrawler.miniweb.listings import Hit, describe
from pixcrawler.miniweb.pages import Forge, Land, Page, Ports, Routes, Tiles
from pixcrawler.miniweb.photos import Photos
from pixcrawler.miniweb.plans import COMMONS, LISTING_MAX, OPENVERSE, Plan
from pixcrawler.miniweb.replies import Flaky, Reply
from pixcrawler.miniweb.truth import Truth, supply

SECOND = 100_000
"""Added to the number of a result that another source lists already."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A page with its kind, and the name of its group or ``""``."""

    page: Page
    kind: str
    group: str = ""


class MiniWeb:
    """A whole web, made from a seed, a plan and the ports at which it will be served.

    Attributes:
        routes: what is served, by (port, path with query).
        hits: what each search lists, in its order, by (source, keyword).
        truth: what must become of every URL, by URL.
        supply: how many images a job that asks for everything keeps.
    """

    def __init__(self, plan: Plan, seed: int, ports: Ports, photos: Photos | None = None) -> None:
        self.plan = plan
        self.seed = seed
        self.ports = ports
        self.routes: Routes = {}
        units = self._units(Land(ports, self._tiles(photos), self.routes, plan.private_names))
        for number, port in enumerate(ports.media):
            self.routes[port, "/robots.txt"] = network.robots(number)
        self.hits = self._listings(units)
        self.truth = _truth(chain.from_iterable(units), self.hits)

    @cached_property
    def supply(self) -> int:
        """How many images a job that asks for everything keeps."""
        return supply(self.truth.values())

    def reply(self, port: int, path: str) -> Reply | Flaky | None:
        """What is served there; None if nothing is."""
        return self.routes.get((port, path))

    def _tiles(self, photos: Photos | None) -> Tiles:
        return Tiles(photos or Photos.load(), self.seed)

    def _units(self, land: Land) -> list[list[Entry]]:
        """Every page; those of a group together."""
        return [
            unit
            for name, count in self.plan.counts
            for number in range(count)
            for unit in _made(Forge(name, number, seed=self.seed, land=land))
        ]

    def _listings(self, units: list[list[Entry]]) -> Mapping[tuple[str, str], tuple[Hit, ...]]:
        rng = random.Random(f"{self.seed}:order")
        keys = [(source, word) for word in self.plan.keywords for source in self.plan.sources]
        ordered = _together(units, rng) if self.plan.together else _scattered(units, rng)
        dealt = _dealt(ordered, len(keys))
        numbers = iter(range(1, sum(map(len, dealt)) + 1))
        hits = {
            key: [self._hit(entry, next(numbers), *key) for entry in entries]
            for key, entries in zip(keys, dealt, strict=True)
        }
        photos = [entry.page.url for entry in ordered if entry.kind == "photo"]
        twice = self.plan.listed_twice
        self._list_twice(hits, frozenset(photos[:twice]))
        if not self.plan.together:
            for listed in hits.values():
                _end_with(frozenset(photos[twice:]), listed)
        for (source, word), listed in hits.items():
            if source == OPENVERSE and len(listed) > LISTING_MAX:
                raise ValueError(f"{len(listed)} results for {word!r}: Openverse shows 400")
        return {key: tuple(listed) for key, listed in hits.items()}

    def _hit(self, entry: Entry, number: int, source: str, keyword: str) -> Hit:
        picture = entry.page.picture
        image = (picture.width, picture.height, len(picture.data)) if picture else (0, 0, 0)
        return describe(entry.page.url, number, source, keyword, seed=self.seed, image=image)

    def _list_twice(self, hits: dict[tuple[str, str], list[Hit]], twice: frozenset[str]) -> None:
        """Lets the other source find some photographs as well, in the middle of its listing."""
        for (source, word), listed in [(key, list(value)) for key, value in hits.items()]:
            other = COMMONS if source == OPENVERSE else OPENVERSE
            for hit in listed:
                if hit.url in twice:
                    image = (hit.width, hit.height, hit.filesize)
                    number = hit.number + SECOND
                    again = describe(hit.url, number, other, word, seed=self.seed, image=image)
                    hits[other, word].insert(len(hits[other, word]) // 2, again)


def _made(forge: Forge) -> Iterator[list[Entry]]:
    kind = KINDS[forge.kind]
    pages = kind.make(forge)
    if kind.group:
        yield [Entry(page, forge.kind, f"{forge.kind}-{forge.number}") for page in pages]
    else:
        yield from ([Entry(page, forge.kind)] for page in pages)


def _scattered(units: list[list[Entry]], rng: random.Random) -> list[Entry]:
    entries = list(chain.from_iterable(units))
    rng.shuffle(entries)
    return entries


def _together(units: list[list[Entry]], rng: random.Random) -> list[Entry]:
    """Pairs stay pairs, each beginning at an even place; single pages fill the gaps in twos."""
    pairs = [unit for unit in units if len(unit) == 2]
    singles = _scattered([unit for unit in units if len(unit) == 1], rng)
    if len(pairs) * 2 + len(singles) != sum(map(len, units)):
        raise ValueError("together is for pairs")
    pairs += [singles[at : at + 2] for at in range(0, len(singles) - 1, 2)]
    rng.shuffle(pairs)
    return [*chain.from_iterable(pairs), *singles[len(singles) // 2 * 2 :]]


def _end_with(photos: frozenset[str], listed: list[Hit]) -> None:
    """Moves a photograph to the end, so that a job that keeps all it can has tried all before."""
    last = next((at for at in reversed(range(len(listed))) if listed[at].url in photos), None)
    if last is not None:
        listed.append(listed.pop(last))


def _dealt(entries: list[Entry], hands: int) -> list[list[Entry]]:
    """Dealt out two by two, so that pairs stay together."""
    twos = [entries[at : at + 2] for at in range(0, len(entries), 2)]
    return [list(chain.from_iterable(twos[hand::hands])) for hand in range(hands)]


def _truth(
    entries: Iterable[Entry], hits: Mapping[tuple[str, str], tuple[Hit, ...]]
) -> dict[str, Truth]:
    listings: dict[str, list[Hit]] = {}
    for hit in chain.from_iterable(hits.values()):
        listings.setdefault(hit.url, []).append(hit)
    return {entry.page.url: _true(entry, listings[entry.page.url]) for entry in entries}


def _true(entry: Entry, hits: list[Hit]) -> Truth:
    page = entry.page
    truth = Truth(
        url=page.url,
        kind=entry.kind,
        outcome=KINDS[entry.kind].outcome,
        listings=tuple(hit.listing for hit in hits),
        group=entry.group,
        final_url=page.final_url,
        http_status=page.http_status,
        detail=page.detail,
    )
    picture = page.picture
    if picture is None:
        return truth
    return replace(
        truth,
        sha256=picture.sha256,
        bytes=len(picture.data),
        format=picture.format,
        width=picture.width,
        height=picture.height,
        phash="" if picture.phash is None else hashes.hex_digits(picture.phash),
    )
