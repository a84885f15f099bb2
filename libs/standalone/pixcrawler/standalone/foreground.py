"""Standalone mode in this process, until a signal."""

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .events import OnEvent, ignore
from .options import UpOptions

if TYPE_CHECKING:
    from .supervisor import Supervisor

RELEASED = b"r"  # what a lifeline says when it means nothing any more


def up(
    options: UpOptions,
    on_event: OnEvent = ignore,
    *,
    environment: Mapping[str, str] | None = None,
    lifeline: int | None = None,
) -> None:
    """Run standalone mode until SIGINT, SIGTERM or SIGHUP; a second signal kills what is slow.

    To be called in the main thread, outside an event loop.

    Args:
        options: How to run.
        on_event: Called as things happen; ``running`` carries the status.
        environment: What the services inherit; ours by default.
        lifeline: A descriptor that means "stop" when it comes to its end, see `background`.

    Raises:
        StandaloneError: It could not start; then nothing of it runs.
    """
    from .supervisor import Supervisor  # heavy; most of the command never needs it

    inherited = os.environ if environment is None else environment
    asyncio.run(_run(Supervisor(options, inherited, on_event), lifeline))


async def _run(supervisor: "Supervisor", lifeline: int | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def stop_or_hurry() -> None:
        if stop.is_set():
            supervisor.hurry()
        stop.set()

    def read_lifeline(descriptor: int) -> None:
        loop.remove_reader(descriptor)
        if os.read(descriptor, 1) != RELEASED:
            stop.set()
        os.close(descriptor)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop_or_hurry)
    if lifeline is not None:
        loop.add_reader(lifeline, read_lifeline, lifeline)
    await supervisor.run(stop)
