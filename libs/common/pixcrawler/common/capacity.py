"""How many chunks may be in progress at once, over the whole cluster.

The planner admits by it, the api reports it: both from the same `PIXCRAWLER_RESOURCE_*` variables.
"""

import math
from typing import NamedTuple

from pydantic import BaseModel, Field

from pixcrawler.common.errors import SettingsError


class ResourceSettings(BaseModel):
    """Mix into a service's settings: what the cluster can hold."""

    resource_environment: str = "local"
    """Label in capacity answers."""
    resource_max_concurrent_chunks: int = Field(default=35, ge=0)
    """Chunks in progress at most, whatever the storage."""
    resource_max_temp_storage_mb: float = Field(default=20_000, ge=0)
    """Room for staged parts of all chunks in progress, in MB."""
    resource_chunk_size_images: int = Field(default=500, ge=1)
    """Candidates in a chunk; frozen in each job when it is created."""
    resource_estimated_image_size_mb: float = Field(default=0.5, gt=0)
    """What one candidate is expected to take while it is staged, in MB."""

    @property
    def max_chunks(self) -> int:
        """Chunks that may be in progress at once; 35 as it comes, 32 with 8,000 MB."""
        return max_chunks(
            self.resource_max_concurrent_chunks,
            self.resource_max_temp_storage_mb,
            self.resource_chunk_size_images,
            self.resource_estimated_image_size_mb,
        )


def max_chunks(concurrent: int, temp_storage_mb: float, chunk_size: int, image_mb: float) -> int:
    """The smaller of what was allowed and what fits the temporary storage."""
    return min(concurrent, math.floor(temp_storage_mb / (chunk_size * image_mb)))


def require_capacity(settings: ResourceSettings) -> int:
    """The capacity, for a planner about to start.

    Raises:
        SettingsError: not even one chunk may be in progress.
    """
    capacity = settings.max_chunks
    if capacity < 1:
        raise SettingsError(
            "no chunk fits the capacity: "
            f"min({settings.resource_max_concurrent_chunks}, "
            f"floor({settings.resource_max_temp_storage_mb:g} MB / "
            f"({settings.resource_chunk_size_images} * "
            f"{settings.resource_estimated_image_size_mb:g} MB))) = {capacity}; raise "
            "PIXCRAWLER_RESOURCE_MAX_TEMP_STORAGE_MB or "
            "PIXCRAWLER_RESOURCE_MAX_CONCURRENT_CHUNKS, or lower "
            "PIXCRAWLER_RESOURCE_CHUNK_SIZE_IMAGES"
        )
    return capacity


class Capacity(NamedTuple):
    """What a caller is told about capacity; `utilization` in percent."""

    active_chunks: int
    max_chunks: int
    available: int
    utilization: float
    environment: str


def describe(active: int, maximum: int, environment: str) -> Capacity:
    """25 of 35: available 10, utilization 71.4."""
    used = 100 * active / maximum if maximum else 100.0
    return Capacity(active, maximum, max(maximum - active, 0), round(used, 1), environment)
