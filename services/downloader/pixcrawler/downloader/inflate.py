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
        self._inflate: Any = None  # zlib's decompression object; None before and between files
        self._begun = b""
        self._members = 0
        self._ended = False
        self._passes = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these bytes stand for, in pieces of `STEP` at most; nothing after damage.

        A gzip stream may consist of several files; whatever else follows one is left out.
        """
        while not self._ended:
            if self._inflate is None and not self._passes:
                data = self._sniff(data)
            if self._passes:
                yield data
                return
            if self._inflate is None:
                return
            piece, data, goes_on = self._step(data)
            if piece:
                yield piece
            if not goes_on:
                return

    def _sniff(self, data: bytes) -> bytes:
        """Begin a file, if there is enough to tell what it is; what is to be decoded."""
        data = self._begun + data
        self._begun = b""
        if len(data) < _SNIFFED:
            self._begun = data
        else:
            self._begin(data)
        return data

    def _begin(self, data: bytes) -> None:
        if data.startswith(_GZIP):
            self._inflate = zlib.decompressobj(_GZIP_BITS)
        elif self._members:
            self._ended = True
        elif self._deflate:
            # RFC 9110 says zlib, some servers send the bare stream.
            is_zlib = data[0] & 0x0F == _DEFLATED and int.from_bytes(data[:2], "big") % 31 == 0
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        else:
            self._passes = True

    def _step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """A piece, what is still to be decoded, and whether to go on."""
        try:
            piece = self._inflate.decompress(data, STEP)
        except zlib.error:
            self._ended = True
            return b"", b"", False
        if self._inflate.eof:
            rest = self._inflate.unused_data
            self._inflate = None
            self._members += 1
            self._ended = self._deflate
            return piece, rest, bool(rest)
        tail = self._inflate.unconsumed_tail
        return piece, tail, bool(tail) or len(piece) == STEP
