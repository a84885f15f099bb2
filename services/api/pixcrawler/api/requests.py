"""What clients may ask for: the bodies of requests, checked field by field."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from pixcrawler.api.sources import DEFAULT, KNOWN
from pixcrawler.common import transform
from pixcrawler.common.jobs import Options
from pixcrawler.common.ranges import URLS

LIST_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MAX_PRIORITY = 10
MAX_KEYWORDS = 1000
MAX_URLS = 1_000_000


def wrong(message: str) -> PydanticCustomError:
    """A value is wrong; the message begins with the field."""
    field = message.partition(" ")[0].removesuffix(":")
    return PydanticCustomError("value_error", "{message}", {"message": message, "field": field})


def _priority(value: int) -> int:
    if not 0 <= value <= MAX_PRIORITY:
        raise wrong("priority must be between 0 and 10")
    return value


def _positive(value: int) -> int:
    if value <= 0:
        raise wrong("max_images must be positive")
    return value


def _text(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("value_error", "must not contain a NUL character")
    return value


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _source(value: str) -> str:
    if value not in KNOWN:
        raise wrong(f"sources: {value!r} is unknown; choose from {', '.join(KNOWN)}")
    return value


def _http(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise wrong("webhook_url must be an http or https URL")
    return value


def _urls(value: object, listed: ValidatorFunctionWrapHandler) -> object:
    """Either of the two, so that a complaint names the field and not a kind of it."""
    if not isinstance(value, str):
        return listed(value)
    if not LIST_ID.fullmatch(value):
        raise wrong("urls must be a list of URLs, or the id of one that was uploaded")
    return value


Priority = Annotated[
    int,
    AfterValidator(_priority),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_PRIORITY}),
]
MaxImages = Annotated[
    int, AfterValidator(_positive), WithJsonSchema({"type": "integer", "minimum": 1})
]
Text = AfterValidator(_text)
Keyword = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), Text
]
Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=8192), Text]
ListId = Annotated[str, StringConstraints(pattern=rf"^{LIST_ID.pattern}$")]
Urls = Annotated[
    tuple[Url, ...],
    Field(max_length=MAX_URLS, strict=False),  # JSON has lists
    WrapValidator(_urls, json_schema_input_type=tuple[Url, ...] | ListId),
    PlainSerializer(lambda value: value),
]
"""URLs themselves, or the id of a list of them (then it is a text)."""
Source = Annotated[
    str, AfterValidator(_source), WithJsonSchema({"type": "string", "enum": list(KNOWN)})
]
Sources = Annotated[tuple[Source, ...], Field(strict=False)]
WebhookUrl = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=2048), Text, AfterValidator(_http)
]
Label = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=200),
    Text,
    BeforeValidator(_number_as_text),
]


class Body(BaseModel):
    """A body, as strict as its schema: `true` is no 1, and "5" is no number.

    A field that nobody knows is an error, since it would do nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NewOptions(Body):
    """How images are chosen and packed; see `pixcrawler.common.jobs.Options`."""

    min_size: int = Field(default=64, ge=1, le=65_535)
    near_duplicates: int | None = Field(default=6, ge=0, le=16)
    refill_factor: float = Field(default=5.0, ge=1.0, le=100.0)
    format: Literal["zip", "webdataset"] = "zip"
    upright: transform.Upright = False
    resize_mode: transform.Resize = "none"
    image_size: transform.ImageSize = None
    resize_only_if_bigger: transform.OnlyIfBigger = False
    image_format: transform.Format = "original"
    quality: transform.Quality = transform.DEFAULT_QUALITY

    @model_validator(mode="after")
    def _they_make_sense_together(self) -> Self:
        if (found := transform.wrong(self)) is not None:
            raise wrong(found.message)
        return self

    def options(self) -> Options:
        """As the job keeps them."""
        return Options.model_validate(self.model_dump())


class NewJob(Body):
    """`POST /v1/jobs`.

    Attributes:
        name: For people.
        project_id: For your own bookkeeping; the list of jobs can be filtered by it.
        keywords: What to look for; may be empty where `urls` are given.
        sources: Where (`GET /v1/sources`); the default ones, and `urls` where there are any.
        urls: Candidates that you bring along, or the id of a list that was uploaded.
        max_images: How many images, over keywords and sources; all of `urls` if not given.
        priority: Of its chunks: 0 to 10, higher goes first.
        start: False leaves it until `POST /v1/jobs/{job_id}/start`.
        options: How images are chosen and packed.
        webhook_url: Told of the end of each round; http or https, no private address, no redirect.
    """

    name: Label = ""
    project_id: Label | None = None
    keywords: tuple[Keyword, ...] = Field(default=(), max_length=MAX_KEYWORDS, strict=False)
    sources: Sources = ()
    urls: Urls | None = None
    max_images: MaxImages | None = None
    priority: Priority = 5
    start: bool = True
    options: NewOptions = NewOptions()
    webhook_url: WebhookUrl | None = None

    @model_validator(mode="after")
    def _there_is_something_to_look_for(self) -> Self:
        if not self.keywords and not self.urls:
            raise wrong("keywords must not be empty")
        if self.max_images is None and not self.urls:
            raise wrong("max_images is required")
        check_sources(self.sources, self.keywords, self.urls)
        return self

    @property
    def list_id(self) -> str | None:
        """The uploaded list, if that is where the URLs are."""
        urls: object = self.urls
        return urls if isinstance(urls, str) else None

    @property
    def listed(self) -> tuple[str, ...] | None:
        """The URLs themselves, each once; None if there are none here."""
        return None if self.urls is None or self.list_id else tuple(dict.fromkeys(self.urls))

    @property
    def wanted_sources(self) -> tuple[str, ...]:
        """The sources as asked for or by default, each once; URLs that are there are used."""
        asked = self.sources or (DEFAULT if self.keywords else ())
        return tuple(dict.fromkeys(asked + ((URLS,) if self.urls else ())))


class Start(Body):
    """`POST /v1/jobs/{job_id}/start`.

    Attributes:
        sources: Instead of those that the job was made with; empty keeps them.
        wait: False: not at all if there is no room now (409).
    """

    sources: Sources = ()
    wait: bool = True


class Change(Body):
    """`PATCH /v1/jobs/{job_id}`.

    Attributes:
        priority: Of its chunks that wait, and of those to come: 0 to 10, higher goes first.
    """

    priority: Priority


def check_sources(
    sources: tuple[str, ...], keywords: tuple[str, ...], urls: tuple[str, ...] | None
) -> None:
    """Every source has to have what it searches.

    Raises:
        PydanticCustomError: one has not.
    """
    if URLS in sources and not urls:
        raise wrong("urls must not be empty for the source urls")
    if any(source != URLS for source in sources) and not keywords:
        raise wrong("keywords must not be empty for a source that is searched")
