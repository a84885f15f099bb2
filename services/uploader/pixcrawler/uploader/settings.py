"""What the uploader can be told, besides what every stage can."""

from pydantic import Field

from pixcrawler.common.settings import StageSettings


class Settings(StageSettings):
    """Settings of the uploader. The store's tries are the store's own: five, or two for a disk."""

    transform_threads: int = Field(default=2, ge=1, le=64)
    """Images transformed at a time, of jobs that want theirs resized, converted or upright; more
    than the cores brings nothing. Each takes its file and four bytes a pixel while it is decoded;
    one of 16 million pixels or more is decoded alone."""
    sweep_interval_s: float = Field(default=15.0, gt=0)
    """Seconds between two passes over staging and lately deleted jobs. Longer: a deleted job's
    files are readable that much longer, and what a dead replica left takes room."""
    sweep_all_interval_s: float = Field(default=600.0, gt=0)
    """Seconds between two passes over every object: finds strays of failed chunks and of jobs that
    were deleted long ago. Costs one listing of the store."""
    sweep_deleted_s: float = Field(default=3_600.0, gt=0)
    """Seconds for which a deleted job is swept at every pass, at three listings each; afterwards
    only where something of it is found."""
    sweep_unknown_after_s: float = Field(default=3_600.0, ge=0)
    """Age of the youngest object of an unknown job, in seconds, before the job's objects are
    removed: the time to notice that a service was started with the wrong database."""
