"""What `/openapi.json` says is complete, and its examples are true to its schemas."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from pixcrawler.api import webhooks
from pixcrawler.api.app import create_app
from pixcrawler.api.examples import NEW_JOBS
from pixcrawler.api.feed import Feed
from pixcrawler.api.parts import make_parts
from pixcrawler.api.requests import NewJob
from pixcrawler.api.settings import Settings
from pixcrawler.common.blobs.local import LocalBlobs
from pixcrawler.common.db.engine import connect
from pixcrawler.common.events import JobFinished
from pixcrawler.common.health import Health

PROBLEM = "application/problem+json"
URL = "postgresql+asyncpg://nobody@127.0.0.1:9/none"
Json = dict[str, Any]


class Operation(NamedTuple):
    label: str
    value: Json

    def __repr__(self) -> str:
        return self.label

    @property
    def parameters(self) -> dict[str, Json]:
        return {each["name"]: each for each in self.value.get("parameters", ())}

    @property
    def answers(self) -> dict[str, Json]:
        return dict(self.value["responses"])


def _document() -> Json:
    blobs = LocalBlobs(Path("nowhere"))
    parts = make_parts(
        Settings(database_url=URL),
        connect(URL),
        blobs,
        Health(),
        Feed("", client_id="never runs"),
        source="/api/test",
        hint=lambda: None,
    )
    return create_app(parts).openapi()


DOCUMENT = _document()
OPERATIONS = [
    Operation(f"{method.upper()} {path}", operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=repr)


def validator(schema: Json) -> jsonschema.Draft202012Validator:
    """Of a schema that may refer to components."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return jsonschema.Draft202012Validator(
        whole, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def shown(media: Json) -> list[object]:
    """The examples of a media type."""
    found = [media["example"]] if "example" in media else []
    return found + [each["value"] for each in media.get("examples", {}).values()]


def is_sentence(text: str) -> bool:
    return bool(re.match(r"[A-Z0-9`]", text)) and text.strip().endswith((".", "`"))


def test_the_whole() -> None:
    """It says what it is, and what its groups are; ids of operations are good names of methods."""
    assert DOCUMENT["openapi"].startswith("3.1")
    assert is_sentence(DOCUMENT["info"]["description"].strip())
    tags = {tag["name"]: tag["description"] for tag in DOCUMENT["tags"]}
    assert {tag for o in OPERATIONS for tag in o.value["tags"]} == set(tags)
    assert all(map(is_sentence, tags.values()))
    ids = [operation.value["operationId"] for operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    verbs = "create|list|get|explain|delete|start|extend|retry|cancel|stream|upload|change|"
    verbs += "give|pause|resume|drain"
    for each in ids:
        assert re.fullmatch(rf"({verbs}|healthz|readyz|metrics)(_[a-z]+)*", each), each
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert schemes["bearer"]["scheme"] == "bearer"
    assert (schemes["apiKey"]["in"], schemes["apiKey"]["name"]) == ("header", "X-API-Key")
    assert all(scheme["description"] for scheme in schemes.values())


@each_operation
def test_its_words(operation: Operation) -> None:
    """A summary, a description, and what each parameter, answer and header is."""
    value = operation.value
    assert re.fullmatch(r"[A-Z][A-Za-z' ]+", value["summary"])
    assert is_sentence(value["description"])
    assert value["description"].rstrip(".") != value["summary"]
    for name, parameter in operation.parameters.items():
        assert is_sentence(parameter["description"]), name
        assert {"type": "null"} not in parameter["schema"].get("anyOf", ()), name
        for example in parameter["schema"].get("examples", ()):
            validator(parameter["schema"]).validate(example)
        number = parameter["schema"].get("type") == "integer"
        if number and parameter["required"] is False and "maximum" in parameter["schema"]:
            bounds = parameter["schema"]["minimum"], parameter["schema"]["maximum"]
            assert "{} to {}".format(*bounds) in parameter["description"], name
    for status, answer in operation.answers.items():
        assert is_sentence(answer["description"]), status
        for name, header in answer.get("headers", {}).items():
            known = DOCUMENT["components"]["headers"][name]
            assert header == {"$ref": f"#/components/headers/{name}"}
            assert is_sentence(known["description"])
            validator(known["schema"]).validate(known["example"])


@each_operation
def test_its_examples(operation: Operation) -> None:
    """Every body has one that the schema allows, whether it is asked for or answered."""
    contents = [(status, each.get("content", {})) for status, each in operation.answers.items()]
    contents.append(("body", operation.value.get("requestBody", {}).get("content", {})))
    for where, content in contents:
        for kind, media in content.items():
            if media["schema"].get("format") == "binary" and where != "body":
                continue  # an image, an archive
            examples = shown(media)
            assert examples, (where, kind)
            for example in examples:
                validator(media["schema"]).validate(example)
                if kind == PROBLEM:
                    assert isinstance(example, dict)
                    assert str(example["status"]) == where
                    assert "{" not in example["instance"]


@each_operation
def test_its_problems(operation: Operation) -> None:
    """What can go wrong with what it takes is said, and in which way."""
    answers, names = operation.answers, operation.parameters
    expected = {"500", "503"}
    secured = operation.value.get("security")
    if secured:
        expected |= {"401", "429"}
        assert {next(iter(way)) for way in secured} == {"bearer", "apiKey"}
        if any(scopes for way in secured for scopes in way.values()):
            expected.add("403")
    if any(parameter["in"] == "path" for parameter in names.values()):
        expected.add("404")
    if "requestBody" in operation.value:
        expected |= {"413", "422"}
    if names.keys() & {"limit", "cursor", "idempotency-key"}:
        expected.add("422")
    if "idempotency-key" in names:
        expected.add("409")
    assert expected <= set(answers)
    assert not [status for status in answers if "X" in status]
    for status, answer in answers.items():
        if int(status) >= 400:
            content = answer["content"]
            assert list(content) == [PROBLEM], status
            assert content[PROBLEM]["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert ("WWW-Authenticate" in answer["headers"]) is (status == "401")
            assert ("Retry-After" in answer["headers"]) is (status in {"429", "503"})
        assert "X-Request-ID" in answer["headers"]


def test_who_may() -> None:
    """Reading needs a key, changing one that may write, stopping what all share an admin's; health,
    metrics and signed links none."""
    for operation in OPERATIONS:
        method, path = operation.label.split(" ")
        scopes = [tuple(way.values()) for way in operation.value.get("security", ())]
        if path in {"/healthz", "/readyz", "/metrics", "/v1/files/{name}"}:
            assert scopes == []
        elif method == "GET" and path != "/v1/webhook-secret":
            assert scopes == [([],), ([],)], path
        elif path.startswith(("/v1/stages/", "/v1/sources/", "/v1/replicas/")):
            assert scopes == [(["admin"],), (["admin"],)], path
        else:
            assert scopes == [(["write"],), (["write"],)], path


SCHEMAS = DOCUMENT["components"]["schemas"]


@pytest.mark.parametrize("schema", list(SCHEMAS.values()), ids=list(SCHEMAS))
def test_schemas(schema: Json) -> None:
    """Each says what it is and what each of its fields is."""
    assert is_sentence(schema["description"])
    assert "Attributes" not in schema["description"]
    for name, field in schema.get("properties", {}).items():
        assert is_sentence(field.get("description", "")), name


def test_bounds() -> None:
    """Limits that the handlers check are in the schemas too."""
    fields = DOCUMENT["components"]["schemas"]["NewJob"]["properties"]
    assert (fields["priority"]["minimum"], fields["priority"]["maximum"]) == (0, 10)
    assert {"type": "integer", "minimum": 1} in fields["max_images"]["anyOf"]
    assert fields["sources"]["items"]["enum"] == ["openverse", "commons", "urls"]
    assert fields["keywords"]["maxItems"] == 1000


@pytest.mark.parametrize("name", list(NEW_JOBS))
def test_examples_of_jobs_are_jobs(name: str) -> None:
    """The body that the description shows is one that is taken."""
    NewJob.model_validate(NEW_JOBS[name][1])


def test_the_webhook() -> None:
    """What receivers get is described, and is so."""
    told = DOCUMENT["webhooks"]["job.finished"]["post"]
    media = told["requestBody"]["content"]["application/json"]
    event = JobFinished(
        job_id="0199a000-0000-7000-8000-000000000000",
        round=2,
        closed_round=2,
        status="incomplete",
        reason="exhausted",
        total_chunks=4,
        completed="0-1",
        failed="2-3",
        superseded="2",
        requested=9,
        kept=5,
        dataset="jobs/x/dataset.json",
    )
    sent = json.loads(webhooks.body(event, name="cats", project_id=None, now=datetime.now(UTC)))
    for example in (*shown(media), sent):
        validator(media["schema"]).validate(example)
    assert sent["data"]["total_chunks"] == 3
    assert list(sent["data"]) == list(SCHEMAS["Round"]["properties"])
    headers = webhooks.headers("id", b"{}", [b"key"], 1)
    assert {each["name"] for each in told["parameters"]} == set(headers) - {"Content-Type"}
    assert all(is_sentence(each["description"]) for each in told["parameters"])
