"""PixCrawler on one machine: broker, database and services as child processes.

`up` runs it in this process, `up_detached` in the background, `temporary` for the length of a
``with``; `down` stops it and `status` finds out about it, both from the data directory alone.
Everything that goes wrong is a `StandaloneError` with one line that says what to do.
"""

from .background import down, temporary, up_detached
from .errors import StandaloneError
from .events import Event, OnEvent
from .foreground import up
from .options import Program, UpOptions, parse_scale
from .status import ComponentStatus, Status, status

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
