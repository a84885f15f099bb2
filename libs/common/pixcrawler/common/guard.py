"""The guard against requests to where nobody outside may send us (SSRF).

It stands at three places, so that it holds for redirects, for names that resolve to private
addresses, and for names that resolve differently a moment later:

- `check_url` before each request: only http and https, and no address literal that is refused, in
  whichever spelling (aiohttp asks no resolver about literals);
- `GuardedResolver` keeps only addresses that may be reached, and the connector connects to exactly
  those: nothing is resolved twice;
- `socket` makes the sockets, and sees the very address that is about to be connected to.

An address of the allow-list counts only as it stands: 127.0.0.1 written as `2130706433` or as
`::ffff:127.0.0.1` stays refused, since nobody writes it so who means well.
"""

import asyncio
import socket
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
)
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

SCHEMES = frozenset({"http", "https"})
MAX_HOST = 253  # RFC 1035, 2.3.4: a name's octets

_METADATA = frozenset({IPv4Address("168.63.129.16")})
"""Services of clouds at global addresses: Azure's wire server. All others are not global anyway."""

_REFUSED_V4 = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments (RFC 6890); older Pythons know parts of it
    IPv4Network("192.88.99.0/24"),  # relays of 6to4 (RFC 7526): deprecated
)
_UNICAST_V6 = IPv6Network("2000::/3")
"""All of IPv6 that is assigned for global unicast (RFC 4291, 2.4 and IANA's registry)."""
_REFUSED_V6 = IPv6Network("3fff::/20")  # documentation (RFC 9637), unknown to older Pythons
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214, 6.1: interface identifiers


class Blocked(OSError):
    """An address or a scheme that must not be reached; the message says which."""


class Guard:
    """Decides which addresses may be reached.

    Args:
        allow: Networks that may be reached although they are private.
    """

    def __init__(self, allow: Sequence[Network] = ()) -> None:
        self._allow = tuple(allow)

    def check_url(self, url: URL) -> None:
        """Refuse what can be refused without a resolver.

        Raises:
            Blocked: another scheme, or the literal of a refused address.
            ValueError: no host, or one that cannot be a name.
        """
        if url.scheme not in SCHEMES:
            raise Blocked(f"the scheme {url.scheme or 'missing'!r}")
        host = url.raw_host
        if not host or len(host) > MAX_HOST or not (host.isascii() and host.isprintable()):
            raise ValueError("no valid host")
        literal = literal_address(host)
        if literal is None:
            return
        address, canonical = literal
        if not (self.permits(address) if canonical else is_public(address)):
            raise Blocked(f"the address {host}")

    def permits(self, address: Address) -> bool:
        """Whether a connection to this address may be made."""
        return is_public(address) or any(address in network for network in self._allow)

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an address that is about to be connected to (aiohttp's `socket_factory`).

        Raises:
            Blocked: the address must not be reached.
        """
        family, kind, proto, _, sockaddr = info
        if not self.permits(_parse(sockaddr[0])):
            raise Blocked(f"the address {sockaddr[0]}")
        return socket.socket(family=family, type=kind, proto=proto)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, for unicast.

    IPv6 forms that carry an IPv4 address (mapped, 6to4, NAT64) are as public as that one.
    """
    if isinstance(address, IPv4Address):
        return (
            address.is_global
            and not address.is_multicast
            and address not in _METADATA
            and not any(address in network for network in _REFUSED_V4)
        )
    embedded = _embedded(address)
    if embedded is not None:
        return is_public(embedded)
    return (
        address.is_global
        and address in _UNICAST_V6
        and address not in _REFUSED_V6
        and (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP
    )


def _embedded(address: IPv6Address) -> IPv4Address | None:
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def literal_address(host: str) -> tuple[Address, bool] | None:
    """The address that a host spells, and whether it is the usual spelling; None for a name.

    `127.1`, `0x7f.0.0.1`, `017700000001` and `2130706433` are spellings that system calls accept;
    an IPv6 address that embeds an IPv4 address never counts as usual.
    """
    bare = host.rstrip(".")
    if ":" in bare:
        address = _parse(bare)
        return address, isinstance(address, IPv6Address) and _embedded(address) is None
    try:
        packed = socket.inet_aton(bare)
    except OSError:
        return None
    address = IPv4Address(packed)
    return address, str(address) == host


def _parse(text: str) -> Address:
    return ip_address(text.partition("%")[0])


class GuardedResolver(AbstractResolver):
    """Resolves names in threads of its own, and gives only addresses that may be reached.

    Answers are cached for a while; what was given is what the connector connects to.

    Args:
        guard: Decides about addresses.
        ttl_s: Seconds for which an answer stands.
        threads: Names resolved at a time.
        size: Answers kept.
    """

    def __init__(
        self, guard: Guard, *, ttl_s: float = 60.0, threads: int = 16, size: int = 4096
    ) -> None:
        self._guard = guard
        self._ttl_s = ttl_s
        self._size = size
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolver")
        self._known: OrderedDict[tuple[str, int], tuple[float, list[tuple[int, str]]]] = (
            OrderedDict()
        )

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name that may be reached.

        Raises:
            Blocked: it has addresses, but none of them may be reached.
            socket.gaierror: it has none.
        """
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=found,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, address in await self._addresses(host, family)
        ]

    async def _addresses(self, host: str, family: int) -> list[tuple[int, str]]:
        loop = asyncio.get_running_loop()
        key = (host, family)
        known = self._known.get(key)
        if known is not None and known[0] > loop.time():
            return known[1]
        infos = await loop.run_in_executor(self._threads, _lookup, host, family)
        permitted = [info for info in infos if self._guard.permits(_parse(info[1]))]
        if infos and not permitted:
            raise Blocked(f"{host} resolves to {infos[0][1]}")
        self._known[key] = (loop.time() + self._ttl_s, permitted)
        self._known.move_to_end(key)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return permitted

    async def close(self) -> None:
        """Let go of the threads; a lookup that hangs is left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _lookup(host: str, family: int) -> list[tuple[int, str]]:
    infos = socket.getaddrinfo(
        host, None, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    found = [(int(info[0]), str(info[4][0])) for info in infos]
    return list(dict.fromkeys(found))
