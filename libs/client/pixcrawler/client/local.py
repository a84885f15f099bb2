"""`pixcrawler up`, `down`, `status`: standalone mode."""

from pathlib import Path

from pixcrawler import standalone
from pixcrawler.client import output
from pixcrawler.client.connection import data_dir
from pixcrawler.client.errors import DONE, FAILED, USAGE, CommandError
from pixcrawler.standalone import StandaloneError, Status, UpOptions
from pixcrawler.standalone.options import SERVICES

STOP_TIMEOUT_S = 120.0
"""Longer than the services' grace period, Kafka and PostgreSQL together."""


def up(
    folder: Path | None,
    port: int | None,
    scale: str,
    brokers: int | None,
    *,
    bare: bool,
    detach: bool,
    json: bool,
) -> int:
    """Run everything on this machine; `bare`: all but the services."""
    try:
        options = UpOptions(
            data_dir=data_dir(folder),
            port=port,
            scale=dict(standalone.parse_scale(scale)),
            brokers=brokers,
            programs=() if bare else SERVICES,
        )
        options.replicas()
    except (ValueError, StandaloneError) as error:
        raise CommandError(_reason(error), USAGE) from error

    def tell(event: standalone.Event) -> None:
        if event.kind == "running" and event.status is not None:
            _tell(event.status, json=json, key=output.result.is_terminal)
        else:
            say(event)

    if detach:
        standalone.up_detached(options, tell)
    else:
        standalone.up(options, tell)
    return DONE


def say(event: standalone.Event) -> None:
    """One line for people of what happens while it starts and runs."""
    if event.kind in {"starting", "died", "stopping"}:
        output.note(" ".join(filter(None, (event.kind, event.component, event.message))))


def down(folder: Path | None, *, json: bool) -> int:
    """Stop it; returns when every process has ended."""
    stopped = standalone.down(data_dir(folder), STOP_TIMEOUT_S)
    if json:
        output.document({"stopped": stopped, "data_dir": str(data_dir(folder))})
    else:
        output.note("stopped" if stopped else "nothing was running")
    return DONE


def status(folder: Path | None, *, json: bool) -> int:
    """What runs here."""
    found = standalone.status(data_dir(folder))
    _tell(found, json=json, key=True)
    return DONE if found.running else FAILED


def _tell(found: Status, *, json: bool, key: bool) -> None:
    """What runs; `key`: with a link that signs in, which does not belong into logs."""
    if json:
        output.document(found.model_dump(mode="json"))
        return
    if not found.running:
        output.note(f"nothing runs in {found.data_dir}: start it with `pixcrawler up`")
        return
    if found.phase != "running":
        output.result.print(f"PixCrawler in {found.data_dir} is {found.phase}", markup=False)
    elif found.api_url is None:
        output.result.print("Kafka and PostgreSQL run, without any service", markup=False)
    else:
        output.result.print(f"PixCrawler answers at {found.api_url}", markup=False)
        if key:
            link = f"{found.api_url}/#key={found.api_key}"  # what follows # is sent to nobody
            output.result.print(f"the page, signed in: {link}", markup=False, soft_wrap=True)
    output.table(
        ("component", "pid", "address", "healthy", "restarts"),
        [
            (c.name, c.pid, c.address, "yes" if c.healthy else "no", c.restarts)
            for c in found.components
        ],
    )


def _reason(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    if callable(errors):
        first = errors()[0]
        message = str(first["msg"]).removeprefix("Value error, ")
        return f"--{'.'.join(map(str, first['loc'])) or 'options'}: {message}"
    return str(error)
