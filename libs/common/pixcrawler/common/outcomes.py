"""What can become of a candidate URL: exactly one of these."""

from enum import StrEnum


class Outcome(StrEnum):
    """The terminal outcome of a candidate."""

    KEPT = "kept"
    DUPLICATE = "duplicate"
    NEAR_DUPLICATE = "near_duplicate"
    CORRUPT = "corrupt"
    NOT_IMAGE = "not_image"
    UNSUPPORTED = "unsupported"
    TOO_SMALL = "too_small"
    BOMB = "bomb"
    TOO_LARGE = "too_large"
    HTTP_ERROR = "http_error"
    TIMEOUT = "timeout"
    NETWORK_ERROR = "network_error"
    REDIRECT = "redirect"
    BLOCKED = "blocked"
    OPTED_OUT = "opted_out"
    SURPLUS = "surplus"
    CANCELLED = "cancelled"
    FAILED = "failed"


VALID = frozenset({Outcome.KEPT, Outcome.DUPLICATE, Outcome.NEAR_DUPLICATE, Outcome.SURPLUS})
"""Outcomes of files that are good images, kept or not."""
