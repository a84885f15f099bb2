"""Where the command finds the API, Kafka and the database.

What is set in the environment wins; else the standalone mode that runs in the data directory.
"""

import os
from pathlib import Path

from pixcrawler.client.api import Api
from pixcrawler.client.errors import CommandError
from pixcrawler.common.settings import default_data_dir
from pixcrawler.standalone import Status, status

NOTHING_RUNS = "nothing is running here: start it with `pixcrawler up`, or set {variable}"


def data_dir(given: Path | None = None) -> Path:
    """Standalone mode's folder: as given, as set, or the platform's."""
    set_by_environment = os.environ.get("PIXCRAWLER_DATA_DIR")
    return given or (Path(set_by_environment) if set_by_environment else default_data_dir())


def standalone() -> Status | None:
    """The standalone mode that runs in the data directory, if one does."""
    found = status(data_dir())
    return found if found.running else None


def from_environment() -> Api | None:
    """The API that the environment names, if it names one."""
    url = os.environ.get("PIXCRAWLER_API_URL")
    return Api(url, os.environ.get("PIXCRAWLER_API_KEY", "")) if url else None


def connect() -> Api:
    """The API, or one line that says how to get one."""
    named = from_environment()
    if named is not None:
        return named
    running = standalone()
    if running is None:
        raise CommandError(NOTHING_RUNS.format(variable="PIXCRAWLER_API_URL"))
    return Api(running.api_url or "", os.environ.get("PIXCRAWLER_API_KEY") or running.api_key or "")


def bootstrap_servers() -> str:
    """Kafka's addresses."""
    return _address("PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS", "kafka_bootstrap_servers")


def database_url() -> str:
    """The database's address, as a role that may change the schema."""
    return _address("PIXCRAWLER_DATABASE_URL", "database_url")


def _address(variable: str, field: str) -> str:
    named = os.environ.get(variable)
    if named:
        return named
    running = standalone()
    if running is None:
        raise CommandError(NOTHING_RUNS.format(variable=variable))
    return str(getattr(running, field))
