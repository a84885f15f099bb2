"""What the API's description shows: one job, its chunks, and what it left behind.

Made of the very values that routes answer with, so an example cannot say what an answer does not.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fastapi.openapi.models import Example

from pixcrawler.api import sources
from pixcrawler.api.changes import Changes, ChunkChanges, Failure, JobChanges
from pixcrawler.api.deliveries import Delivery
from pixcrawler.api.drops import Drop, Drops, Often
from pixcrawler.api.explanations import Explanation, Reason
from pixcrawler.api.findings import UrlFinding, UrlFindings
from pixcrawler.api.images import ImageView
from pixcrawler.api.licenses import LicenseCount
from pixcrawler.api.lists.store import RejectedView
from pixcrawler.api.views import (
    Attempt,
    AuditLine,
    CapacityView,
    ChunkProgressView,
    ChunkView,
    ControlView,
    DatasetFileView,
    DatasetView,
    Holding,
    JobView,
    Page,
    ReplicaView,
    Share,
    Span,
    Started,
)
from pixcrawler.api.webhooks import Finished, Round
from pixcrawler.common.chunk_outcomes import OutcomeRow
from pixcrawler.common.documents import StoredFile, Unanswered
from pixcrawler.common.events import ImageTotals, ProgressImages, ProgressView
from pixcrawler.common.ids import chunk_id
from pixcrawler.common.jobs import Options
from pixcrawler.common.outcomes import Outcome

AT: Final = datetime(2026, 3, 14, 9, 26, 53, 589793, tzinfo=UTC)
DONE: Final = AT + timedelta(seconds=95)
JOB_ID: Final = "019ceb99-81f5-7a43-9c55-3f8e1b2a6d70"
CHUNK_ID: Final = chunk_id(JOB_ID, 0)
LIST_ID: Final = "019ceb98-4c10-7d21-8f0a-52b1c9e07a34"
SHA256: Final = "0d1f0e54b6a8c23d96c1f2ab8e0d9a7b35c4486d1a2b7e9f3c58d0617eab42f9"
CURSOR: Final = "WyIwMTljZWI5OS04MWY1LTdhNDMtOWM1NS0zZjhlMWIyYTZkNzAiXQ"
FILE: Final = f"datasets/{JOB_ID}/chunk_{CHUNK_ID}.zip"
IDEMPOTENCY_KEY: Final = "5f1c2a9e-extend-1"

JOB: Final = JobView(
    job_id=JOB_ID,
    project_id="animals",
    name="red pandas",
    status="pending",
    keywords=("red panda",),
    sources=("openverse", "commons"),
    max_images=200,
    priority=5,
    options=Options(),
    total_chunks=0,
    active_chunks=0,
    completed_chunks=0,
    failed_chunks=0,
    chunk_progress=0.0,
    created_at=AT,
    started_at=AT,
    finished_at=None,
    round=1,
    webhook_url="https://example.org/hooks/pixcrawler",
)
RUNNING: Final = JOB.model_copy(update={"status": "running", "total_chunks": 1, "active_chunks": 1})
FINISHED: Final = JOB.model_copy(
    update={
        "status": "completed",
        "total_chunks": 1,
        "completed_chunks": 1,
        "chunk_progress": 100.0,
        "finished_at": DONE,
    }
)
EXTENDED: Final = FINISHED.model_copy(
    update={"status": "pending", "max_images": 300, "finished_at": None, "round": 2}
)
PRIORITIZED: Final = JOB.model_copy(update={"priority": 9})
RETRIED: Final = FINISHED.model_copy(
    update={
        "status": "pending",
        "completed_chunks": 0,
        "failed_chunks": 1,
        "finished_at": None,
        "round": 2,
    }
)
CANCELLING: Final = RUNNING
STARTED: Final = Started(job_id=JOB_ID, status="pending", total_chunks=1, chunk_ids=(CHUNK_ID,))
JOBS: Final = Page[JobView](items=(FINISHED,), next_cursor=CURSOR)

TOTALS: Final = ImageTotals(
    candidates=243,
    downloaded=231,
    valid=200,
    dropped={"near_duplicate": 19, "http_error": 12, "too_small": 8, "corrupt": 4},
    bytes=91_750_400,
)
PROGRESS: Final = ProgressView(
    job_id=JOB_ID,
    status="running",
    progress=64.5,
    total_chunks=1,
    active_chunks=1,
    images=ProgressImages(
        requested=200, candidates=243, downloaded=160, valid=129, dropped={"http_error": 9}
    ),
    started_at=AT,
    eta_s=31.0,
    updated_at=AT + timedelta(seconds=60),
)
STREAM: Final = (
    "retry: 2000\n\n"
    f"event: progress\ndata: {PROGRESS.model_dump_json()}\nid: 0.1.0.1.412\n\n"
    ": still here\n\n"
)

CHUNK: Final = ChunkView(
    chunk_id=CHUNK_ID,
    job_id=JOB_ID,
    index=0,
    status="completed",
    stage="uploader",
    priority=5,
    image_range=Span(start=0, end=499),
    attempt=1,
    retry_count=0,
    retry_of=None,
    superseded=False,
    error_message=None,
    images=TOTALS,
    archive=StoredFile(name=FILE, size=91_802_113, sha256=SHA256),
    unanswered=(),
    created_at=AT,
    updated_at=DONE,
    attempts=(
        Attempt(
            attempt=1,
            stage="downloader",
            worker="downloader-1",
            topic="chunk.planned",
            partition=7,
            offset=1312,
            state="done",
            started_at=AT,
            ended_at=AT + timedelta(seconds=71),
        ),
    ),
)
WORKING_CHUNK: Final = CHUNK.model_copy(
    update={"status": "processing", "stage": "downloader", "archive": None}
)
FAILED_CHUNK: Final = CHUNK.model_copy(
    update={
        "status": "failed",
        "stage": "downloader",
        "attempt": 4,
        "retry_count": 3,
        "error_message": "no source answered: openverse: 503 after 5 tries",
        "images": ImageTotals(),
        "archive": None,
        "unanswered": (
            Unanswered(source="openverse", keyword="red panda", offset=0, limit=500, reason="503"),
        ),
        "attempts": (
            Attempt(
                attempt=4,
                stage="downloader",
                worker="downloader-2",
                topic="chunk.planned",
                partition=7,
                offset=1398,
                state="failed",
                error="source_unavailable",
                message="openverse: 503 after 5 tries",
                started_at=AT,
                ended_at=DONE,
            ),
        ),
    }
)
CHUNKS: Final = Page[ChunkView](items=(CHUNK,))
CHUNK_PROGRESS: Final = ChunkProgressView(
    job_id=JOB_ID,
    total_chunks=4,
    pending_chunks=1,
    processing_chunks=1,
    completed_chunks=2,
    failed_chunks=0,
    completion_percentage=50.0,
    is_complete=False,
    timestamp=AT,
)

OUTCOMES: Final = Page[OutcomeRow](
    items=(
        OutcomeRow(
            url="https://images.example/panda-1.jpg",
            outcome=Outcome.KEPT,
            source="openverse",
            keyword="red panda",
            chunk_id=CHUNK_ID,
            http_status=200,
            final_url="https://images.example/panda-1.jpg",
            bytes=482_133,
            sha256=SHA256,
            phash="c3a59d3a6c5a93a4",
            elapsed_ms=412,
        ),
        OutcomeRow(
            url="https://images.example/gone.jpg",
            outcome=Outcome.HTTP_ERROR,
            detail="404 Not Found",
            source="commons",
            keyword="red panda",
            chunk_id=CHUNK_ID,
            http_status=404,
            elapsed_ms=98,
        ),
    ),
    next_cursor="WzAsIDJd",
)
DATASET: Final = DatasetView(
    job_id=JOB_ID,
    round=1,
    status="completed",
    images=TOTALS,
    files=(
        DatasetFileView(
            path=f"chunk_{CHUNK_ID}.zip",
            size=91_802_113,
            sha256=SHA256,
            url=f"https://pixcrawler.example/v1/files/{FILE}"
            f"?filename=chunk_{CHUNK_ID}.zip&expires=1773484013&signature=6f2c41d0",
            expires_at=DONE + timedelta(hours=1),
        ),
    ),
)
IMAGES: Final = Page[ImageView](
    items=(
        ImageView(
            url="https://images.example/panda-1.jpg",
            source="openverse",
            keyword="red panda",
            title="Red panda in a tree",
            creator="A. Photographer",
            license="CC-BY-4.0",
            license_url="https://creativecommons.org/licenses/by/4.0/",
            landing_url="https://photos.example/red-panda",
            width=2048,
            height=1365,
            format="jpeg",
            bytes=482_133,
            sha256=SHA256,
            original_sha256=SHA256,
            chunk_id=CHUNK_ID,
            path=f"/v1/jobs/{JOB_ID}/chunks/0/images/{SHA256}",
        ),
    )
)
LICENSES: Final = Page[LicenseCount](
    items=(
        LicenseCount(
            license="CC-BY-4.0",
            license_url="https://creativecommons.org/licenses/by/4.0/",
            images=131,
        ),
        LicenseCount(
            license="CC0-1.0",
            license_url="https://creativecommons.org/publicdomain/zero/1.0/",
            images=69,
        ),
    )
)
REJECTED: Final = RejectedView(
    line=17, reason="not an http or https URL", text="ftp://old.example/1.gif"
)
REJECTED_ROWS: Final = Page[RejectedView](items=(REJECTED,))
URL_LIST: Final[dict[str, Any]] = {
    "id": LIST_ID,
    "name": "pandas.csv.gz",
    "format": "csv",
    "columns": {"url": "image_url", "title": "caption"},
    "rows": 12_408,
    "repeated": 31,
    "rejected": 1,
    "rejected_rows": (REJECTED,),
    "bytes": 801_223,
    "created_at": AT,
}
DELIVERIES: Final = Page[Delivery](
    items=(
        Delivery(
            webhook_id=f"{JOB_ID}:1",
            round=1,
            url="https://example.org/hooks/pixcrawler",
            status="delivered",
            attempts=1,
            status_code=204,
            error=None,
            created_at=DONE,
            last_attempt_at=DONE,
            next_attempt_at=None,
            delivered_at=DONE,
        ),
    )
)
FINISHED_EVENT: Final = Finished(
    timestamp=DONE,
    data=Round(
        job_id=JOB_ID,
        project_id="animals",
        name="red pandas",
        round=1,
        status="completed",
        reason="reached",
        total_chunks=1,
        completed_chunks=1,
        failed_chunks=0,
        images=ProgressImages(requested=200, **TOTALS.model_dump()),
        finished_at=DONE,
    ),
)
CAPACITY: Final = CapacityView(
    active_chunks=25, max_chunks=35, available=10, utilization=71.4, environment="local"
)
SHARE: Final = Share(
    owner="ann",
    active_chunks=25,
    share=71.4,
    waiting_chunks=40,
    next_place=1,
    resting_chunks=0,
    open_jobs=2,
    oldest_wait_s=12.5,
)
FINDINGS: Final = UrlFindings(
    items=(
        UrlFinding(
            job_id=JOB_ID,
            job_created_at=AT,
            owner="ann",
            chunk_id=CHUNK_ID,
            chunk_status="completed",
            stage="uploader",
            superseded=False,
            url="https://upload.wikimedia.org/red_panda.jpg",
            outcome=Outcome.KEPT,
            http_status=200,
            final_url="https://upload.wikimedia.org/red_panda.jpg",
            source="commons",
            keyword="red panda",
            bytes=91802,
            sha256=SHA256,
            archive=FILE.rpartition("/")[2],
            file_name=f"images/{SHA256[:20]}.jpg",
            path=f"/v1/jobs/{JOB_ID}/chunks/0/images/{SHA256}",
        ),
    ),
    searched_chunks=12,
    searched_since=AT,
)
DROPS: Final = Drops(
    since=AT - timedelta(days=1),
    as_of=AT,
    chunks=12,
    candidates=6000,
    kept=4100,
    dropped=1900,
    outcomes=(
        Drop(
            outcome=Outcome.HTTP_ERROR,
            count=1900,
            share=31.7,
            reasons=(Often(name="404 Not Found", count=1712),),
            sources=(Often(name="commons", count=1900),),
            hosts=(Often(name="upload.wikimedia.org", count=1900),),
        ),
    ),
    read_chunks=12,
    read_dropped=1900,
)
_SEEN: Final = AT + timedelta(seconds=40)
EXPLANATION: Final = Explanation(
    job_id=JOB_ID,
    status="running",
    as_of=_SEEN + timedelta(seconds=2),
    reasons=(
        Reason(
            code="chunk_in_stage",
            sentence="Chunk 0 has been in the validator for 42 s on validator-1; last sign of life "
            "2 s ago.",
            chunk_id=CHUNK_ID,
            stage="validator",
            worker="validator-1",
            since=AT,
        ),
    ),
)
WORKERS: Final = Page[Holding](
    items=(
        Holding(
            worker="validator-1",
            stage="validator",
            chunk_id=CHUNK_ID,
            job_id=JOB_ID,
            index=0,
            attempt=1,
            since=AT,
            last_seen_at=_SEEN,
            silent_s=2.0,
            deadline_at=_SEEN + timedelta(seconds=900),
        ),
    )
)
AUDIT: Final = Page[AuditLine](
    items=(
        AuditLine(
            id=41,
            at=AT,
            owner="ann",
            actor="ann",
            key_id="5f3a9c1e0b7d",
            action="job.extend",
            subject=JOB_ID,
            job_id=JOB_ID,
            details={"max_images": {"before": 200, "after": 300}},
            reason="the training wants more",
        ),
    )
)
CHANGES: Final = Changes(
    since=AT - timedelta(days=1),
    as_of=AT,
    jobs=JobChanges(created=3, ended={"completed": 2, "incomplete": 1}, cancelled=0),
    chunks=ChunkChanges(
        completed=40,
        given_up=1,
        failures=(Failure(stage="validator", error="no_valid_images", count=1),),
        failed_attempts=4,
        lost_attempts=0,
        attempts=(Failure(stage="downloader", error="source_unavailable", count=4),),
    ),
    acts={"job.extend": 1},
    lines=AUDIT.items,
)
PAUSED: Final = ControlView(
    kind="stage", name="downloader", paused=True, since=AT, reason="the proxy is being replaced"
)
RESUMED: Final = PAUSED.model_copy(update={"paused": False, "since": None, "reason": ""})
SOURCE_PAUSED: Final = PAUSED.model_copy(update={"kind": "source", "name": "openverse"})
DRAINED: Final = PAUSED.model_copy(update={"kind": "replica", "name": "validator-1"})
CONTROLS: Final = Page[ControlView](items=(PAUSED,))
REPLICAS: Final = Page[ReplicaView](
    items=(
        ReplicaView(
            stage="validator",
            worker="validator-1",
            state="working",
            in_hand=2,
            started_at=AT,
            seen_at=_SEEN,
            alive=True,
        ),
    )
)
SOURCES: Final = Page[sources.SourceInfo](items=sources.ALL)

NEW_JOBS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "keywords": ("200 images of red pandas", {"keywords": ["red panda"], "max_images": 200}),
    "everything": (
        "Everything that can be said",
        {
            "name": "red pandas",
            "project_id": "animals",
            "keywords": ["red panda", "lesser panda"],
            "sources": ["openverse", "commons"],
            "max_images": 2000,
            "priority": 7,
            "start": True,
            "options": {
                "min_size": 256,
                "near_duplicates": 6,
                "refill_factor": 5.0,
                "format": "webdataset",
            },
            "webhook_url": "https://example.org/hooks/pixcrawler",
        },
    ),
    "urls": (
        "Candidates of your own",
        {"urls": ["https://images.example/1.jpg", "https://images.example/2.jpg"]},
    ),
    "list": ("A list that was uploaded", {"urls": LIST_ID, "max_images": 5000}),
}
STARTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "now or never": ("Not at all if there is no room", {"wait": False}),
    "sources": ("On other sources", {"sources": ["commons"], "wait": True}),
}

JOB_CHANGES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "priority": ("It goes before others", {"priority": 9}),
}


def bodies(found: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, Example]:
    """Bodies as FastAPI wants them."""
    return {name: {"summary": line, "value": body} for name, (line, body) in found.items()}
