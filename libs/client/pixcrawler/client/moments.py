"""Times as people write them: a moment, or how long ago."""

import re
from datetime import UTC, datetime, timedelta

from pixcrawler.client.errors import USAGE, CommandError

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def iso(text: str) -> datetime | None:
    """A time (ISO 8601; UTC where it names no zone); None if it is none."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def since(text: str) -> datetime:
    """`90s`, `30m`, `24h`, `7d`: so long ago; else a time.

    Raises:
        CommandError: it is neither.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago:
            seconds = float(ago[1]) * _UNITS_S[ago[2]]
            return datetime.now(UTC) - timedelta(seconds=seconds)
        when = iso(text)
    except OverflowError:
        when = None
    if when is None:
        message = f"--since takes 90s, 30m, 24h, 7d or a time such as 2026-01-31T12:00, not {text}"
        raise CommandError(message, USAGE)
    return when
