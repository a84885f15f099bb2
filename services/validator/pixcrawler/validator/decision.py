"""What the content of one file says about it, before the job's other images are asked."""

from dataclasses import dataclass

from pixcrawler.common.outcomes import Outcome
from pixcrawler.common.transform import Transform


@dataclass(frozen=True, slots=True)
class Limits:
    """What an image has to keep to.

    Attributes:
        min_size: The shortest side allowed, in pixels.
        max_pixels: Width times height allowed; more is a `bomb`, found before decoding.
        animation_pixels: Pixels of further frames that are decoded to look for damage; it bounds
            the work that a file with a billion frames can ask for. Frames beyond it are checked for
            completeness only. The first frame is always decoded.
        animation_frames: Further frames that are decoded, likewise.
        transform: What is done to images later; what that cannot be done to is not kept.
    """

    min_size: int = 64
    max_pixels: int = 178_956_970
    animation_pixels: int = 64_000_000
    animation_frames: int = 500
    transform: Transform | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """A file's true format, and the size in pixels of what it stores (before EXIF rotation)."""

    format: str
    width: int = 0
    height: int = 0

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Decision:
    """What a file is.

    Attributes:
        outcome: Why it cannot be kept; None for a good image.
        detail: Why, for people.
        header: Format and size, as far as they are known; None for what is no raster image.
        phash: 64 bits; None where nothing was decoded.
        sha256: Digest of the bytes.
    """

    outcome: Outcome | None
    detail: str = ""
    header: Header | None = None
    phash: int | None = None
    sha256: bytes = b""

    @property
    def good(self) -> bool:
        """Whether it may be kept."""
        return self.outcome is None


class Damage(Exception):
    """The file begins as an image does, and is cut or damaged; the message says how."""


class Unreadable(Exception):
    """The file seems whole, but is of a variety of its format that we do not take."""
