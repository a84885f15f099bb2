"""What must become of every URL of the miniature web."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

KEPT = "kept"
DUPLICATE = "duplicate"
NEAR_DUPLICATE = "near_duplicate"
SURPLUS = "surplus"


@dataclass(frozen=True, slots=True)
class Listing:
    """What a search says about a URL, in the words that belong into the dataset.

    `license` is the SPDX identifier where there is one, else the service's own words.
    """

    source: str
    keyword: str
    license: str
    license_url: str
    creator: str
    title: str
    landing_url: str


@dataclass(frozen=True, slots=True)
class Truth:
    """One URL's truth.

    `outcome` is `kept` for every image that may be kept. The members of a `group` are equal or
    nearly so: exactly one of them is kept, the others are `duplicate` of it where their bytes are
    the same and `near_duplicate` where they are not. Facts that do not apply are empty or 0:
    `sha256`, `bytes`, `format`, `width`, `height`, `phash` are stated for images that may be kept
    (width, height and phash only where they do not depend on the reader), `final_url` where
    redirects lead to an image, `http_status` for `http_error`.
    """

    url: str
    kind: str
    outcome: str
    listings: tuple[Listing, ...]
    group: str = ""
    sha256: str = ""
    bytes: int = 0
    format: str = ""
    width: int = 0
    height: int = 0
    phash: str = ""
    final_url: str = ""
    http_status: int = 0
    detail: str = ""

    @property
    def allowed(self) -> frozenset[str]:
        """The outcomes that are right for it, whatever happens to the others of its group."""
        if not self.group:
            return frozenset({self.outcome})
        return frozenset({KEPT, DUPLICATE, NEAR_DUPLICATE})

    def listing(self, source: str, keyword: str) -> Listing | None:
        """What the search of `source` for `keyword` says about it; None if it does not list it."""
        wanted = (source, keyword)
        return next((it for it in self.listings if (it.source, it.keyword) == wanted), None)

    @property
    def source(self) -> str:
        """The source that lists it first."""
        return self.listings[0].source

    @property
    def keyword(self) -> str:
        """The keyword under which it is listed first."""
        return self.listings[0].keyword

    @property
    def license(self) -> str:
        """The licence that its first listing states."""
        return self.listings[0].license

    @property
    def creator(self) -> str:
        """The creator that its first listing states."""
        return self.listings[0].creator

    @property
    def title(self) -> str:
        """The title in its first listing."""
        return self.listings[0].title

    @property
    def landing_url(self) -> str:
        """The landing page in its first listing."""
        return self.listings[0].landing_url


def supply(truth: Iterable[Truth]) -> int:
    """How many images a job can keep: every image of its own, and one of each group."""
    mays = [one for one in truth if one.outcome == KEPT]
    return sum(not one.group for one in mays) + len({one.group for one in mays if one.group})


def dump(truth: Mapping[str, Truth]) -> str:
    """As JSON, one URL after the other in their order."""
    return json.dumps([asdict(one) for one in truth.values()])


def load(text: str) -> dict[str, Truth]:
    """The reverse of `dump`, by URL."""
    return {one.url: one for one in map(_truth, json.loads(text))}


def _truth(row: dict[str, Any]) -> Truth:
    listings = tuple(Listing(**listing) for listing in row.pop("listings"))
    return Truth(listings=listings, **row)
