"""Settings that every service shares. Each service's own `settings.py` extends `ServiceSettings`.

All variables begin with `PIXCRAWLER_`. Nothing reads the environment before `load` is called in a
composition root; a wrong value stops the program with one line.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from pixcrawler.common.errors import SettingsError
from pixcrawler.common.folders import default_data_dir
from pixcrawler.common.kafka import Cluster, SaslMechanism, SecurityProtocol
from pixcrawler.common.limits import DRAIN_S, Limits


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(ip_network(item.strip()) for item in value.split(",") if item.strip())


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_networks)]
"""Comma-separated networks, such as `127.0.0.1/32,10.0.0.0/8`."""


class KafkaAccess(BaseSettings):
    """How to reach Kafka."""

    model_config = SettingsConfigDict(env_prefix="PIXCRAWLER_", extra="ignore", frozen=True)

    kafka_bootstrap_servers: str = "localhost:9092"
    """`host:port`, comma-separated."""
    kafka_security_protocol: SecurityProtocol = "PLAINTEXT"
    """`SSL` and `SASL_SSL` speak TLS; the two with `SASL` say who they are."""
    kafka_sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    """How the password is proved; `PLAIN` sends it as it is."""
    kafka_username: str = Field(default="", validate_default=True)
    """The user, where the protocol has `SASL`."""
    kafka_password: str = Field(default="", validate_default=True, repr=False)
    """Its password."""
    kafka_ca_file: Path | None = None
    """PEM file of the authorities that sign the brokers' certificates; the system's own if not set.
    It is read whenever a client connects for the first time, so a new one needs a restart."""

    @field_validator("kafka_username", "kafka_password")
    @classmethod
    def _complete(cls, value: str, info: ValidationInfo) -> str:
        protocol = info.data.get("kafka_security_protocol", "")
        if protocol.startswith("SASL") and not value:
            raise ValueError(f"{protocol} needs it")
        return value

    @field_validator("kafka_ca_file", mode="before")
    @classmethod
    def _readable(cls, value: object) -> object:
        if not value:  # set, and empty: as if it were not set
            return None
        if not Path(str(value)).is_file():
            raise ValueError(f"there is no file {value}")
        return value

    @property
    def kafka(self) -> Cluster:
        """The cluster, as every client takes it."""
        return Cluster(
            self.kafka_bootstrap_servers,
            self.kafka_security_protocol,
            self.kafka_sasl_mechanism,
            self.kafka_username,
            self.kafka_password,
            self.kafka_ca_file,
        )


class DatabaseAccess(BaseSettings):
    """How to reach PostgreSQL."""

    model_config = SettingsConfigDict(env_prefix="PIXCRAWLER_", extra="ignore", frozen=True)

    database_url: str = Field(min_length=1)
    """`postgresql+asyncpg://user:password@host:port/name`; no default: nothing works without.
    `?sslmode=verify-full&sslrootcert=<file>` asks for TLS, as libpq spells it."""
    database_password: str = Field(default="", repr=False)
    """The password, where it does not stand in the URL: a secret of its own, of any characters."""

    @field_validator("database_url")
    @classmethod
    def _url(cls, value: str) -> str:
        # Imported where there is an address: half of what the command would load.
        from sqlalchemy import make_url
        from sqlalchemy.exc import ArgumentError

        from pixcrawler.common.db.address import tls_of

        try:
            tls_of(make_url(value))
        except (ArgumentError, OSError, ValueError) as error:
            raise ValueError(str(error)) from error
        return value

    @property
    def database(self) -> str:
        """The URL with the password in it."""
        if not self.database_password:
            return self.database_url
        from sqlalchemy import make_url

        url = make_url(self.database_url).set(password=self.database_password)
        return url.render_as_string(hide_password=False)


class BlobAccess(BaseSettings):
    """How to reach the blob store."""

    model_config = SettingsConfigDict(env_prefix="PIXCRAWLER_", extra="ignore", frozen=True)

    blob_url: str = ""
    """`file://<folder>` or `azure://<container>`; see `effective_blob_url` for the default."""
    azure_storage_connection_string: str = Field(
        default="", validation_alias="AZURE_STORAGE_CONNECTION_STRING", repr=False
    )
    azure_container_name: str = Field(default="datasets", validation_alias="AZURE_CONTAINER_NAME")
    data_dir: Path = Field(default_factory=default_data_dir)
    """Standalone mode's state; only the default of `blob_url` uses it in a service."""

    @property
    def effective_blob_url(self) -> str:
        """As set, else Azure if its connection string is set, else the data folder."""
        if self.blob_url:
            return self.blob_url
        if self.azure_storage_connection_string:
            return f"azure://{self.azure_container_name}"
        return f"file://{self.data_dir / 'blobs'}"


class ServiceSettings(KafkaAccess, DatabaseAccess, BlobAccess):
    """What every service can be told."""

    http_host: str = "127.0.0.1"
    """Address that health and metrics listen on."""
    http_port: int = Field(default=0, ge=0, le=65_535)
    """Port of health and metrics; 0 takes a free one and logs it."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    worker: str = ""
    """This replica's name in events and logs; host name and process id if empty. A name that is
    set is one that comes back: restarted within `session_timeout_s` it has the same partitions, and
    nothing moves in the group (static membership). So no two replicas may have the same."""
    session_timeout_s: float = Field(default=10.0, gt=0)
    """Seconds without a heartbeat after which Kafka gives a replica's partitions away. A process
    that finds itself paused for longer stops itself."""
    drain_s: float = Field(default=DRAIN_S, ge=0)
    """Seconds that SIGTERM leaves for work in hand. Whoever sends SIGKILL must wait 8 s longer (by
    default 30 s are enough): the process ends by itself before."""
    otel_exporter_otlp_endpoint: str = Field(
        default="", validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT", repr=False
    )
    """Where spans are collected, such as `http://localhost:4318`: OTLP over HTTP; nowhere if empty.
    The exporter reads its other variables itself (`OTEL_EXPORTER_OTLP_HEADERS`, ...)."""
    failpoints: Path | None = None
    """For tests: a folder in which points of death are armed (`pixcrawler.common.failpoints`)."""


class StageSettings(ServiceSettings):
    """What every consumer loop can be told; each is explained at `pixcrawler.common.limits`."""

    in_flight: int = Field(default=Limits.in_flight, ge=1, le=1000)
    """Pieces of work at a time; memory and the waste of a crash grow with it."""
    retry_tries: int = Field(default=Limits.retry_tries, ge=1)
    """Tries within one attempt at a chunk when something transient fails."""
    retry_max_wait_s: float = Field(default=Limits.max_wait_s, gt=0)
    """The longest pause between two tries, in seconds."""
    outage_s: float = Field(default=Limits.outage_s, ge=0)
    """Seconds that an attempt waits for a broker, database or blob store that is away."""
    dead_letters_in_a_row: int = Field(default=Limits.poison_run, ge=1)
    """Then the stage stops and turns unready, until someone looks and restarts it."""
    dead_letters_ratio: float = Field(default=Limits.poison_ratio, gt=0, le=1)
    """Likewise, as a share of the last 100 records."""

    def limits(self) -> Limits:
        """As the consumer loop takes them."""
        return Limits(
            in_flight=self.in_flight,
            retry_tries=self.retry_tries,
            max_wait_s=self.retry_max_wait_s,
            outage_s=self.outage_s,
            poison_run=self.dead_letters_in_a_row,
            poison_ratio=self.dead_letters_ratio,
        )


S = TypeVar("S", bound=BaseSettings)


def load(model: type[S]) -> S:
    """The settings from the environment.

    Raises:
        SettingsError: one line naming the variable, what is wrong with it, and what to do.
    """
    try:
        return model()
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "settings"
        variable = field if field.isupper() else f"PIXCRAWLER_{field.upper()}"
        raise SettingsError(f"{variable}: {first['msg']}; set it and start again") from error
