"""What the tracker can be told, beyond what every service can."""

from pydantic import Field

from pixcrawler.common.settings import StageSettings
from pixcrawler.common.topics import PARTITIONS


class Settings(StageSettings):
    """The tracker's settings; instead of `in_flight` it has one of its own."""

    tracker_partitions: int = Field(default=PARTITIONS, ge=1)
    """Partitions of the topics it reads and of its changelog: all have the same number."""
    tracker_in_flight: int = Field(default=200, ge=1)
    """Events on their way to their job's partition at a time; more batches better."""
    tracker_flush_s: float = Field(default=0.3, gt=0)
    """Seconds between two batches written to `job_progress` and `job.progress`. Longer makes
    progress less live, shorter makes more statements."""
    tracker_stall_s: float = Field(default=20.0, gt=0)
    """Seconds that a partition's committed offset may stand still though there are records beyond
    it; then the process ends, and a new one reads them again."""
    tracker_erase_s: float = Field(default=30.0, gt=0)
    """Seconds between two looks for rows of deleted jobs: a late event may have written one."""
