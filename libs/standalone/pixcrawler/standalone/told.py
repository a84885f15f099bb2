"""What replicas are told: their environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from .options import Program
from .paths import Paths


@dataclass(frozen=True, slots=True)
class Told:
    """What all replicas of a system are told.

    Attributes:
        inherited: The environment of whoever started the system.
        paths: Where it keeps things.
        kafka_bootstrap_servers: Its brokers, `host:port`, comma-separated.
        database_url: Its database, as the superuser.
        passwords: Of the services' own roles.
        partitions: Of the topics that the tracker's table is divided like.
    """

    inherited: Mapping[str, str]
    paths: Paths
    kafka_bootstrap_servers: str
    database_url: str
    passwords: Mapping[str, str]
    partitions: int

    def environment(self, name: str, program: Program, port: int) -> dict[str, str]:
        """The whole environment of one replica, which listens on a port of its own."""
        from . import schema  # slow to import: see `Supervisor`

        # How another cluster is reached says nothing about ours.
        environment = {
            name: value
            for name, value in self.inherited.items()
            if not name.startswith(("PIXCRAWLER_KAFKA_", "PIXCRAWLER_DATABASE_"))
        }
        environment |= {
            "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            "PIXCRAWLER_DATA_DIR": os.fspath(self.paths.data_dir),
            "PIXCRAWLER_HTTP_PORT": str(port),
            "PIXCRAWLER_WORKER": name,
            "PIXCRAWLER_TRACKER_PARTITIONS": str(self.partitions),
            "PYTHONUNBUFFERED": "1",
        }
        if not environment.get("AZURE_STORAGE_CONNECTION_STRING"):
            environment.setdefault("PIXCRAWLER_BLOB_URL", f"file://{self.paths.blobs}")
        if (password := self.passwords.get(program.service)) is not None:
            environment["PIXCRAWLER_DATABASE_URL"] = schema.service_url(
                self.database_url, program.service, password
            )
        return environment | program.environment
