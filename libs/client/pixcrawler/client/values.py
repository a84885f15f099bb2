"""What the API says, as frozen values; fields that this version does not know are kept too."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pixcrawler.common.events import ImageTotals as Images
from pixcrawler.common.events import JobStatus
from pixcrawler.common.events import ProgressView as Progress
from pixcrawler.common.transform import DEFAULT_QUALITY

__all__ = [
    "Attempt",
    "AuditLine",
    "Capacity",
    "Chunk",
    "Control",
    "Drop",
    "Drops",
    "Explanation",
    "Images",
    "JobInfo",
    "JobStatus",
    "Often",
    "Options",
    "Outcome",
    "Progress",
    "Reason",
    "Record",
    "RejectedRow",
    "Replica",
    "Share",
    "Source",
    "Span",
    "UrlFinding",
    "UrlList",
    "Worker",
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
    url_list_id: str | None = None
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


class Share(Told):
    """What an owner has of the capacity, and what waits for it; `share` in percent.

    `next_place` is where the first waiting chunk stands in the line; `resting_chunks` wait for
    another try after a failure.
    """

    owner: str
    active_chunks: int = 0
    share: float = 0.0
    waiting_chunks: int = 0
    next_place: int | None = None
    resting_chunks: int = 0
    open_jobs: int = 0
    oldest_wait_s: float | None = None


class Capacity(Told):
    """Slots for chunks over the whole cluster; `utilization` in percent.

    `owners` says who uses them, where that was asked.
    """

    active_chunks: int
    max_chunks: int
    available: int
    utilization: float
    environment: str = ""
    can_start: bool | None = None
    owners: tuple[Share, ...] | None = None


class UrlFinding(Told):
    """What one chunk made of a URL; `outcome` is None while nothing is decided.

    `archive` and `file_name` say where its image is, `duplicate_of` which was kept instead.
    """

    job_id: str
    job_created_at: datetime
    owner: str
    chunk_id: str
    chunk_status: str
    stage: str = ""
    superseded: bool = False
    url: str
    outcome: str | None = None
    detail: str = ""
    http_status: int = 0
    final_url: str = ""
    source: str = ""
    keyword: str = ""
    bytes: int = 0
    sha256: str = ""
    duplicate_of: str = ""
    archive: str = ""
    file_name: str = ""
    path: str = ""


class Often(Told):
    """Something, and how many URLs it was so with."""

    name: str
    count: int


class Drop(Told):
    """An outcome and how many URLs had it; `share` of all candidates, in percent."""

    outcome: str
    count: int
    share: float = 0.0
    reasons: tuple[Often, ...] = ()
    sources: tuple[Often, ...] = ()
    hosts: tuple[Often, ...] = ()


class Drops(Told):
    """What was dropped since a moment, the most frequent first.

    The counts are of all chunks that have ended since; reasons, sources and hosts of the latest
    `read_chunks`, which have dropped `read_dropped` URLs.
    """

    since: datetime
    as_of: datetime
    chunks: int = 0
    candidates: int = 0
    kept: int = 0
    dropped: int = 0
    outcomes: tuple[Drop, ...] = ()
    read_chunks: int = 0
    read_dropped: int = 0


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


class RejectedRow(Told):
    """A row of a list of URLs that was left out, and why.

    `line` counts from 1, in Parquet it is the row; `text` is how it begins.
    """

    line: int
    reason: str
    text: str = ""


class UrlList(Told):
    """A list of URLs that was uploaded.

    `columns` says what was taken from where, `rows` have a URL that can be asked for, `repeated` of
    them one that was listed before, `rejected` were left out. `rejected_rows` are the first of
    those; `rejected_rows()` of the client has all.
    """

    id: str
    name: str = ""
    format: str = ""
    columns: dict[str, str] = {}
    rows: int = 0
    repeated: int = 0
    rejected: int = 0
    rejected_rows: tuple[RejectedRow, ...] = ()
    bytes: int = 0
    created_at: datetime | None = None


class Reason(Told):
    """One reason why a job is not done, or how it ended.

    `code` is for machines, `sentence` for people. `since` it is so, `until` then it changes by
    itself; `command` shows more of it, or what to do.
    """

    code: str
    sentence: str
    chunk_id: str | None = None
    stage: str | None = None
    worker: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    command: str | None = None


class Explanation(Told):
    """Why a job is not done, or how it ended; the most important first.

    As a text it is its sentences, a line each.
    """

    job_id: str
    status: JobStatus
    as_of: datetime
    reasons: tuple[Reason, ...] = ()

    def __str__(self) -> str:
        return "\n".join(reason.sentence for reason in self.reasons)


class Worker(Told):
    """A replica and the chunk that it has in hand.

    `worker` is empty while the chunk waits in front of its stage. `silent_s` is the time since its
    last sign of life; without a further one it is planned again at `deadline_at` (None while its
    stage is paused).
    """

    worker: str
    stage: str
    chunk_id: str
    job_id: str
    index: int
    attempt: int
    since: datetime
    last_seen_at: datetime
    silent_s: float
    deadline_at: datetime | None = None


class Control(Told):
    """Whether a stage or source is paused, or a replica drained (`paused` too), and why."""

    kind: str
    name: str
    paused: bool
    since: datetime | None = None
    reason: str = ""


class Replica(Told):
    """A replica of a stage, as it told of itself last (`seen_at`); `alive`: lately.

    `state` is `working`, `paused`, `draining`, `drained` or `halted`; `in_hand` counts pieces of
    work.
    """

    stage: str
    worker: str
    state: str
    in_hand: int = 0
    started_at: datetime | None = None
    seen_at: datetime | None = None
    alive: bool = True


class AuditLine(Told):
    """Something that somebody did, and why.

    It was done to `subject`, which is `owner`'s (the whole system's, if that is empty), with the
    key `key_id` of `actor` (by a command on the database itself, if those are empty). `details` say
    what changed, as values or as `{"before": …, "after": …}`; `reason` is in the actor's words.
    """

    id: int
    at: datetime
    owner: str
    actor: str
    key_id: str
    action: str
    subject: str
    job_id: str | None = None
    details: dict[str, Any] = {}
    reason: str = ""


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
