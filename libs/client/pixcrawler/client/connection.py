"""Where the command finds the API, Kafka and the database.

What is set in the environment wins; else the standalone mode that runs in the data directory.
"""

import os
from typing import TYPE_CHECKING, TypeVar

from pixcrawler.client import discovery, output
from pixcrawler.client.discovery import NOTHING_RUNS, STARTING
from pixcrawler.client.discovery import data_dir as data_dir  # noqa: PLC0414 - for others
from pixcrawler.client.errors import CommandError
from pixcrawler.client.patience import BRIEF_PATIENCE_S, PATIENCE_S
from pixcrawler.common.errors import SettingsError

if TYPE_CHECKING:  # each is imported by whoever needs it: it would cost every command a moment
    from pydantic_settings import BaseSettings

    from pixcrawler.client.api import Api
    from pixcrawler.common.blobs.port import BlobStore
    from pixcrawler.common.kafka import Servers

S = TypeVar("S", bound="BaseSettings")


def connect(*, patience_s: float = BRIEF_PATIENCE_S) -> "Api":
    """The API, or one line that says how to get one.

    Args:
        patience_s: Seconds for which an API that is away is asked again.
    """
    api = find(patience_s=patience_s)
    if api is None:
        raise CommandError(NOTHING_RUNS.format(variable="PIXCRAWLER_API_URL"))
    return api


def find(*, patience_s: float = PATIENCE_S) -> "Api | None":
    """The API that the environment names, else that of the standalone here, else none.

    Raises:
        CommandError: It is not one, or not yet.
    """
    found = discovery.look()
    return None if found is None else open_api(found.url, found.key, patience_s=patience_s)


def open_api(url: str, key: str, *, patience_s: float = PATIENCE_S) -> "Api":
    """An API that tells people when it is away."""
    from pixcrawler.client.api import Api

    return Api(url, key, patience_s=patience_s, on_away=output.note)


def kafka() -> "Servers":
    """Kafka's addresses, and what it wants to know of us."""
    if os.environ.get("PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS"):
        from pixcrawler.common.settings import KafkaAccess

        return _told(KafkaAccess).kafka
    return _running("PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS", "kafka_bootstrap_servers")


def database_url() -> str:
    """The database's address, as a role that may change the schema."""
    if os.environ.get("PIXCRAWLER_DATABASE_URL"):
        from pixcrawler.common.settings import DatabaseAccess

        return _told(DatabaseAccess).database
    return _running("PIXCRAWLER_DATABASE_URL", "database_url")


def blob_store() -> "BlobStore":
    """The blob store; whoever asks closes it."""
    from pixcrawler.common.blobs import open_blobs
    from pixcrawler.common.settings import BlobAccess

    told = _told(BlobAccess)
    if told.blob_url or told.azure_storage_connection_string:
        return open_blobs(told.effective_blob_url, told.azure_storage_connection_string)
    folder = _running("PIXCRAWLER_BLOB_URL", "data_dir")
    return open_blobs(f"file://{folder}/blobs")


def _told(model: type[S]) -> S:
    """What the environment says, in one line where it is wrong."""
    from pixcrawler.common.settings import load

    try:
        return load(model)
    except SettingsError as error:
        raise CommandError(str(error)) from error


def _running(variable: str, field: str) -> str:
    running = discovery.standalone()
    if running is None:
        raise CommandError(NOTHING_RUNS.format(variable=variable))
    found = getattr(running, field)
    if not found:
        raise CommandError(STARTING.format(folder=running.data_dir))
    return str(found)
