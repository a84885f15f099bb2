"""The blob store behind one small port; `open_blobs` picks the adapter by URL."""

from pathlib import Path

from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.errors import SettingsError

MIN_CONTAINER_NAME = 3  # Azure's rule


def open_blobs(url: str, connection_string: str = "") -> BlobStore:
    """The store behind a URL; it touches nothing before it is first used.

    Args:
        url: `file://<absolute folder>` (taken literally, nothing is unquoted) or
            `azure://<container>`.
        connection_string: Azure's; only for `azure://`.

    Raises:
        SettingsError: the URL is neither, or the connection string is missing.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "file" and Path(rest).is_absolute():
        from pixcrawler.common.blobs.local import LocalBlobs

        return LocalBlobs(Path(rest))
    if scheme == "azure" and len(rest.rstrip("/")) >= MIN_CONTAINER_NAME:
        if not connection_string:
            raise SettingsError(f"AZURE_STORAGE_CONNECTION_STRING is empty: {url} needs it")
        from pixcrawler.common.blobs.azure import AzureBlobs

        return AzureBlobs(connection_string, rest.rstrip("/"))
    raise SettingsError(
        f"PIXCRAWLER_BLOB_URL: {url!r} is neither file://<absolute folder> nor azure://<container>"
    )


def checked(name: str) -> str:
    """The name, if it may name an object: a relative path without tricks.

    Raises:
        ValueError: it is empty, absolute, or has an empty, `.`-led or backslashed segment.
    """
    for segment in name.split("/"):
        if not segment or segment.startswith(".") or "\\" in segment or "\0" in segment:
            raise ValueError(f"not an object's name: {name!r}")
    return name


def checked_prefix(prefix: str) -> str:
    """The prefix, if everything below it may be removed: a name that ends with `/`.

    Raises:
        ValueError: it is not.
    """
    if not prefix.endswith("/"):
        raise ValueError(f"a prefix to remove ends with /: {prefix!r}")
    checked(prefix.removesuffix("/"))
    return prefix
