"""TCP ports of the loopback interface."""

import socket
from collections.abc import Collection, Sequence

LOOPBACK = "127.0.0.1"


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


def free_ports(count: int, avoid: Collection[int] = ()) -> tuple[int, ...]:
    """Ports that are free now, all different and none of ``avoid``.

    All are held until the last one is found, so the kernel does not hand one out twice.
    """
    held: list[socket.socket] = []
    found: list[int] = []
    try:
        while len(found) < count:
            probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            held.append(probe)
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
            if port not in avoid:
                found.append(port)
    finally:
        for probe in held:
            probe.close()
    return tuple(found)


def keep_or_replace(wanted: Sequence[int | None]) -> tuple[int, ...]:
    """The wanted ports; a free one instead of None, of 0, and of what is taken or came before."""
    kept: list[int | None] = []
    for port in wanted:
        usable = port and port not in kept and is_free(port)
        kept.append(port if usable else None)
    fresh = iter(free_ports(kept.count(None), avoid=[port for port in kept if port is not None]))
    return tuple(next(fresh) if port is None else port for port in kept)
