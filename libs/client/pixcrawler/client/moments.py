"""Times as people write them: a moment, or how long ago."""

import re
from datetime import UTC, datetime, timedelta

from pixcrawler.client.errors import USAGE, CommandError

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def iso(text: str) -> datetime | None:
    """A time (ISO 8601; UTC where it names no zone); None if it is none."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def span(text: str, *, option: str) -> timedelta:
    """`90s`, `30m`, `24h`, `7d`.

    Raises:
        CommandError: it is none, or nothing.
    """
    found = _span(text)
    if not found:
        raise CommandError(f"{option} takes 90s, 30m, 24h or 7d, not {text}", USAGE)
    return found


def _span(text: str) -> timedelta | None:
    found = _SPAN.fullmatch(text.strip())
    return timedelta(seconds=float(found[1]) * _UNITS_S[found[2]]) if found else None


def since(text: str) -> datetime:
    """`90s`, `30m`, `24h`, `7d`: so long ago; else a time.

    Raises:
        CommandError: it is neither.
    """
    try:
        ago = _span(text)
        when = iso(text) if ago is None else datetime.now(UTC) - ago
    except OverflowError:
        when = None
    if when is None:
        message = f"--since takes 90s, 30m, 24h, 7d or a time such as 2026-01-31T12:00, not {text}"
        raise CommandError(message, USAGE)
    return when
