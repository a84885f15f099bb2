"""Where the command finds the API, Kafka and the database.

What is set in the environment wins; else the standalone mode that runs in the data directory.
"""

import os
from pathlib import Path

from pixcrawler.client import output
from pixcrawler.client.api import BRIEF_PATIENCE_S, PATIENCE_S, Api
from pixcrawler.client.errors import USAGE, CommandError
from pixcrawler.common.settings import default_data_dir
from pixcrawler.standalone import Status, status

STARTING = "PixCrawler is still starting in {folder}: try again when `pixcrawler status` shows it"
NOTHING_RUNS = "nothing is running here: start it with `pixcrawler up`, or set {variable}"


def data_dir(given: Path | None = None) -> Path:
    """Standalone mode's folder: as given, as set, or the platform's."""
    set_by_environment = os.environ.get("PIXCRAWLER_DATA_DIR")
    return given or (Path(set_by_environment) if set_by_environment else default_data_dir())


def standalone() -> Status | None:
    """The standalone mode that runs in the data directory, if one does."""
    found = status(data_dir())
    return found if found.running else None


def connect(*, patience_s: float = BRIEF_PATIENCE_S) -> Api:
    """The API, or one line that says how to get one.

    Args:
        patience_s: Seconds for which an API that is away is asked again.
    """
    api = find(patience_s=patience_s)
    if api is None:
        raise CommandError(NOTHING_RUNS.format(variable="PIXCRAWLER_API_URL"))
    return api


def find(*, patience_s: float = PATIENCE_S) -> Api | None:
    """The API that the environment names, else that of the standalone here, else none.

    Raises:
        CommandError: It is not one, or not yet.
    """
    key = os.environ.get("PIXCRAWLER_API_KEY", "")
    if url := os.environ.get("PIXCRAWLER_API_URL"):
        if not url.startswith(("http://", "https://")):
            raise CommandError(f"PIXCRAWLER_API_URL is no http or https URL: {url}", USAGE)
        return open_api(url, key, patience_s=patience_s)
    running = standalone()
    if running is None:
        return None
    if not running.api_url:
        raise CommandError(STARTING.format(folder=running.data_dir))
    return open_api(running.api_url, key or running.api_key or "", patience_s=patience_s)


def open_api(url: str, key: str, *, patience_s: float = PATIENCE_S) -> Api:
    """An API that tells people when it is away."""
    return Api(url, key, patience_s=patience_s, on_away=output.note)


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
    found = getattr(running, field)
    if not found:
        raise CommandError(STARTING.format(folder=running.data_dir))
    return str(found)
