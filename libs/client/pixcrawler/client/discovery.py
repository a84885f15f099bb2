"""Where the API is: as given, as the environment says, or the standalone mode that runs here."""

import os
from pathlib import Path
from typing import NamedTuple

from pixcrawler.client.errors import USAGE, NotRunning
from pixcrawler.common.folders import default_data_dir

STARTING = "PixCrawler is still starting in {folder}: try again when `pixcrawler status` shows it"
NOTHING_RUNS = "nothing is running here: start it with `pixcrawler up`, or set {variable}"


class Address(NamedTuple):
    """An API, and the key to it."""

    url: str
    key: str


def data_dir(given: Path | None = None) -> Path:
    """Standalone mode's folder: as given, as set, or the platform's."""
    set_by_environment = os.environ.get("PIXCRAWLER_DATA_DIR")
    return given or (Path(set_by_environment) if set_by_environment else default_data_dir())


def address(api_url: str | None = None, api_key: str | None = None) -> Address:
    """The API to talk to.

    Args:
        api_url: Its base address; else `PIXCRAWLER_API_URL`, else the standalone here.
        api_key: The key; else `PIXCRAWLER_API_KEY`, else the standalone's own.

    Raises:
        NotRunning: there is none, it is none, or not yet.
    """
    found = look(api_url, api_key)
    if found is None:
        raise NotRunning(NOTHING_RUNS.format(variable="PIXCRAWLER_API_URL"))
    return found


def look(api_url: str | None = None, api_key: str | None = None) -> Address | None:
    """The same; None where nothing runs here and none is named.

    Raises:
        NotRunning: it is none, or not yet.
    """
    key = api_key or os.environ.get("PIXCRAWLER_API_KEY", "")
    named = api_url or os.environ.get("PIXCRAWLER_API_URL")
    if not named:
        return _standalone(key)
    if not named.startswith(("http://", "https://")):
        name = "api_url" if api_url else "PIXCRAWLER_API_URL"
        raise NotRunning(f"{name} is no http or https URL: {named}", USAGE)
    return Address(named.rstrip("/"), key)


def _standalone(key: str) -> Address | None:
    """That of the standalone mode which runs in the data directory."""
    running = standalone()
    if running is None:
        return None
    if not running.api_url:
        raise NotRunning(STARTING.format(folder=data_dir()))
    return Address(running.api_url, key or running.api_key)


class Running(NamedTuple):
    """A standalone mode that runs, as far as it has come; what it has not got to is empty."""

    data_dir: Path
    api_url: str = ""
    api_key: str = ""
    kafka_bootstrap_servers: str = ""
    database_url: str = ""


def standalone() -> Running | None:
    """The standalone mode that runs in the data directory, if one does; asks none of its parts."""
    from pixcrawler.standalone import paths, state

    places = paths.Paths.of(data_dir())
    if not state.is_locked(places):
        return None
    found = state.read_state(places)
    if found is None:
        return Running(places.data_dir)
    return Running(
        places.data_dir,
        found.api_url or "",
        state.read_kept(places).api_key or "",
        found.kafka_bootstrap_servers or "",
        found.database_url or "",
    )
