"""The background of standalone mode; `background` starts it."""

import os
import sys
import traceback
from datetime import UTC, datetime

from .background import Order
from .errors import StandaloneError
from .events import Event
from .foreground import up


class Report:
    """Tells the caller what happens until everything is ready, and the log for ever."""

    def __init__(self, descriptor: int) -> None:
        """``descriptor`` is the caller's end of a pipe."""
        self._descriptor: int | None = descriptor

    def __call__(self, event: Event) -> None:
        """Pass an event on."""
        if event.kind != "ready":
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            sys.stderr.write(f"{now} {event.kind} {event.component} {event.message}".rstrip())
            sys.stderr.write("\n")
            sys.stderr.flush()
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, event.model_dump_json().encode() + b"\n")
        finally:
            # After a failure the end of the pipe is the end of this process.
            if event.kind == "running":
                os.close(self._descriptor)
                self._descriptor = None


def main() -> int:
    """Do what standard input says, as nobody's child."""
    if sys.stdin.isatty():
        sys.exit("this is the background of standalone mode: use `pixcrawler up`")
    order = Order.model_validate_json(sys.stdin.buffer.read())
    if os.fork():
        os._exit(0)
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is what is needed
        os.dup2(nothing.fileno(), 0)
    report = Report(order.report)
    try:
        up(order.options, report, lifeline=order.lifeline)
    except StandaloneError as error:
        report(Event(kind="failed", message=str(error)))
        return 1
    except Exception as error:  # noqa: BLE001 - the caller waits for a word, whatever went wrong
        traceback.print_exc()
        report(Event(kind="failed", message=f"{type(error).__name__}: {error}"))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
