"""Whom pods may reach, as the network policies say it."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from deploy.documents import Document, Documents, name_of, of_kind

FENCED = {"pixcrawler.io/network": "fenced"}
"""The label of pods that reach, and are reached by, nothing but what is said."""
_FEW_HOSTS = 24
PRIVATE = (
    "0.0.0.1", "10.0.0.1", "10.255.255.255", "100.64.0.1", "127.0.0.1", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.88.99.1",
    "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "100::1", "2001::1", "2001:db8::1",
    "2002:a00:1::",    "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1",
)  # fmt: skip
"""Addresses of every range that `pixcrawler.common.guard` refuses."""


def network(documents: Documents) -> Iterator[str]:
    """Only the downloader and the api reach the internet, and nobody there a private address."""
    policies = of_kind(documents, "NetworkPolicy")
    for policy in policies:
        wide = [block for block in _blocks(policy) if _is_wide(block)]
        if wide and _selected(policy["spec"]["podSelector"]) != {"api", "downloader"}:
            yield f"{name_of(policy)}: others than the downloader and the api reach the internet"
        for address in PRIVATE:
            if any(_reaches(block, address) for block in wide):
                yield f"{name_of(policy)}: {address} can be reached"
    if not any(map(_closes_all, policies)):
        yield "no NetworkPolicy closes what the others do not open"


def _blocks(policy: Document) -> list[Document]:
    return [
        peer["ipBlock"]
        for rule in policy["spec"].get("egress", [])
        for peer in rule.get("to", [])
        if "ipBlock" in peer
    ]


def _is_wide(block: Document) -> bool:
    """Whether it is more than the few machines of a service that is meant."""
    return ip_network(block["cidr"]).prefixlen < _FEW_HOSTS


def _closes_all(policy: Document) -> bool:
    spec = policy["spec"]
    return bool(
        spec["podSelector"].get("matchLabels") == FENCED
        and spec["policyTypes"] == ["Ingress", "Egress"]
        and not {"ingress", "egress"} & spec.keys()
    )


def _selected(selector: Document) -> set[str]:
    names = {
        value
        for each in selector.get("matchExpressions", [])
        if each["key"] == "app.kubernetes.io/name" and each["operator"] == "In"
        for value in each["values"]
    }
    return names | {*selector.get("matchLabels", {}).values()}


def _reaches(block: Document, address: str) -> bool:
    found = ip_address(address)
    return found in ip_network(block["cidr"]) and not any(
        found in ip_network(each) for each in block.get("except", [])
    )
