"""Names of this machine for addresses that nobody may fetch from."""

import socket
from ipaddress import ip_address

from pixcrawler.miniweb.server import HOME

CANDIDATES = ("ip6-localhost", "ip6-loopback", "localhost6")
"""Names that /etc/hosts has on many machines; the machine's own name comes in addition."""


def private_names() -> tuple[str, ...]:
    """Names that resolve here, without a network, to private addresses other than 127.0.0.1.

    May be empty: not every machine has such a name.
    """
    names = dict.fromkeys((*CANDIDATES, socket.gethostname()))
    return tuple(name for name in names if _is_private(name))


def _is_private(name: str) -> bool:
    try:
        found = {info[4][0] for info in socket.getaddrinfo(name, 80)}
    except OSError:
        return False
    return HOME not in found and all(ip_address(address).is_private for address in found)
