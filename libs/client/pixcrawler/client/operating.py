"""`pixcrawler audit`, and what operators do through the API: what was done, by whom, and why."""

from urllib.parse import quote

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


def steer(kind: str, name: str, action: str, reason: str | None, *, json: bool) -> int:
    """Pause, drain or resume something."""
    with connect() as api:
        path = f"/v1/{kind}s/{quote(name, safe='')}/{action}"
        answer = api.post(path, params={"reason": reason})
    if json:
        output.document(answer)
    else:
        output.result.print(told(answer), markup=False, soft_wrap=True)
    return 0


def told(control: Json) -> str:
    """What is stopped, since when and why, and how it goes on; or that it works."""
    kind, name = control["kind"], control["name"]
    if not control["paused"]:
        return f"{kind} {name} works again"
    since = output.moment(control["since"])
    why = f" ({control['reason']})" if control["reason"] else ""
    done = "drained" if kind == "replica" else "paused"
    resume = f"pixcrawler resume {kind} {name}"
    return f"{kind} {name} is {done} since {since:%Y-%m-%d %H:%M:%SZ}{why}; to end that: {resume}"


def replicas(*, json: bool) -> int:
    """The replicas, and how each is."""
    with connect() as api:
        items = list(api.pages("/v1/replicas"))
    if json:
        output.document({"items": items})
        return 0
    output.table(
        ("replica", "stage", "state", "in hand", "since", "seen"),
        [
            (
                each["worker"],
                each["stage"],
                each["state"] if each["alive"] else "silent",
                each["in_hand"],
                output.moment(each["started_at"]),
                output.moment(each["seen_at"]),
            )
            for each in items
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
