"""What the API says, as frozen values; fields that this version does not know are kept too."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from pixcrawler.common.events import ImageTotals as Images
from pixcrawler.common.events import JobStatus
from pixcrawler.common.events import ProgressView as Progress
from pixcrawler.common.transform import DEFAULT_QUALITY

__all__ = [
    "Attempt",
    "Capacity",
    "Chunk",
    "Images",
    "JobInfo",
    "JobStatus",
    "Options",
    "Outcome",
    "Progress",
    "Record",
    "Source",
    "Span",
]


class Told(BaseModel):
    """A frozen value; fields of a newer API are attributes like the others."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Options(Told):
    """How a job's images are chosen and packed."""

    min_size: int = 64
    near_duplicates: int | None = 6
    refill_factor: float = 5.0
    format: str = "zip"
    upright: bool = False
    resize_mode: str = "none"
    image_size: int | None = None
    resize_only_if_bigger: bool = False
    image_format: str = "original"
    quality: int = DEFAULT_QUALITY


class JobInfo(Told):
    """A job as it was when the API was asked; `chunk_progress` in percent."""

    job_id: str
    project_id: str | None = None
    name: str = ""
    status: JobStatus
    keywords: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    max_images: int
    priority: int = 5
    options: Options = Options()
    total_chunks: int = 0
    active_chunks: int = 0
    completed_chunks: int = 0
    failed_chunks: int = 0
    chunk_progress: float = 0.0
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    round: int = 0


class Span(Told):
    """Candidates of a job, counted from 0; both ends are included."""

    start: int
    end: int


class Attempt(Told):
    """One stage's work at one attempt, and the record that carried it."""

    attempt: int
    stage: str = ""
    worker: str = ""
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    state: str = ""
    error: str | None = None
    message: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None


class Chunk(Told):
    """A chunk of a job. `superseded`: it failed and was retried as another."""

    chunk_id: str
    job_id: str
    index: int
    status: str
    stage: str
    priority: int
    image_range: Span
    attempt: int
    retry_count: int
    retry_of: str | None = None
    superseded: bool = False
    error_message: str | None = None
    images: Images = Images()
    created_at: datetime | None = None
    updated_at: datetime | None = None
    attempts: tuple[Attempt, ...] = ()


class Outcome(Told):
    """One candidate URL and what became of it. Unknown text is empty, unknown numbers are 0."""

    url: str
    outcome: str
    detail: str = ""
    source: str = ""
    keyword: str = ""
    chunk_id: str = ""
    http_status: int = 0
    final_url: str = ""
    bytes: int = 0
    sha256: str = ""
    phash: str = ""
    duplicate_of: str = ""
    elapsed_ms: int = 0


class Capacity(Told):
    """Slots for chunks over the whole cluster; `utilization` in percent."""

    active_chunks: int
    max_chunks: int
    available: int
    utilization: float
    environment: str = ""
    can_start: bool | None = None


class Source(Told):
    """What can be searched, and its limits (None: not known)."""

    name: str
    default: bool = False
    title: str = ""
    homepage: str = ""
    results_per_request: int | None = None
    results_per_search: int | None = None
    licenses: bool = False
    note: str = ""


class Record(Told):
    """What is known about a kept image; unknown text is empty.

    `url` is the candidate's, before redirects; `license` an SPDX id where there is one; `width` and
    `height` in pixels; `bytes` the file's size; `sha256` and `phash` in hex.

    `original_…` and `phash` are of the file as it was found, the others of the file in the archive.
    Where a job does not transform its images they are the same, and `original_…` is not set.
    """

    file_name: str
    url: str = ""
    source: str = ""
    keyword: str = ""
    title: str = ""
    creator: str = ""
    license: str = ""
    license_url: str = ""
    landing_url: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    bytes: int = Field(default=0)
    sha256: str = ""
    phash: str = ""
    original_width: int = 0
    original_height: int = 0
    original_format: str = ""
    original_bytes: int = 0
    original_sha256: str = ""
