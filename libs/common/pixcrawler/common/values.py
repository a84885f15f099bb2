"""What every value of the project is made of: on its own, so that few imports are needed for it."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """A frozen value that ignores what it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")
