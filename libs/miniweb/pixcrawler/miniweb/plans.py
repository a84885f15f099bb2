"""What a miniature web consists of: how many pages of each kind, under which keywords."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from pixcrawler.miniweb import kinds
from pixcrawler.miniweb.kinds import Kind

OPENVERSE = "openverse"
COMMONS = "commons"
KEYWORDS = ("red panda", "lighthouse", "waterfall", "market hall", "dry stone wall")
LISTING_MAX = 400
"""Results that Openverse shows to the anonymous: 20 pages of 20."""

FAST = (
    kinds.FORMATS,
    kinds.HTTP_ERROR,
    kinds.REDIRECT,
    kinds.BLOCKED,
    kinds.OPTED_OUT,
    kinds.CORRUPT,
    kinds.NOT_IMAGE,
    kinds.UNSUPPORTED,
    kinds.TOO_SMALL,
    kinds.BOMB,
    kinds.TOO_LARGE,
)
SLOW = (kinds.RECOVERING, kinds.TIMEOUT, kinds.NETWORK_ERROR)


@dataclass(frozen=True, slots=True)
class Plan:
    """A web: `counts` pages (or groups) of each kind, spread over sources and keywords.

    `listed_twice` photographs are found by both sources. `together`: the members of a group stand
    side by side in one listing, the first at an even place, so that they share a chunk.
    `hiccups`: this many requests of each search fail before it answers. `media_hosts`: 3 at least.
    `private_names` resolve to private addresses on this machine (kind `private-name`).
    """

    counts: tuple[tuple[str, int], ...]
    keywords: tuple[str, ...] = KEYWORDS[:1]
    sources: tuple[str, ...] = (OPENVERSE, COMMONS)
    listed_twice: int = 0
    together: bool = False
    hiccups: int = 0
    media_hosts: int = 4
    private_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted({name for name, _ in self.counts} - set(kinds.KINDS))
        if unknown:
            raise ValueError(f"unknown kinds: {', '.join(unknown)}")

    def to_json(self) -> str:
        """For `from_json`, in another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The reverse of `to_json`."""
        fields = json.loads(text)
        counts = tuple((name, number) for name, number in fields.pop("counts"))
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(counts=counts, **(fields | lists))


def demo_plan(private_names: tuple[str, ...] = ()) -> Plan:
    """Everything there is: 700 URLs or so, 450 images to keep, two keywords, every fault."""
    counts = (
        _each(FAST, 2)
        | _each(SLOW, 2)
        | _each((kinds.GROUPS,), 3)
        | {"photo": 350, "private": 17, "scheme": 5, "redirect-private": 9}
        | {"equal-pair": 8, "html-as-jpeg": 6, "status-404": 10, "status-403": 5, "jpeg-cut-60": 6}
    )
    return Plan(
        _pairs(counts, private_names),
        keywords=KEYWORDS[:2],
        listed_twice=5,
        private_names=private_names,
    )


def small_plan(private_names: tuple[str, ...] = ()) -> Plan:
    """Every kind once, some photographs: 150 URLs or so for the end-to-end tests."""
    counts = (
        _each(FAST, 1)
        | _each(SLOW, 1)
        | _each((kinds.GROUPS,), 1)
        | {"photo": 25, "private": 4, "scheme": 2}
    )
    return Plan(_pairs(counts, private_names), listed_twice=2, private_names=private_names)


def good_plan(number: int) -> Plan:
    """Nothing but `number` photographs; as many keywords as their listings need."""
    needed = -(-number // (2 * LISTING_MAX))
    return Plan((("photo", number),), keywords=KEYWORDS[: max(1, needed)])


def tiny(number: int) -> Plan:
    """A handful of photographs from one source."""
    return Plan((("photo", number),), sources=(OPENVERSE,))


def within_chunk_duplicates_plan(photos: int = 120, pairs: int = 20) -> Plan:
    """Photographs, and equal and near-equal pairs whose members share a chunk."""
    near = pairs // 2
    counts = (("photo", photos), ("equal-pair", pairs - near), ("poor-copy", near))
    return Plan(counts, sources=(COMMONS,), together=True)


def scattered_duplicates_plan(photos: int = 60, groups: int = 20) -> Plan:
    """Photographs, and groups whose members are anywhere: in other chunks, too."""
    third = groups // 3
    counts = (
        ("photo", photos),
        ("equal-triple", third),
        ("mixed", third),
        ("smaller-copy", groups - 2 * third),
    )
    return Plan(counts, keywords=KEYWORDS[:2])


NAMED = {"demo": demo_plan, "small": small_plan}
"""The plans that need the names of this machine's private addresses."""

NUMBERED = {"good": good_plan, "tiny": tiny}
"""The plans that take a number."""


def _each(tables: Iterable[Mapping[str, Kind]], number: int) -> dict[str, int]:
    return {name: number for table in tables for name in table}


def _pairs(counts: dict[str, int], private_names: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """The counts in a fixed order; `private-name` only where there are names to use."""
    named = counts | {"private-name": len(private_names)}
    return tuple((name, number) for name, number in named.items() if number)
