"""URLs that must not be fetched: private addresses in every spelling, other schemes.

The miniature web itself is at 127.0.0.1, which its users allow by a setting; so the private
targets are all other addresses. On some of them a listener records who comes (`trespass`).
"""

from pixcrawler.miniweb.pages import Forge, Page

LISTENING = (
    "127.0.0.2",
    "2130706434",  # 127.0.0.2 as one decimal number
    "0x7f000002",  # the same in hexadecimal
    "127.2",  # the same, shortened
    "[::ffff:127.0.0.2]",  # mapped into IPv6
    "[::ffff:7f00:2]",
    "[::1]",
    "0.0.0.0",  # noqa: S104 — a target, not an address to bind
    "[::]",
)
"""Hosts that lead to this machine, all but 127.0.0.1."""

ELSEWHERE = (
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",  # metadata of most clouds
    "100.100.100.200",  # metadata of Alibaba Cloud
    "[fd00:ec2::254]",  # metadata of AWS over IPv6
    "[fe80::1]",
    "[::ffff:10.0.0.1]",
)
"""Private, link-local and metadata addresses of other machines."""

SCHEMES = (
    "ftp://127.0.0.1/{name}.jpg",
    "file:///etc/{name}.jpg",
    "data:image/png;base64,iVBORw0KGgo{name}",
    "gopher://127.0.0.1/{name}",
    "file://localhost/etc/passwd?{name}",
)


def private(forge: Forge) -> list[Page]:
    """A private address; the spellings take turns."""
    hosts = LISTENING + ELSEWHERE
    host = hosts[forge.number % len(hosts)]
    port = f":{forge.ports.trespass}" if host in LISTENING else ""
    return [Page(f"http://{host}{port}/{forge.name()}.jpg", detail=host)]


def named(forge: Forge) -> list[Page]:
    """A name that resolves to a private address on this machine."""
    name = forge.private_names[forge.number % len(forge.private_names)]
    url = f"http://{name}:{forge.ports.trespass}/{forge.name()}.jpg"
    return [Page(url, detail=name)]


def scheme(forge: Forge) -> list[Page]:
    """Neither http nor https."""
    template = SCHEMES[forge.number % len(SCHEMES)]
    return [Page(template.format(name=forge.name().replace("%", "")))]


def behind(forge: Forge) -> str:
    """Where a redirect to a private address leads."""
    host = LISTENING[forge.number % len(LISTENING)]
    return f"http://{host}:{forge.ports.trespass}/{forge.name()}.jpg"


def metadata(_forge: Forge) -> str:
    """Where everyone tries first."""
    return "http://169.254.169.254/latest/meta-data/iam/security-credentials/"


def local_file(_forge: Forge) -> str:
    """A file of the machine that crawls."""
    return "file:///etc/passwd"


def ftp(_forge: Forge) -> str:
    """Another scheme."""
    return "ftp://127.0.0.1/photo.jpg"


def inline(_forge: Forge) -> str:
    """A redirect into itself."""
    return "data:image/gif;base64,R0lGODlhAQABAAAAACw="
