"""The AsyncAPI document says what the code does."""

from pathlib import Path

from pixcrawler.common import asyncapi, events, topics

DOCUMENT = Path(__file__).parents[3] / "docs" / "asyncapi.yaml"


def test_the_file_is_up_to_date() -> None:
    """`docs/asyncapi.yaml` is what the registry and the models give now."""
    again = "python -m pixcrawler.common.asyncapi > docs/asyncapi.yaml"
    assert DOCUMENT.read_text("utf-8") == asyncapi.render(), f"run: {again}"


def test_every_event_has_its_channel_with_writers_and_readers() -> None:
    """No topic of an event is left out, and every reader and writer has an operation."""
    document = asyncapi.document()
    assert set(document["channels"]) == set(events.BY_TOPIC)
    for topic in topics.registry():
        if topic.name in events.BY_TOPIC:
            for writer in topic.writers:
                assert f"{writer}.send.{topic.name}" in document["operations"]
            for reader in topic.readers:
                assert f"{reader}.receive.{topic.name}" in document["operations"]
