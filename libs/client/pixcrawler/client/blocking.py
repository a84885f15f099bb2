"""The SDK's blocking face: thin methods over the operations that both faces share."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from pixcrawler.client import discovery, operations
from pixcrawler.client.api import authorization
from pixcrawler.client.core import Core
from pixcrawler.client.dataset import Dataset
from pixcrawler.client.operations import Urls
from pixcrawler.client.patience import PATIENCE_S
from pixcrawler.client.ports import Blocking, drive, drive_each
from pixcrawler.client.values import (
    AuditLine,
    Capacity,
    Chunk,
    Control,
    Drops,
    Explanation,
    JobInfo,
    Outcome,
    Progress,
    RejectedRow,
    Replica,
    Source,
    UrlFinding,
    UrlList,
    Worker,
)
from pixcrawler.common.transform import DEFAULT_QUALITY, ImageFormat, ResizeMode


class PixCrawler:
    """A client of one PixCrawler.

    `job = PixCrawler().run(["red panda"], 500); job.wait(); ds = job.dataset()`

    Args:
        api_url: The API's base address; else `PIXCRAWLER_API_URL`, else the standalone mode that
            runs in the data directory.
        api_key: The key; else `PIXCRAWLER_API_KEY`, else the standalone's own.
        patience_s: Seconds for which an API that is away is asked again.
        on_away: Told once for each outage, in one line.

    Raises:
        NotRunning: there is no API to talk to.
    """

    def __init__(
        self,
        api_url: str | None = None,
        api_key: str | None = None,
        *,
        patience_s: float = PATIENCE_S,
        on_away: Callable[[str], None] | None = None,
    ) -> None:
        url, key = discovery.address(api_url, api_key)
        self.api_url = url
        port = Blocking(url, authorization(key))
        self.core = Core(port, url, patience_s=patience_s, on_away=on_away)

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the connections."""
        self.close()

    def close(self) -> None:
        """Let go of the connections. Jobs go on."""
        drive(self.core.port.close())

    def run(
        self,
        keywords: Iterable[str] = (),
        max_images: int | None = None,
        *,
        sources: Iterable[str] = (),
        urls: Urls | None = None,
        url_column: str | None = None,
        caption_column: str | None = None,
        name: str = "",
        project_id: str | None = None,
        priority: int = 5,
        min_size: int = 64,
        near_duplicates: int | None = 6,
        refill_factor: float = 5.0,
        format: Literal["zip", "webdataset"] = "zip",  # noqa: A002 - as everywhere else
        upright: bool = False,
        resize_mode: ResizeMode = "none",
        image_size: int | None = None,
        resize_only_if_bigger: bool = False,
        image_format: ImageFormat = "original",
        quality: int = DEFAULT_QUALITY,
        start: bool = True,
        webhook_url: str | None = None,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> "Job":
        """Create a job.

        Args:
            keywords: What to look for; may be empty where `urls` are given.
            max_images: How many images, over all keywords and sources; all of `urls` if not given.
            sources: Where to look; the API's defaults if not given. See `sources()`.
            urls: Candidates of your own, the `Path` of a file of them, or a list that was uploaded.
            url_column: The file's column of URLs, if it is not found by itself.
            caption_column: Likewise of captions, which become titles.
            name: For people.
            project_id: For your own bookkeeping; `jobs()` filters by it.
            priority: From 0 to 10; higher goes first.
            min_size: The shorter side of an image at least, in pixels.
            near_duplicates: Bits in which perceptual hashes of the same image may differ; None
                keeps near duplicates.
            refill_factor: Candidates at most, as a multiple of `max_images`.
            format: What archives are: ZIPs or WebDataset tars.
            upright: Turn images as their EXIF orientation says.
            resize_mode: `keep_ratio` or `center_crop`, both to `image_size`.
            image_size: Pixels: the shorter side, or the side of the square.
            resize_only_if_bigger: Leave smaller images alone, instead of enlarging them.
            image_format: In which format images are stored; as they are found by default.
            quality: From 1 to 100: of JPEG and WebP, where an image is encoded again.
            start: False leaves it until `start()`.
            webhook_url: Told when the job is over.
            options: Further options, as the API names them.
            idempotency_key: Created once, however often it is asked for with the same key.

        Raises:
            Invalid: a value is wrong.
            Unreachable: the API was away for longer than patience lasts.
        """
        body = operations.new_job(
            keywords,
            max_images,
            sources=sources,
            name=name,
            project_id=project_id,
            priority=priority,
            start=start,
            webhook_url=webhook_url,
            options={
                "min_size": min_size,
                "near_duplicates": near_duplicates,
                "refill_factor": refill_factor,
                "format": format,
                **operations.transform_options(
                    upright=upright,
                    resize_mode=resize_mode,
                    image_size=image_size,
                    resize_only_if_bigger=resize_only_if_bigger,
                    image_format=image_format,
                    quality=quality,
                ),
                **(options or {}),
            },
        )
        columns = {"url_column": url_column, "caption_column": caption_column}
        info = drive(operations.create(self.core, body, urls, columns, idempotency_key))
        return Job(self, info)

    def job(self, job_id: str) -> "Job":
        """A job.

        Raises:
            NotFound: there is none, or it is not yours.
        """
        return Job(self, drive(operations.job(self.core, job_id)))

    def jobs(self, *, status: str | None = None, project_id: str | None = None) -> Iterator["Job"]:
        """Your jobs, the latest first."""
        found = operations.jobs(self.core, status=status, project_id=project_id)
        for info in drive_each(found):
            yield Job(self, info)

    def capacity(self, required_chunks: int | None = None, *, by_owner: bool = False) -> Capacity:
        """How much work is let through at a time; `can_start`: whether so many chunks could.

        Args:
            required_chunks: So many.
            by_owner: Also tell whose it is; of everybody, with a key with the scope `admin`.
        """
        return drive(operations.capacity(self.core, required_chunks, by_owner=by_owner))

    def find_url(
        self,
        url: str,
        *,
        job_id: str | None = None,
        all: bool = False,  # noqa: A002 - as everywhere else
    ) -> Iterator[UrlFinding]:
        """What every job of yours that had a URL made of it, the latest first.

        Jobs are looked through while you iterate; stop when you have seen enough.

        Args:
            url: As a source gave it, or as redirects led to it.
            job_id: Only in this job.
            all: In all owners' jobs; needs a key with the scope `admin`.
        """
        return drive_each(operations.find_url(self.core, url, job_id=job_id, everyone=all))

    def drops(self, since: datetime | None = None, *, all: bool = False) -> Drops:  # noqa: A002
        """What was dropped most, and why, in all chunks of yours that have ended lately.

        Args:
            since: From when on; 24 hours ago if it is not given.
            all: Of all owners; needs a key with the scope `admin`.
        """
        return drive(operations.drops(self.core, since, everyone=all))

    def sources(self) -> list[Source]:
        """What can be searched."""
        return drive(operations.sources(self.core))

    def upload(
        self,
        path: Path | str,
        *,
        url_column: str | None = None,
        caption_column: str | None = None,
        idempotency_key: str | None = None,
    ) -> UrlList:
        """Upload a file of URLs for `urls` of `run()`: txt, csv, tsv, jsonl, parquet, also as .gz.

        A row that cannot be used is left out and told, and stops nothing. The list stays until it
        is deleted.

        Args:
            path: The file.
            url_column: Its column of URLs, if it is not found by itself.
            caption_column: Likewise of captions, which become titles.
            idempotency_key: Taken once, however often it is sent with the same key; a new key for
                each call if it is not given.

        Raises:
            Invalid: it is no list, or no column of URLs was found.
        """
        columns = {"url_column": url_column, "caption_column": caption_column}
        return drive(operations.upload(self.core, Path(path), columns, idempotency_key))

    def url_list(self, list_id: str) -> UrlList:
        """A list that was uploaded.

        Raises:
            NotFound: there is none, or it is not yours.
        """
        return drive(operations.url_list(self.core, list_id))

    def url_lists(self) -> Iterator[UrlList]:
        """Your lists, the latest first."""
        return drive_each(operations.url_lists(self.core))

    def rejected_rows(self, url_list: UrlList | str) -> Iterator[RejectedRow]:
        """All rows of a list (or of the list with this id) that were left out, and why."""
        return drive_each(operations.rejected_rows(self.core, operations.id_of(url_list)))

    def delete_url_list(self, url_list: UrlList | str) -> None:
        """Forget a list (or the list with this id). Datasets that were made of it stay.

        Raises:
            Conflict: a job that is not finished reads it.
        """
        drive(operations.delete_url_list(self.core, operations.id_of(url_list)))

    def workers(self, *, all: bool = False) -> Iterator[Worker]:  # noqa: A002 - as everywhere else
        """Who has which chunk of your jobs in hand.

        Args:
            all: Of all owners' jobs; needs a key with the scope `admin`.
        """
        return drive_each(operations.workers(self.core, everyone=all))

    def audit(
        self,
        since: datetime | timedelta | None = None,
        *,
        action: str | None = None,
        job_id: str | None = None,
    ) -> Iterator[AuditLine]:
        """What was done to what is yours, the latest first; all of it, if the key is an admin's.

        Args:
            since: Only what was done then or later, or within so much time.
            action: Only this, such as `job.cancel`; `job` is all that is done to jobs.
            job_id: Only what was done to this job.
        """
        return drive_each(operations.audit(self.core, since, action, job_id))

    def controls(self) -> list[Control]:
        """What operators have paused or drained."""
        return drive(operations.controls(self.core))

    def replicas(self) -> list[Replica]:
        """The replicas that told of themselves today."""
        return drive(operations.replicas(self.core))

    def pause(
        self, kind: Literal["stage", "source"], name: str, *, reason: str | None = None
    ) -> Control:
        """Have a stage take nothing more, or nobody ask a source, until it is resumed.

        Raises:
            NotFound: there is none such; it says which there are.
            NotAuthorized: the key has not the scope `admin`.
        """
        return drive(operations.steer(self.core, kind, name, "pause", reason))

    def resume(
        self, kind: Literal["stage", "source", "replica"], name: str, *, reason: str | None = None
    ) -> Control:
        """Let a stage, a source or a replica work again.

        Raises:
            NotFound: there is none such; it says which there are.
            NotAuthorized: the key has not the scope `admin`.
        """
        return drive(operations.steer(self.core, kind, name, "resume", reason))

    def drain(self, replica: str, *, reason: str | None = None) -> Control:
        """Have a replica finish what it has in hand and leave its group, until it is resumed.

        Raises:
            NotFound: there is none such; it says which there are.
            NotAuthorized: the key has not the scope `admin`.
        """
        return drive(operations.steer(self.core, "replica", replica, "drain", reason))


class Job:
    """A job; made by `run()`, `job()` and `jobs()`.

    Attributes:
        info: The job as it was when the API was last asked.
    """

    def __init__(self, client: PixCrawler, info: JobInfo) -> None:
        self._core = client.core
        self.info = info

    def __repr__(self) -> str:
        return f"Job({self.id!r}, {self.info.status})"

    @property
    def id(self) -> str:
        """Its id."""
        return self.info.job_id

    def refresh(self) -> Self:
        """Ask how it is now."""
        self.info = drive(operations.job(self._core, self.id))
        return self

    def progress(self) -> Progress:
        """How far it is."""
        return drive(operations.progress(self._core, self.id))

    def explain(self) -> Explanation:
        """Why it is not done, or how it ended; `print` it, or go through its `reasons`."""
        return drive(operations.explain(self._core, self.id))

    def rejected_rows(self) -> Iterator[RejectedRow]:
        """Rows of the list of URLs that it was made with that were left out, and why."""
        return drive_each(operations.rejected_rows(self._core, self.info.url_list_id))

    def watch(self, timeout: float | None = None) -> Iterator[Progress]:
        """Its progress at every change; the last is that at the end of its round.

        Raises:
            WaitTimeout: it is not over after `timeout` seconds; it goes on.
        """
        return drive_each(operations.watch(self._core, self.id, timeout))

    def wait(
        self,
        timeout: float | None = None,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Progress:
        """Wait until its round is over and its dataset is there; its last progress.

        Its `status` says how it ended: completed, incomplete, failed or cancelled.

        Args:
            timeout: Seconds at most.
            on_progress: Told every change.

        Raises:
            WaitTimeout: it is not over in time; it goes on.
            Unreachable: the API was away for longer than patience lasts.
        """
        last = drive(operations.wait(self._core, self.id, timeout, on_progress))
        self.refresh()
        return last

    def start(self, *, wait: bool = True) -> Self:
        """Start it, if it was made with `start=False`.

        Args:
            wait: False: not at all if there is no room now.

        Raises:
            Conflict: there is no room.
        """
        self.info = drive(operations.start(self._core, self.id, wait=wait))
        return self

    def cancel(self, *, reason: str | None = None) -> Self:
        """Stop it; what was packed stays.

        Args:
            reason: Why, for the audit log.

        Raises:
            Conflict: it is over.
        """
        self.info = drive(operations.act(self._core, self.id, "cancel", reason=reason))
        return self

    def retry(self, *, reason: str | None = None, idempotency_key: str | None = None) -> Self:
        """Try its failed chunks again.

        Args:
            reason: Why, for the audit log.
            idempotency_key: Done once, however often it is asked for with the same key; a new key
                for each call if it is not given.
        """
        answer = operations.act(self._core, self.id, "retry", idempotency_key, reason=reason)
        self.info = drive(answer)
        return self

    def extend(
        self,
        max_images: int,
        *,
        priority: int | None = None,
        reason: str | None = None,
        idempotency_key: str | None = None,
    ) -> Self:
        """Ask for more images.

        Args:
            max_images: How many more.
            priority: Of all its chunks that wait; as it is if not given.
            reason: Why, for the audit log.
            idempotency_key: Done once, however often it is asked for with the same key; a new key
                for each call if it is not given.
        """
        params = {"max_images": max_images, "priority": priority, "reason": reason}
        self.info = drive(operations.act(self._core, self.id, "chunks", idempotency_key, **params))
        return self

    def prioritize(self, priority: int, *, reason: str | None = None) -> Self:
        """Give it another priority: its chunks that wait move in the line.

        Args:
            priority: From 0 to 10; higher goes first.
            reason: Why, for the audit log.

        Raises:
            Conflict: it is over.
        """
        self.info = drive(operations.prioritize(self._core, self.id, priority, reason))
        return self

    def give_up(self, chunk: int | str, *, reason: str | None = None) -> Chunk:
        """Have a chunk given up that has not ended; the job goes on without it.

        Args:
            chunk: Its index or id.
            reason: Why, for the audit log and the chunk's own error.

        Raises:
            Conflict: it has ended, or the job is cancelled.
        """
        return drive(operations.give_up(self._core, self.id, chunk, reason))

    def delete(self, *, reason: str | None = None) -> None:
        """Forget it and everything that it made.

        Args:
            reason: Why, for the audit log.
        """
        drive(operations.delete(self._core, self.id, reason))

    def chunks(self, status: str | None = None) -> Iterator[Chunk]:
        """Its chunks: pending, processing, completed or failed ones, or all."""
        return drive_each(operations.chunks(self._core, self.id, status))

    def outcomes(self, outcome: str | None = None) -> Iterator[Outcome]:
        """Every URL and what became of it, also while it runs; those of one outcome, or all."""
        return drive_each(operations.outcomes(self._core, self.id, outcome))

    def dataset(
        self,
        path: Path | str | None = None,
        *,
        on_bytes: Callable[[int, int], None] | None = None,
    ) -> Dataset:
        """Its dataset: what is not there yet is fetched, and every byte checked by sha256.

        Args:
            path: The folder; one in the user's cache if it is not given.
            on_bytes: Told (bytes so far, bytes in all) now and then.

        Raises:
            NotFound: no round is over yet, so there is none.
            DatasetError: the folder is another dataset's, or what came is not what was listed.
        """
        return drive(operations.dataset(self._core, self.id, path, on_bytes))
