"""Content encodings of servers that use one although we ask for none."""

import zlib
from collections.abc import Iterator
from typing import Any

STEP = 1 << 17
"""Bytes that one step of decompression gives: a fraction of a millisecond."""

_GZIP = b"\x1f\x8b"
_GZIP_BITS = zlib.MAX_WBITS | 16
_DEFLATED = 8  # RFC 1950, 2.2: the compression method of every zlib stream
_SNIFFED = 2  # bytes that tell what a stream is


class Inflater:
    """Decodes gzip and deflate in small steps; what is not encoded, as it claims, passes.

    Args:
        encoding: One of `ENCODINGS`.
    """

    ENCODINGS = frozenset({"gzip", "x-gzip", "deflate"})

    def __init__(self, encoding: str) -> None:
        self._deflate = encoding == "deflate"
        self._inflate: Any = None  # zlib's decompression object
        self._begun = b""
        self._ended = False
        self._passes = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these bytes stand for, in pieces of `STEP` at most; nothing after damage."""
        if self._inflate is None and not self._passes:
            data = self._begun + data
            self._begun = data[: _SNIFFED - 1]
            if len(data) < _SNIFFED:
                return
            self._begin(data)
        if self._passes:
            yield data
        else:
            yield from self._decode(data)

    def _begin(self, data: bytes) -> None:
        if data.startswith(_GZIP):
            self._inflate = zlib.decompressobj(_GZIP_BITS)
        elif self._deflate:
            # RFC 9110 says zlib, some servers send the bare stream.
            is_zlib = data[0] & 0x0F == _DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        else:
            self._passes = True

    def _decode(self, data: bytes) -> Iterator[bytes]:
        while not self._ended:
            try:
                piece = self._inflate.decompress(data, STEP)
            except zlib.error:
                self._ended = True
                return
            if piece:
                yield piece
            data = self._inflate.unconsumed_tail
            if self._inflate.eof:
                data = self._next_member()
            elif not data and len(piece) < STEP:
                return

    def _next_member(self) -> bytes:
        """Gzip files may follow each other; anything else after the end is left out."""
        rest: bytes = self._inflate.unused_data
        self._ended = not rest.startswith(_GZIP)
        self._inflate = zlib.decompressobj(_GZIP_BITS)
        return rest
