"""The AsyncAPI 3 document of the topics and events, made from the registry and the models.

`python -m pixcrawler.common.asyncapi > docs/asyncapi.yaml` writes it anew; a test fails when the
file is out of date. JSON is YAML, and the standard library writes it the same way everywhere.
"""

import json
import sys
from typing import Any

from pixcrawler.common import events, topics
from pixcrawler.common.events import Event
from pixcrawler.common.topics import Topic

VERSION = "3.0.0"

_HEADERS = {
    "type": "object",
    "description": "CloudEvents 1.0, Kafka binding, binary mode, and the W3C trace context.",
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "description": "Equal for repetitions of the same fact."},
        "ce_type": {"type": "string"},
        "ce_source": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_subject": {"type": "string", "description": "The key."},
        "content-type": {"const": "application/json"},
        "traceparent": {"type": "string"},
    },
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_source"],
}


def document() -> dict[str, Any]:
    """The whole document."""
    known = [topic for topic in topics.registry() if topic.name in events.BY_TOPIC]
    return {
        "asyncapi": VERSION,
        "info": {
            "title": "PixCrawler",
            "version": "1",
            "description": "What travels between the stages. Values are JSON; delivery is at least "
            "once, and every effect is written once.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic) for topic in known},
        "operations": dict(
            sorted(operation for topic in known for operation in _operations(topic))
        ),
        "components": {
            "messages": {model.__name__: _message(model) for model in events.ALL},
        },
    }


def render() -> str:
    """The document as the file holds it."""
    return json.dumps(document(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _channel(topic: Topic) -> dict[str, Any]:
    name = events.BY_TOPIC[topic.name].__name__
    return {
        "address": topic.name,
        "description": topic.description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": {
                    "cleanup.policy": ["compact" if topic.compacted else "delete"],
                    **({} if topic.retention_ms is None else {"retention.ms": topic.retention_ms}),
                },
            }
        },
    }


def _operations(topic: Topic) -> list[tuple[str, dict[str, Any]]]:
    """One per service and topic; an operation's id is `<service>.<send|receive>.<topic>`."""
    roles = [(s, "send") for s in topic.writers] + [(s, "receive") for s in topic.readers]
    channel = topic.name.replace("/", "~1")
    return [
        (
            f"{service}.{action}.{topic.name}",
            {"action": action, "channel": {"$ref": f"#/channels/{channel}"}},
        )
        for service, action in roles
    ]


def _message(model: type[Event]) -> dict[str, Any]:
    schema = model.model_json_schema(mode="serialization", ref_template="#/definitions/{model}")
    definitions = schema.pop("$defs", {})
    payload = _inline(schema, definitions)
    return {
        "name": events.event_type(model),
        "summary": (model.__doc__ or "").partition("\n")[0],
        "contentType": "application/json",
        "headers": _HEADERS,
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": "string", "description": "UTF-8 of the id"}}},
    }


def _inline(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema with its own definitions put in their places: none of ours refers to itself."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inline(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        return {name: _inline(value, definitions) for name, value in schema.items()}
    if isinstance(schema, list):
        return [_inline(item, definitions) for item in schema]
    return schema


if __name__ == "__main__":
    sys.stdout.write(render())
