"""How Kafka and PostgreSQL are reached: what the settings say is what the clients get."""

import ssl
from pathlib import Path

import certifi
import pytest

from pixcrawler.common.db.address import arguments
from pixcrawler.common.errors import SettingsError
from pixcrawler.common.kafka import METADATA_MS, Cluster, options
from pixcrawler.common.settings import DatabaseAccess, KafkaAccess, ServiceSettings, load

URL = "postgresql+asyncpg://role:word@host:5432/name"


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KafkaAccess.model_fields | DatabaseAccess.model_fields:
        monkeypatch.delenv(f"PIXCRAWLER_{name.upper()}", raising=False)


def told(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Set variables of the project."""
    for name, value in variables.items():
        monkeypatch.setenv(f"PIXCRAWLER_{name}", value)


def test_addresses_alone_are_a_plain_cluster() -> None:
    """As standalone mode has it: no TLS, no user."""
    said = options("a:1,b:2")
    assert said == {
        "bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT", "ssl_context": None,
        "metadata_max_age_ms": METADATA_MS,
    }  # fmt: skip


def test_a_secured_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """User, mechanism and a context that checks names and certificates; no password in any text."""
    told(
        monkeypatch, KAFKA_BOOTSTRAP_SERVERS="a:1", KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        KAFKA_USERNAME="u", KAFKA_PASSWORD="hush", KAFKA_CA_FILE=certifi.where(),
    )  # fmt: skip
    settings = load(KafkaAccess)
    said = options(settings.kafka)
    assert said["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (said["sasl_plain_username"], said["sasl_plain_password"]) == ("u", "hush")
    assert said["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert said["ssl_context"].check_hostname
    assert "hush" not in repr(settings) + str(settings.kafka) + repr(settings.kafka)


@pytest.mark.parametrize(
    ("variables", "line"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "PIXCRAWLER_KAFKA_SECURITY_PROTOCOL: "),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "PIXCRAWLER_KAFKA_USERNAME: .*SASL_SSL needs it"),
        (
            {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_USERNAME": "u"},
            "PIXCRAWLER_KAFKA_PASSWORD: .*SASL_SSL needs it",
        ),
        ({"KAFKA_CA_FILE": "/nowhere"}, "PIXCRAWLER_KAFKA_CA_FILE: .*there is no file /nowhere"),
        ({"DATABASE_URL": "nonsense"}, "PIXCRAWLER_DATABASE_URL: "),
        ({"DATABASE_URL": f"{URL}?sslmode=on"}, "PIXCRAWLER_DATABASE_URL: .*sslmode is one of"),
        ({"DATABASE_URL": f"{URL}?sslmode=verify-full"}, "needs sslrootcert"),
        ({"DATABASE_URL": f"{URL}?sslrootcert=/x"}, "needs sslmode"),
        (
            {"DATABASE_URL": f"{URL}?sslmode=verify-ca&sslrootcert=/nowhere"},
            "there is no file /nowhere",
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], line: str
) -> None:
    """It names the variable, and says what to do."""
    told(monkeypatch, **{"DATABASE_URL": URL} | variables)
    with pytest.raises(SettingsError, match=line) as caught:
        load(ServiceSettings)
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set and empty, as templates leave them, is as if it were not set."""
    told(monkeypatch, KAFKA_CA_FILE="")
    assert load(KafkaAccess).kafka_ca_file is None


def test_a_password_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any characters; it takes the place of the URL's, and shows in no text."""
    told(monkeypatch, DATABASE_URL=URL, DATABASE_PASSWORD="a/b@c:d?e")
    settings = load(DatabaseAccess)
    address, _ = arguments(settings.database)
    assert address.password == "a/b@c:d?e"
    assert (address.host, address.database) == ("host", "name")
    assert "a/b" not in repr(settings)


@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
def test_modes_that_check_nothing(mode: str) -> None:
    """asyncpg takes them as they are, apart from the URL."""
    address, more = arguments(f"{URL}?sslmode={mode}")
    assert more == {"ssl": mode}
    assert not address.query


@pytest.mark.parametrize(("mode", "names"), [("verify-ca", False), ("verify-full", True)])
def test_modes_that_check(mode: str, names: bool) -> None:
    """Certificates always, names with verify-full."""
    _, more = arguments(f"{URL}?sslmode={mode}&sslrootcert={Path(certifi.where())}")
    assert more["ssl"].verify_mode is ssl.CERT_REQUIRED
    assert more["ssl"].check_hostname is names


def test_without_a_mode_nothing_is_said() -> None:
    """The URL goes on as it came."""
    address, more = arguments(f"{URL}?prepared_statement_cache_size=0")
    assert more == {}
    assert address.query == {"prepared_statement_cache_size": "0"}


def test_a_cluster_is_shown_by_its_addresses() -> None:
    """Errors name where was asked."""
    assert f"{Cluster('a:1', 'SSL')}" == "a:1"
