"""Where candidates come from: one module per source, all behind one small protocol."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from pixcrawler.common.controls import PAUSED_MARK, Control
from pixcrawler.common.errors import Retry


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


class Away(Retry):
    """A search cannot be asked now: nothing is known about its results.

    Args:
        message: Who, and why, for people.
        final: Whether asking again soon is known to be useless: its service wants more patience
            than we have, it rests, or it was asked often enough.
        rest_s: Seconds after which it is worth waiting for it; None where it is not.
    """

    def __init__(self, message: str, *, final: bool = False, rest_s: float | None = None) -> None:
        super().__init__(message, error="source_unavailable")
        self.final = final
        self.rest_s = rest_s


class Source(Protocol):
    """Something that can be searched."""

    async def search(self, keyword: str, offset: int, limit: int) -> SearchPage:
        """The results `offset` … `offset + limit - 1` for a keyword, as far as there are any.

        Raises:
            Away: it does not answer, or asks for patience: nothing is known about its results.
            GiveUp: it refuses the question.
        """
        ...


class Paused(Away):
    """Operators have paused the source: it is not asked, and did not fail either.

    Args:
        control: Who says so, and why.
    """

    def __init__(self, control: Control) -> None:
        super().__init__(f"{PAUSED_MARK}{control}", final=True)


class Pausable:
    """A source that is asked unless operators have paused it.

    Args:
        name: The source's.
        source: It.
        paused: Those that are paused, by name.
    """

    def __init__(
        self, name: str, source: Source, paused: Callable[[], Mapping[str, Control]]
    ) -> None:
        self._name = name
        self._source = source
        self._paused = paused

    async def search(self, keyword: str, offset: int, limit: int) -> SearchPage:
        """What the source answers.

        Raises:
            Paused: it is.
        """
        if (control := self._paused().get(self._name)) is not None:
            raise Paused(control)
        return await self._source.search(keyword, offset, limit)
