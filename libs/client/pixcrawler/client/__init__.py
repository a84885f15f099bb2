"""The PixCrawler command line and Python SDK.

`PixCrawler` blocks, `AsyncPixCrawler` does not; both are thin faces of
one core. Names are imported when they are used, since the command uses few of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pixcrawler.client.asynchronous import AsyncJob, AsyncPixCrawler
    from pixcrawler.client.blocking import Job, PixCrawler
    from pixcrawler.client.dataset import Dataset, Sample, StoredImage
    from pixcrawler.client.errors import (
        ApiError,
        ClientError,
        Conflict,
        DatasetError,
        Invalid,
        NotAuthorized,
        NotFound,
        NotRunning,
        PackageMissing,
        TooMany,
        UnexpectedAnswer,
        Unreachable,
        WaitTimeout,
    )
    from pixcrawler.client.values import (
        Capacity,
        Chunk,
        Drop,
        Drops,
        Explanation,
        JobInfo,
        Often,
        Outcome,
        Progress,
        Reason,
        Record,
        RejectedRow,
        Share,
        Source,
        UrlFinding,
        UrlList,
        Worker,
    )

__all__ = [
    "ApiError",
    "AsyncJob",
    "AsyncPixCrawler",
    "Capacity",
    "Chunk",
    "ClientError",
    "Conflict",
    "Dataset",
    "DatasetError",
    "Drop",
    "Drops",
    "Explanation",
    "Invalid",
    "Job",
    "JobInfo",
    "NotAuthorized",
    "NotFound",
    "NotRunning",
    "Often",
    "Outcome",
    "PackageMissing",
    "PixCrawler",
    "Progress",
    "Reason",
    "Record",
    "RejectedRow",
    "Sample",
    "Share",
    "Source",
    "StoredImage",
    "TooMany",
    "UnexpectedAnswer",
    "Unreachable",
    "UrlFinding",
    "UrlList",
    "WaitTimeout",
    "Worker",
]

_ELSEWHERE = {
    "blocking": ("Job", "PixCrawler"),
    "asynchronous": ("AsyncJob", "AsyncPixCrawler"),
    "dataset": ("Dataset", "Sample", "StoredImage"),
    "values": (
        *("Capacity", "Chunk", "Drop", "Drops", "Explanation", "JobInfo", "Often", "Outcome"),
        *("Progress", "Reason", "Record", "RejectedRow", "Share", "Source", "UrlFinding"),
        *("UrlList", "Worker"),
    ),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((where for where, names in _ELSEWHERE.items() if name in names), "errors")
    return getattr(import_module(f"{__name__}.{module}"), name)
