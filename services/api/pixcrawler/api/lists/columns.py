"""Which column is what: as the caller says, else by the names that lists are usually found with."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from pixcrawler.api.lists.files import Refused
from pixcrawler.common.url_lists import ListedRow

FIELDS: Final = ListedRow._fields

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "url": (
        "url",
        "image_url",
        "imageurl",
        "img_url",
        "image",
        "image_link",
        "link",
        "src",
        "href",
        "uri",
        "image_src",
        "image_uri",
        "content_url",
        "contenturl",
        "original_url",
        "originalurl",
        "download_url",
        "file_url",
        "media_url",
    ),
    "title": (
        "caption",
        "title",
        "text",
        "alt",
        "alt_text",
        "alttext",
        "description",
        "top_caption",
        "label",
    ),
    "creator": ("creator", "author", "artist", "photographer", "credit", "attribution"),
    "license": ("license", "licence", "license_name", "licence_name", "rights"),
    "license_url": (
        "license_url",
        "licence_url",
        "licenseurl",
        "license_link",
        "licence_link",
        "rights_url",
    ),
    "landing_url": (
        "landing_url",
        "foreign_landing_url",
        "originallandingurl",
        "landing_page",
        "page_url",
        "pageurl",
        "page",
        "page_link",
        "source_url",
        "source_page",
        "permalink",
    ),
}
"""Names of columns, the best first; case, spaces and dashes do not matter."""

_URL = re.compile(r"\s*https?://", re.IGNORECASE)


class Columns:
    """Where a table has what.

    Args:
        names: As the table calls its columns; of a table without such a line, their numbers from 1.
        asked: Field → name, as the caller says.
        called: What the file is called, for messages.
        first: The first row of a table without names, by which its columns are found.

    Raises:
        Refused: a column that was asked for is not there, or none has the URLs.

    Attributes:
        places: For each of `FIELDS` the number of its column from 0, None if there is none.
    """

    def __init__(
        self,
        names: Sequence[str],
        asked: Mapping[str, str],
        called: str,
        first: Sequence[str] | None = None,
    ) -> None:
        self.names = tuple(name.strip() for name in names)
        found = _found(self.names) if first is None else _guessed(first)
        found |= {field: self._asked(name, called) for field, name in asked.items()}
        if "url" not in found:
            raise Refused(
                f"{called} has no column that is known to hold URLs (there are: "
                f"{_some(self.names)}): name it with url_column"
            )
        self.places = tuple(found.get(field) for field in FIELDS)

    @property
    def found(self) -> dict[str, str]:
        """Field → the table's name for it."""
        places = zip(FIELDS, self.places, strict=True)
        return {field: self.names[place] for field, place in places if place is not None}

    def _asked(self, name: str, called: str) -> int:
        if name in self.names:
            return self.names.index(name)
        plain = [_plain(known) for known in self.names]
        if _plain(name) in plain:
            return plain.index(_plain(name))
        raise Refused(f"{called} has no column {name!r}; there are: {_some(self.names)}")


def is_header(first: Sequence[str]) -> bool:
    """Whether a table's first row has the names of its columns: no URL among them."""
    return not any(map(_URL.match, first))


def numbered(count: int) -> tuple[str, ...]:
    """What the columns of a table without names are called."""
    return tuple(str(number + 1) for number in range(count))


def _found(names: Sequence[str]) -> dict[str, int]:
    plain = [_plain(name) for name in names]
    found: dict[str, int] = {}
    for field, known in NAMES.items():
        for name in known:
            if name in plain:
                found[field] = plain.index(name)
                break
    return found


def _guessed(first: Sequence[str]) -> dict[str, int]:
    """Without names: the first URL is it, and if there is just one more column, its title."""
    url = next(place for place, value in enumerate(first) if _URL.match(value))
    return {"url": url} | ({"title": 1 - url} if len(first) == 2 else {})  # noqa: PLR2004 - a pair


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _some(names: Sequence[str], most: int = 20) -> str:
    more = ", …" if len(names) > most else ""
    return ", ".join(name[:50] for name in names[:most]) + more
