"""Which addresses may be reached, in whichever spelling."""

import socket
from ipaddress import ip_address, ip_network

import pytest
from yarl import URL

from pixcrawler.common.guard import Blocked, Guard, GuardedResolver, is_public

PRIVATE = (
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2a00:1450::5efe:7f00:1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
)
PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "172.15.0.1",
    "185.15.59.240",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
    "2620:0:862:ed1a::2:b",
)


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_of_the_public_internet_are_refused(address: str) -> None:
    """Private, loopback, link-local, metadata, multicast, reserved; also embedded in IPv6."""
    assert not is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_reached(address: str) -> None:
    """IPv6 that embeds a public IPv4 address is as public as that."""
    assert is_public(ip_address(address))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0x7f000001",
        "0x7f.0.0.1",
        "0X7F.1",
        "127.0.0.1.",
        "10.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:7f00:0001]",
        "[64:ff9b::7f00:1]",
        "[fe80::1%25eth0]",
        "①②⑦.⓪.⓪.①",
    ],
)
def test_literals_are_read_as_system_calls_read_them(host: str) -> None:
    """Decimal, octal, hexadecimal, shortened, mapped: a private address is one."""
    with pytest.raises(Blocked):
        Guard().check_url(URL(f"http://{host}/x"))


@pytest.mark.parametrize(
    "url", ["ftp://a.example/x", "file:///etc/passwd", "data:image/png;base64,x", "x.jpg", "//a/b"]
)
def test_other_schemes_are_refused(url: str) -> None:
    """Only http and https."""
    with pytest.raises(Blocked):
        Guard().check_url(URL(url))


@pytest.mark.parametrize("url", ["http:///x", f"http://{'a' * 254}/", "http://a\x07b/"])
def test_what_cannot_be_a_host_is_no_address(url: str) -> None:
    """Told apart from what is refused."""
    with pytest.raises(ValueError, match="host"):
        Guard().check_url(URL(url, encoded=True))


def test_the_allow_list_counts_only_for_the_usual_spelling() -> None:
    """127.0.0.1 is allowed, and nothing that only amounts to it."""
    guard = Guard([ip_network("127.0.0.1/32")])
    guard.check_url(URL("http://127.0.0.1:8000/x"))
    for host in ("127.1", "2130706433", "[::ffff:127.0.0.1]", "127.0.0.2", "127.0.0.1.", "[::1]"):
        with pytest.raises(Blocked):
            guard.check_url(URL(f"http://{host}/x"))


def test_no_socket_is_made_for_a_refused_address() -> None:
    """The last gate sees the very address that is about to be connected to."""
    guard = Guard([ip_network("127.0.0.1/32")])
    guard.socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))).close()
    with pytest.raises(Blocked):
        guard.socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 80)))
    with pytest.raises(Blocked):
        guard.socket((socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1%lo", 80, 0, 1)))


async def test_a_resolver_gives_only_what_may_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a mixed answer the public addresses stay; a private one alone is refused."""
    answers = {"mixed": ["10.0.0.1", "8.8.8.8", "::1"], "inside": ["10.0.0.1", "fd00::1"]}

    def lookup(host: str, *_: object, **__: object) -> object:
        return [
            (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 0))
            for a in answers[host]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    resolver = GuardedResolver(Guard())
    try:
        found = await resolver.resolve("mixed", 80)
        assert [(one["host"], one["port"]) for one in found] == [("8.8.8.8", 80)]
        answers["mixed"] = ["1.1.1.1"]
        again = await resolver.resolve("mixed", 443)
        assert [(one["host"], one["port"]) for one in again] == [("8.8.8.8", 443)]
        with pytest.raises(Blocked, match=r"inside resolves to 10\.0\.0\.1"):
            await resolver.resolve("inside", 80)
    finally:
        await resolver.close()
