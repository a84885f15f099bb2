"""What a job wants done to its images before they are packed: the wish, and its arithmetic.

The words are those of img2dataset (https://github.com/rom1504/img2dataset, `resizer.py`), and mean
what they mean there. Nothing here decodes anything: that is `pictures`.
"""

from typing import Annotated, Literal, NamedTuple, Protocol, Self

from pydantic import Field

from pixcrawler.common.values import Value

ResizeMode = Literal["none", "keep_ratio", "center_crop"]
ImageFormat = Literal["original", "jpeg", "png", "webp"]

MAX_IMAGE_SIZE = 8_192
"""Pixels a side at most: a square of it, decoded, takes a quarter of a gigabyte."""
DEFAULT_QUALITY = 95
"""As img2dataset has it."""

MAX_SIDE = {"jpeg": 65_500, "png": 2**31 - 1, "webp": 16_383}
"""The longest side that each encoder takes, in pixels; also the formats that we write."""

Upright = Annotated[
    bool,
    Field(
        description="Turn images as their EXIF orientation says, and drop the tag.",
    ),
]
Resize = Annotated[
    ResizeMode,
    Field(
        description="`keep_ratio`: the shorter side becomes `image_size`; `center_crop`: likewise, "
        "and the middle of it is kept, a square; `none`: as large as it is.",
    ),
]
ImageSize = Annotated[
    int | None,
    Field(
        ge=1,
        le=MAX_IMAGE_SIZE,
        description="Pixels: the shorter side for `keep_ratio`, the side of the square for "
        "`center_crop`. Required by both, and by nothing else.",
    ),
]
OnlyIfBigger = Annotated[
    bool,
    Field(
        description="Leave an image alone whose shorter side is not longer than `image_size`, "
        "instead of enlarging it; `center_crop` does not crop it then either.",
    ),
]
Format = Annotated[
    ImageFormat,
    Field(
        description="`original`: an image that has to be encoded again keeps its format if it is "
        "JPEG, PNG or WebP, and becomes PNG otherwise; the others: all images have this format.",
    ),
]
Quality = Annotated[
    int,
    Field(
        ge=1,
        le=100,
        description="Of JPEG and WebP, where an image is encoded again; PNG loses nothing.",
    ),
]


class Wishes(Protocol):
    """As much of a job's options as is about this."""

    @property
    def upright(self) -> bool:
        """Turn by EXIF."""
        ...

    @property
    def resize_mode(self) -> ResizeMode:
        """Whether and how to resize."""
        ...

    @property
    def image_size(self) -> int | None:
        """To how many pixels."""
        ...

    @property
    def resize_only_if_bigger(self) -> bool:
        """Never enlarge."""
        ...

    @property
    def image_format(self) -> ImageFormat:
        """Which format to store."""
        ...

    @property
    def quality(self) -> int:
        """Of what is encoded."""
        ...


class Wrong(NamedTuple):
    """A combination that makes no sense: the field, and a message that begins with it."""

    field: str
    message: str


class Resized(NamedTuple):
    """How a picture is resized: which part of it (left, upper, right, lower) becomes which size.

    The part is in pixels of the picture as it is, and may begin between two of them.
    """

    box: tuple[float, float, float, float]
    width: int
    height: int


class Transform(Value):
    """What is done to every image of a job that is not as it should be.

    An image that is as it should be stays as it was found, byte for byte.
    """

    upright: bool = False
    resize_mode: ResizeMode = "none"
    image_size: int | None = None
    resize_only_if_bigger: bool = False
    image_format: ImageFormat = "original"
    quality: int = DEFAULT_QUALITY

    @classmethod
    def of(cls, wishes: Wishes) -> Self | None:
        """What these options ask for; None where they leave every image as it is."""
        if (wishes.upright, wishes.resize_mode, wishes.image_format) == (False, "none", "original"):
            return None
        return cls(
            upright=wishes.upright,
            resize_mode=wishes.resize_mode,
            image_size=wishes.image_size,
            resize_only_if_bigger=wishes.resize_only_if_bigger,
            image_format=wishes.image_format,
            quality=wishes.quality,
        )

    def format_of(self, form: str) -> str:
        """In which format an image of this format is encoded, if it has to be."""
        if self.image_format != "original":
            return self.image_format
        return form if form in MAX_SIDE else "png"

    def keeps_format(self, form: str) -> bool:
        """Whether an image of this format may stay of it."""
        return self.image_format in ("original", form)

    def resized(self, width: int, height: int) -> Resized | None:
        """How a picture of this size is resized; None where it has the right size.

        Turning it by quarters before or after makes no difference.
        """
        size, shorter = self.image_size, min(width, height)
        if self.resize_mode == "none" or size is None:
            return None
        if self.resize_only_if_bigger and shorter <= size:
            return None
        if self.resize_mode == "keep_ratio":
            if shorter == size:
                return None
            whole = (0.0, 0.0, float(width), float(height))
            return Resized(whole, _scaled(width, size, shorter), _scaled(height, size, shorter))
        if width == height == size:
            return None
        left, upper = (width - shorter) / 2, (height - shorter) / 2
        return Resized((left, upper, left + shorter, upper + shorter), size, size)


def _scaled(side: int, size: int, shorter: int) -> int:
    """`side * size / shorter`, rounded to the nearest; halves up."""
    return (2 * side * size + shorter) // (2 * shorter)


def wrong(wishes: Wishes) -> Wrong | None:
    """The first thing about these options that makes no sense together; None if they are fine."""
    mode, resizes = wishes.resize_mode, wishes.resize_mode != "none"
    quality_given = wishes.quality != DEFAULT_QUALITY
    needs_mode = "needs resize_mode keep_ratio or center_crop"
    objections = (
        (resizes and wishes.image_size is None, "image_size", f"is required by resize_mode {mode}"),
        (not resizes and wishes.image_size is not None, "image_size", needs_mode),
        (not resizes and wishes.resize_only_if_bigger, "resize_only_if_bigger", needs_mode),
        (
            quality_given and wishes.image_format == "png",
            "quality",
            "is of jpeg and webp: png loses nothing",
        ),
        (
            quality_given and Transform.of(wishes) is None,
            "quality",
            "needs a resize_mode, image_format jpeg or webp, or upright to do anything",
        ),
    )
    for applies, field, why in objections:
        if applies:
            return Wrong(field, f"{field} {why}")
    return None
