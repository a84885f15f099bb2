"""What a supervisor tells while it works."""

from collections.abc import Callable
from typing import Literal

from pydantic import BaseModel, ConfigDict

from .probing import Status

Kind = Literal[
    "starting",  # a component or a step begins
    "ready",  # it serves, or is done
    "died",  # a component ended by itself; it is started again
    "running",  # everything is ready; `status` says where
    "stopping",
    "stopped",
    "failed",  # it cannot go on; `message` is one line that says what to do
]


class Event(BaseModel):
    """One thing that happened."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    component: str = ""
    message: str = ""
    status: Status | None = None


OnEvent = Callable[[Event], None]


def ignore(_event: Event) -> None:
    """Tell nobody."""
