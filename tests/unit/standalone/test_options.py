import pytest
from pydantic import ValidationError

from pixcrawler.standalone import StandaloneError, UpOptions, parse_scale
from pixcrawler.tracker.settings import Settings


def test_a_scale_is_read() -> None:
    """What the command line says becomes numbers by service."""
    assert parse_scale("downloader=2, validator=0") == {"downloader": 2, "validator": 0}
    assert parse_scale("") == {}


@pytest.mark.parametrize("text", ["downloader", "downloader=", "=2", "downloader=-1", "a=1;b=2"])
def test_a_wrong_scale_is_refused(text: str) -> None:
    """The message shows how it is written."""
    with pytest.raises(StandaloneError, match="downloader=2,validator=1"):
        parse_scale(text)


def test_every_service_runs_once_unless_said_otherwise() -> None:
    """Replicas are numbered from one; none leaves a service out."""
    names = [name for name, _ in UpOptions(scale={"downloader": 2, "validator": 0}).replicas()]
    assert names == [
        "api-1", "planner-1", "downloader-1", "downloader-2", "uploader-1", "tracker-1",
    ]  # fmt: skip


def test_topics_have_twelve_partitions_unless_said_otherwise() -> None:
    """As many as the tracker takes them to have where it is told nothing."""
    assert UpOptions().partitions == Settings.model_fields["tracker_partitions"].default == 12


def test_an_unknown_service_is_named() -> None:
    """Scaling what does not exist is an error, with what does."""
    with pytest.raises(StandaloneError, match="no service loader to scale, only api"):
        UpOptions(scale={"loader": 2}).replicas()


@pytest.mark.parametrize("wrong", [{"brokers": 2}, {"scale": {"api": 2}}, {"port": 70_000}])
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    """An even quorum, two owners of one port, a port that does not exist."""
    with pytest.raises(ValidationError):
        UpOptions.model_validate(wrong)
