"""PixCrawler on one machine: broker, database and services as child processes.

`up` runs it in this process, `up_detached` in the background, `temporary` for the length of a
``with``; `down` stops it and `status` finds out about it, both from the data directory alone.
Everything that goes wrong is a `StandaloneError` with one line that says what to do.

What is named here is imported when it is first asked for: most commands only want to know whether
something runs, and where.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .background import down, temporary, up_detached
    from .errors import StandaloneError
    from .events import Event, OnEvent
    from .foreground import up
    from .options import Program, UpOptions, parse_scale
    from .probing import ComponentStatus, Status, status

__all__ = [
    "ComponentStatus",
    "Event",
    "OnEvent",
    "Program",
    "StandaloneError",
    "Status",
    "UpOptions",
    "down",
    "parse_scale",
    "status",
    "temporary",
    "up",
    "up_detached",
]

_ELSEWHERE = {
    "background": ("down", "temporary", "up_detached"),
    "errors": ("StandaloneError",),
    "events": ("Event", "OnEvent"),
    "foreground": ("up",),
    "options": ("Program", "UpOptions", "parse_scale"),
    "probing": ("ComponentStatus", "Status", "status"),
}


def __getattr__(name: str) -> Any:
    module = next((where for where, names in _ELSEWHERE.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)
