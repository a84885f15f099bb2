"""How a Kafka cluster is reached: its addresses, and what it wants to know of its clients.

Every client of the project is made with `options`, so that a cluster that wants TLS and SCRAM is a
matter of settings and of nothing else.
"""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

METADATA_MS = 10_000
"""How long a client believes who leads a partition without asking again.

aiokafka asks again when a fetch or a send finds another leader, but not when looking up where a
partition without a committed offset begins: a consumer that gets such a partition after its leader
has moved takes nothing from the broker that led it until the metadata is this old. Its own default
is five minutes.
"""


@dataclass(frozen=True)
class Cluster:
    """One cluster.

    Attributes:
        bootstrap_servers: `host:port`, comma-separated.
        security_protocol: Whether it speaks TLS, and wants a user.
        sasl_mechanism: How the password is proved, where it wants a user.
        username: That user.
        password: Its password.
        ca_file: PEM file of the authorities that sign the brokers' certificates; the system's own
            if None.
    """

    bootstrap_servers: str
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None

    def __str__(self) -> str:
        return self.bootstrap_servers

    @property
    def wants_user(self) -> bool:
        """Whether clients have to say who they are."""
        return self.security_protocol.startswith("SASL")

    def tls(self) -> ssl.SSLContext | None:
        """What TLS is spoken with; None where none is. Names and certificates are checked.

        Raises:
            OSError: the file of authorities cannot be read, or holds none.
        """
        if not self.security_protocol.endswith("SSL"):
            return None
        return ssl.create_default_context(cafile=self.ca_file)


Servers = str | Cluster
"""A cluster; addresses alone, `host:port`, comma-separated, are one without TLS and users."""


def cluster(servers: Servers) -> Cluster:
    """The cluster that is meant."""
    return servers if isinstance(servers, Cluster) else Cluster(servers)


def options(servers: Servers) -> dict[str, Any]:
    """What aiokafka's clients take to reach it.

    Raises:
        OSError: the file of authorities cannot be read, or holds none.
    """
    found = cluster(servers)
    reached: dict[str, Any] = {
        "bootstrap_servers": found.bootstrap_servers.split(","),
        "security_protocol": found.security_protocol,
        "ssl_context": found.tls(),
        "metadata_max_age_ms": METADATA_MS,
    }
    if found.wants_user:
        reached |= {
            "sasl_mechanism": found.sasl_mechanism,
            "sasl_plain_username": found.username,
            "sasl_plain_password": found.password,
        }
    return reached
