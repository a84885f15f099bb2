"""Where candidates come from: one module per source, all behind one small protocol."""

from typing import NamedTuple, Protocol


class Result(NamedTuple):
    """What a search says about one image; unknown text is empty.

    `license` is an SPDX identifier where there is one, else the service's own words.
    """

    url: str
    title: str = ""
    creator: str = ""
    license: str = ""
    license_url: str = ""
    landing_url: str = ""


class SearchPage(NamedTuple):
    """A stretch of a search.

    `exhausted`: the search has nothing more to give after these, now or later. Fewer candidates
    than asked for do not mean that: a service may leave out what is gone.
    """

    candidates: tuple[Result, ...]
    exhausted: bool


class Source(Protocol):
    """Something that can be searched."""

    async def search(self, keyword: str, offset: int, limit: int) -> SearchPage:
        """The results `offset` … `offset + limit - 1` for a keyword, as far as there are any.

        Raises:
            Retry: it does not answer, or asks for patience: nothing is known about its results.
            GiveUp: it refuses the question.
        """
        ...
