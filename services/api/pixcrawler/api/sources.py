"""What can be searched, and what limits it has."""

from typing import Final

from pixcrawler.common.events import Value
from pixcrawler.common.ranges import URLS


class SourceInfo(Value):
    """A source as clients see it.

    Attributes:
        name: As in a job's `sources`.
        default: Whether a job without `sources` asks it.
        title: For people.
        homepage: Where it is described; empty for what the caller brings along.
        results_per_request: At most.
        results_per_search: At most; null where no limit is known.
        licenses: Whether it says under which licence an image may be used.
        note: What else there is to know.
    """

    name: str
    default: bool
    title: str
    homepage: str = ""
    results_per_request: int | None = None
    results_per_search: int | None = None
    licenses: bool
    note: str = ""


ALL: Final = (
    SourceInfo(
        name="openverse",
        default=True,
        title="Openverse",
        homepage="https://openverse.org",
        results_per_request=20,
        results_per_search=400,
        licenses=True,
        note="Anonymous: pages of at most 20, at most 20 pages; its rate limits are honoured.",
    ),
    SourceInfo(
        name="commons",
        default=True,
        title="Wikimedia Commons",
        homepage="https://commons.wikimedia.org",
        results_per_request=500,
        results_per_search=10_000,
        licenses=True,
        note="At most 2 connections to its media host, over all jobs.",
    ),
    SourceInfo(
        name=URLS,
        default=False,
        title="The caller's own list",
        licenses=False,
        note="The URLs that the job was created with.",
    ),
)

KNOWN: Final = tuple(source.name for source in ALL)
DEFAULT: Final = tuple(source.name for source in ALL if source.default)
