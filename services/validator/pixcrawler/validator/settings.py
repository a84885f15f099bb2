"""What the validator can be told, besides what every stage can."""

from pydantic import Field

from pixcrawler.common.settings import StageSettings


class Settings(StageSettings):
    """Settings of the validator."""

    max_pixels: int = Field(default=178_956_970, ge=1)
    """Width times height; an image of more is a `bomb` and is not decoded. A decoded image may take
    four bytes a pixel, so the default can take 700 MB (one such image at a time)."""
    validate_threads: int = Field(default=2, ge=1, le=64)
    """Images decided at a time; more than the cores brings nothing."""
    validate_buffer_mb: int = Field(default=16, ge=1)
    """MB of downloaded files in memory, of all chunks in hand together. A single larger file is
    taken alone."""
    erase_interval_s: float = Field(default=30.0, gt=0)
    """Seconds between two passes over the claims of deleted jobs."""
