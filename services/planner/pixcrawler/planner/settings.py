"""What can be set: each with its unit, its default, and what it changes."""

from pydantic import Field

from pixcrawler.common.capacity import ResourceSettings
from pixcrawler.common.line import DeadlineSettings
from pixcrawler.common.settings import StageSettings


class Settings(ResourceSettings, DeadlineSettings, StageSettings):
    """The planner's settings; the capacity's and the deadline's are mixed in."""

    in_flight: int = Field(default=8, ge=1, le=1000)
    """Events looked at at a time; each needs a connection to the database for milliseconds."""
    resource_release_interval_s: float = Field(default=0.1, ge=0)
    """Seconds between two chunks let through, over all replicas: spreads the load of a start."""
    chunk_max_retries: int = Field(default=3, ge=0)
    """Failed attempts at a chunk after which it is tried again; one more, and it has failed."""
    chunk_backoff_s: float = Field(default=2.0, ge=0)
    """Seconds before the first retry of a chunk; doubles with each further one."""
    chunk_backoff_max_s: float = Field(default=120.0, ge=0)
    """Seconds before a retry at most."""
    source_rest_s: float = Field(default=300.0, ge=0)
    """Seconds for which nothing is planned of a search that could not be asked, where no other can
    give candidates; asked for earlier than that, the round closes as `unavailable`."""
    planner_tick_s: float = Field(default=1.0, gt=0)
    """Seconds between looks at the queue and the deadlines; an event in this process wakes the
    planner at once, so this is how late it hears of what another replica did."""
    planner_review_s: float = Field(default=30.0, gt=0)
    """Seconds between looks at every open job, and between repetitions of `job.planned` until the
    shown progress agrees. Lower heals faster and asks the database more."""
