"""TCP ports of the loopback interface."""

import random
import socket
from collections.abc import Collection, Sequence

from .errors import StandaloneError

LOOPBACK = "127.0.0.1"
_RANGE = range(15_000, 32_000)  # Linux takes near ends from 32768 up, macOS and the IANA from 49152
_TRIES = 1000


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections linger in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def check_free(name: str, *ports: int) -> None:
    """Raise a `StandaloneError` if something listens where the component of this name wants to."""
    for port in ports:
        if not is_free(port):
            raise StandaloneError(
                f"{name} cannot listen on port {port}, it is taken: stop what listens there"
            )


def free_ports(count: int, avoid: Collection[int] = ()) -> tuple[int, ...]:
    """Ports that are free now, all different and none of ``avoid``.

    Not from the range that the kernel takes the near end of connections from: while a server is
    down, any connection could take its port there, even one that tries to reach it.
    """
    found: list[int] = []
    for _try in range(_TRIES):
        if len(found) == count:
            return tuple(found)
        port = random.choice(_RANGE)
        if port not in avoid and port not in found and is_free(port):
            found.append(port)
    raise StandaloneError(f"no free ports between {_RANGE.start} and {_RANGE.stop}: free some")


def keep_or_replace(wanted: Sequence[int | None]) -> tuple[int, ...]:
    """The wanted ports; a free one instead of None, of 0, and of what is taken or came before."""
    kept: list[int | None] = []
    for port in wanted:
        usable = port and port not in kept and is_free(port)
        kept.append(port if usable else None)
    fresh = iter(free_ports(kept.count(None), avoid=[port for port in kept if port is not None]))
    return tuple(next(fresh) if port is None else port for port in kept)
