"""`pixcrawler audit`, and what operators do through the API: what was done, by whom, and why."""

import re
from datetime import UTC, datetime, timedelta

from pixcrawler.client import output
from pixcrawler.client.api import Json
from pixcrawler.client.connection import connect
from pixcrawler.client.errors import USAGE, CommandError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_AGO = re.compile(rf"(\d{{1,6}})([{''.join(_UNITS)}])", re.ASCII)


def audit(since: str | None, action: str | None, job_id: str | None, *, json: bool) -> int:
    """Lines of the audit log, the latest last: that is where a terminal is read."""
    start = None if since is None else parse_since(since).isoformat()
    with connect() as api:
        items = list(api.pages("/v1/audit", since=start, action=action, job_id=job_id, limit=200))
    if json:
        output.document({"items": items})
        return 0
    output.table(
        ("when", "who", "key", "what", "to", "details", "why"),
        [
            (
                output.moment(line["at"]),
                line["actor"] or "(desk)",
                line["key_id"],
                line["action"],
                line["subject"],
                details(line),
                line["reason"],
            )
            for line in reversed(items)
        ],
    )
    return 0


def details(line: Json) -> str:
    """What changed, in one line: `priority 5 → 9`."""
    return ", ".join(f"{name} {_shown(value)}" for name, value in line["details"].items())


def _shown(value: object) -> str:
    if isinstance(value, dict) and value.keys() == {"before", "after"}:
        return f"{value['before']} → {value['after']}"
    return str(value)


def parse_since(text: str) -> datetime:
    """`90s`, `30m`, `24h`, `7d` ago, or a time (ISO 8601; UTC where it names no zone)."""
    if ago := _AGO.fullmatch(text):
        number, unit = ago.groups()
        return datetime.now(UTC) - timedelta(**{_UNITS[unit]: int(number)})
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        message = f"--since takes 90s, 30m, 24h, 7d or a time such as 2026-01-31T12:00, not {text}"
        raise CommandError(message, USAGE) from error
    return when if when.tzinfo else when.replace(tzinfo=UTC)
