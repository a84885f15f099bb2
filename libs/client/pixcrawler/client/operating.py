"""`pixcrawler audit`, and what operators do through the API: what was done, by whom, and why."""

from pixcrawler.client import moments, output
from pixcrawler.client.api import Json
from pixcrawler.client.connection import connect


def audit(since: str | None, action: str | None, job_id: str | None, *, json: bool) -> int:
    """Lines of the audit log, the latest last: that is where a terminal is read."""
    start = None if since is None else moments.since(since).isoformat()
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
