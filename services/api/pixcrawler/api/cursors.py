"""Where a list goes on: opaque to clients, a tuple of text and numbers to us."""

import base64
import json

from pixcrawler.api.problems import wrong_value


def dump(*position: str | int) -> str:
    """As clients carry it."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


def load(cursor: str, *kinds: type) -> tuple[str | int, ...]:
    """What `dump` was given.

    Raises:
        Problem: 422, it is not one of ours.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except ValueError:
        position = None
    if (
        not isinstance(position, list)
        or [type(part) for part in position] != list(kinds)
        or not all(map(_is_sane, position))
    ):
        raise wrong_value("cursor", "cursor is not one that a list has given")
    return tuple(position)


def _is_sane(part: str | int) -> bool:
    """Whether the database can be asked about it."""
    return part.isprintable() if isinstance(part, str) else 0 <= part < 1 << 31
