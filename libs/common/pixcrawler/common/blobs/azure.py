"""Objects as blobs in a container of Azure Blob Storage.

Whole contents are one conditional request. Streams are staged as blocks whose ids follow from their
bytes, then committed by one conditional request: writers of different contents never mix, and
whoever commits second is refused (the service says that the blob exists or, since the first commit
discarded the second's blocks, that the list of blocks is invalid).
"""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import quote

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.storage.blob import BlobBlock, BlobSasPermissions, generate_blob_sas
from azure.storage.blob.aio import BlobClient, BlobServiceClient
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_attempt,
    wait_random_exponential,
)

from pixcrawler.common.blobs import checked, checked_prefix
from pixcrawler.common.blobs.port import BlobInfo, Content
from pixcrawler.common.errors import BlobNotFound, Retry

TRIES = 5
"""How often a request is made before the caller is told to come back later."""

BLOCK = 4 << 20
"""Bytes of a block, and of one ranged read: 50,000 blocks (Azure's limit) make 195 GiB."""

PIECE = 1 << 20
"""Bytes that a reader gets at a time."""

DELETES = 16
"""Requests at a time while a prefix is removed."""

TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})

T = TypeVar("T")
Page = tuple[list[BlobInfo], str | None]
"""A page of a listing, and the token of the next one."""


class AzureBlobs:
    """A container as a blob store; it is made when it is first used and missing.

    Args:
        connection_string: With the account's key (or a SAS; then links cannot be signed).
        container: Its name.
        tries: Of each request.
        wait_s: Longest pause before the second try; doubles with each further one.
    """

    def __init__(
        self, connection_string: str, container: str, *, tries: int = TRIES, wait_s: float = 0.5
    ) -> None:
        self._service = BlobServiceClient.from_connection_string(
            connection_string,
            retry_total=0,  # `_request` retries, and knows what a repeated creation means
            connection_timeout=10,
            read_timeout=60,
        )
        self._container = self._service.get_container_client(container)
        self._tries = tries
        self._wait_s = wait_s
        self._ready = False

    async def create(self, name: str, content: Content) -> bool:
        """See `BlobStore.create`.

        A request that was repeated because its answer was lost may find its own object: then this
        returns False, and the caller adopts what it wrote itself.
        """
        checked(name)
        if isinstance(content, bytes) and len(content) <= PIECE:
            return await self._create_whole(name, content)
        return await self._create_from_blocks(name, _blocks(content))

    async def _create_whole(self, name: str, content: bytes) -> bool:
        blob = self._blob(name)
        try:
            await self._request(lambda: blob.upload_blob(content, overwrite=False))
        except ResourceExistsError:
            # Azurite also refuses where somebody left blocks behind without committing them.
            if await self.stat(name) is None:
                return await self._create_from_blocks(name, _blocks(content))
            return False
        return True

    async def _create_from_blocks(self, name: str, blocks: AsyncIterator[bytes]) -> bool:
        blob = self._blob(name)
        staged = [await self._stage(blob, index, data) async for index, data in _counted(blocks)]
        try:
            await self._request(
                lambda: blob.commit_block_list(staged, match_condition=MatchConditions.IfMissing)
            )
        except ResourceExistsError:
            return False
        except HttpResponseError as error:
            if _code(error) == "InvalidBlockList":
                return await self._lost(name)
            raise Retry(f"the blob store: {error.message}", error="blob_store") from error
        return True

    async def _stage(self, blob: BlobClient, index: int, data: bytes) -> BlobBlock:
        digest = await asyncio.to_thread(lambda: hashlib.sha256(data).digest())
        block_id = base64.b64encode(index.to_bytes(4, "big") + digest[:20]).decode()
        # A file-like body, since the client sends bytes in one step that may hold up the loop.
        await self._request(lambda: blob.stage_block(block_id, BytesIO(data), length=len(data)))
        return BlobBlock(block_id=block_id)

    async def _lost(self, name: str) -> bool:
        """False, if it was lost to an object that is there."""
        if await self.stat(name) is None:
            raise Retry(f"the blocks of {name} were discarded", error="blob_store")
        return False

    async def put(self, name: str, content: Content) -> None:
        """See `BlobStore.put`."""
        blob = self._blob(checked(name))
        blocks = _counted(_blocks(content))
        staged = [await self._stage(blob, index, data) async for index, data in blocks]
        await self._request(lambda: blob.commit_block_list(staged))

    async def read(self, name: str) -> bytes:
        """See `BlobStore.read`."""
        return b"".join([piece async for piece in self.stream(name)])

    async def stream(
        self, name: str, *, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        """See `BlobStore.stream`; one request for each `BLOCK` bytes."""
        etag: str | None = None
        position, end = offset, None if length is None else offset + length
        while end is None or position < end:
            size = BLOCK if end is None else min(BLOCK, end - position)
            data, etag = await self._range(name, position, size, etag)
            for start in range(0, len(data), PIECE):
                yield data[start : start + PIECE]
            position += len(data)
            if len(data) < size:
                return

    async def _range(
        self, name: str, offset: int, size: int, etag: str | None
    ) -> tuple[bytes, str | None]:
        """Bytes of a blob, none beyond its end, and its etag; with an etag only of that version."""
        blob = self._blob(checked(name))
        # Left out rather than None: the client hands down what it does not consume.
        same_version: dict[str, Any] = (
            {"etag": etag, "match_condition": MatchConditions.IfNotModified} if etag else {}
        )

        async def download() -> tuple[bytes, str | None]:
            found = await blob.download_blob(offset=offset, length=size, **same_version)
            return await found.readall(), found.properties.etag

        try:
            return await self._request(download)
        except ResourceNotFoundError:
            raise BlobNotFound(name) from None
        except HttpResponseError as error:
            if error.status_code == 416:  # noqa: PLR2004 - range not satisfiable: beyond the end
                return b"", etag
            raise Retry(f"the blob store: {error.message}", error="blob_store") from error

    async def stat(self, name: str) -> BlobInfo | None:
        """See `BlobStore.stat`."""
        blob = self._blob(checked(name))
        try:
            found = await self._request(blob.get_blob_properties)
        except ResourceNotFoundError:
            return None
        return BlobInfo(name, found.size, found.last_modified)

    async def list(self, prefix: str) -> AsyncIterator[BlobInfo]:
        """See `BlobStore.list`; one request a page."""
        token: str | None = None
        while True:
            page, token = await self._page(prefix, token)
            for info in page:
                yield info
            if not token:
                return

    async def _page(self, prefix: str, token: str | None) -> Page:
        async def fetch() -> Page:
            pages = self._container.list_blobs(name_starts_with=prefix or None).by_page(token)
            async for page in pages:
                found = [BlobInfo(b.name, b.size, b.last_modified) async for b in page]
                return found, getattr(pages, "continuation_token", None)
            return [], None

        return await self._request(fetch)

    async def delete(self, name: str) -> None:
        """See `BlobStore.delete`."""
        blob = self._blob(checked(name))
        try:
            await self._request(blob.delete_blob)
        except ResourceNotFoundError:
            return

    async def delete_prefix(self, prefix: str) -> int:
        """See `BlobStore.delete_prefix`."""
        checked_prefix(prefix)
        removed = 0
        waiting: list[str] = []
        async for info in self.list(prefix):
            waiting.append(info.name)
            if len(waiting) == DELETES:
                removed += await self._delete_all(waiting)
                waiting.clear()
        return removed + await self._delete_all(waiting)

    async def _delete_all(self, names: Sequence[str]) -> int:
        await asyncio.gather(*(self.delete(name) for name in names))
        return len(names)

    async def link(self, name: str, *, expires_s: int, filename: str) -> str | None:
        """See `BlobStore.link`: a SAS that reads this one blob; None without the account's key."""
        key = getattr(self._service.credential, "account_key", None)
        if key is None:
            return None
        token = generate_blob_sas(
            account_name=str(self._service.account_name),
            container_name=self._container.container_name,
            blob_name=checked(name),
            account_key=key,
            permission=BlobSasPermissions(read=True),
            expiry=datetime.now(UTC) + timedelta(seconds=expires_s),
            content_disposition=f"attachment; filename*=UTF-8''{quote(filename, safe='')}",
        )
        return f"{self._blob(name).url}?{token}"

    async def check(self) -> None:
        """See `BlobStore.check`."""
        await self._request(self._container.get_container_properties)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._service.close()

    def _blob(self, name: str) -> BlobClient:
        return self._container.get_blob_client(name)

    async def _request(self, request: Callable[[], Awaitable[T]]) -> T:
        """Make a request, again where that may help.

        Raises:
            ResourceExistsError: there is such an object.
            ResourceNotFoundError: there is no such object.
            HttpResponseError: the request was refused for another reason (400, 416).
            Retry: it did not succeed.
        """
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(_transient),
                stop=stop_after_attempt(self._tries),
                wait=wait_random_exponential(multiplier=self._wait_s, max=8),
                reraise=True,
            ):
                with attempt:
                    return await self._in_container(request)
        except (ResourceExistsError, ResourceNotFoundError) as error:
            if _code(error) in {"ContainerNotFound", "ContainerBeingDeleted"}:
                raise Retry(f"the blob store: {error.message}", error="blob_store") from error
            raise
        except HttpResponseError as error:
            if error.status_code in {400, 416}:
                raise
            raise Retry(f"the blob store: {error.message}", error="blob_store") from error
        except (AzureError, TimeoutError, OSError) as error:
            raise Retry(f"the blob store: {error}", error="blob_store") from error
        raise AssertionError("unreachable")

    async def _in_container(self, request: Callable[[], Awaitable[T]]) -> T:
        if not self._ready:
            await self._make_container()
        try:
            return await request()
        except ResourceNotFoundError as error:
            self._ready = _code(error) != "ContainerNotFound"
            raise

    async def _make_container(self) -> None:
        try:
            await self._container.create_container()
        except ResourceExistsError:
            pass
        except HttpResponseError as error:
            if error.status_code != 403:  # noqa: PLR2004 - we may not; then somebody else did
                raise
        self._ready = True


def _transient(error: BaseException) -> bool:
    if isinstance(error, HttpResponseError) and _code(error) == "ContainerNotFound":
        return True
    if isinstance(error, HttpResponseError) and error.status_code is not None:
        return error.status_code in TRANSIENT_STATUS
    return isinstance(
        error, ServiceRequestError | ServiceResponseError | HttpResponseError | OSError
    )


def _code(error: HttpResponseError) -> str:
    """The service's own word for the error, such as `BlobNotFound`."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


async def _blocks(content: Content) -> AsyncIterator[bytes]:
    """The content in blocks of exactly `BLOCK` bytes, the last one excepted."""
    if isinstance(content, bytes):
        for start in range(0, len(content), BLOCK):
            yield content[start : start + BLOCK]
        return
    buffer = bytearray()
    async for piece in content:
        buffer += piece
        while len(buffer) >= BLOCK:
            with memoryview(buffer) as view:
                block = bytes(view[:BLOCK])
            del buffer[:BLOCK]
            yield block
    if buffer:
        yield bytes(buffer)


async def _counted(blocks: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, bytes]]:
    index = 0
    async for block in blocks:
        yield index, block
        index += 1
