"""The one range of bytes that a request may ask for (RFC 9110, section 14)."""

import re
from typing import NamedTuple

from pixcrawler.api.problems import Problem

_RANGE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})")


class ByteRange(NamedTuple):
    """From `start` on, `length` bytes."""

    start: int
    length: int


def parse(header: str | None, size: int) -> ByteRange | None:
    """What the header asks of an object of this size; None where it asks for all of it.

    Several ranges, or anything else that is not understood, is answered with the whole.

    Raises:
        Problem: 416, the object has no such bytes.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or not (match["first"] or match["last"]):
        return None
    if match["first"]:
        start = int(match["first"])
        end = min(int(match["last"]), size - 1) if match["last"] else size - 1
        if match["last"] and int(match["last"]) < start:
            return None
    else:
        start, end = max(size - int(match["last"]), 0), size - 1
    if start > end:
        raise Problem(
            416, f"the file has {size} bytes", headers={"Content-Range": f"bytes */{size}"}
        )
    return ByteRange(start, end - start + 1)
