"""docker-compose.yml and what it mounts, held against the schema and the code."""

import configparser
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from deploy import told, tools
from deploy.rights import SERVICES
from pixcrawler.common import metrics, topics
from pixcrawler.common.limits import GRACE_S

ROOT = tools.ROOT
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
PARTS: dict[str, Any] = COMPOSE["services"]
ONCE = ("database", "topics")
BROKERS = ("kafka-1", "kafka-2", "kafka-3")
STACK = (ROOT / "tests" / "stack.py").read_text("utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
_REFERENCE = re.compile(r"\$\{(\w+)(?::?([-?])([^}]*))?\}")


def example(name: str = ".env.example") -> dict[str, str]:
    """Its variables, references to others resolved."""
    found: dict[str, str] = {}
    for line in (ROOT / name).read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key] = filled(value, found)
    return found


def filled(text: str, values: Mapping[str, str]) -> str:
    """As Compose does: `${A}`, `${A:-default}`, `${A:?message}`."""

    def one(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        value = values.get(name) or (rest if kind == "-" else "")
        assert kind != "?" or value, f"{name}: {rest}"
        return value

    return _REFERENCE.sub(one, text)


def environment(part: str) -> dict[str, str]:
    """What a part is told where `.env` is the example with a contact."""
    values = example() | {"PIXCRAWLER_CONTACT": "me@example.org"}
    return {k: filled(str(v), values) for k, v in PARTS[part].get("environment", {}).items()}


def test_the_file_is_a_compose_file() -> None:
    """It passes the Compose specification's schema, where that is."""
    try:
        schema = json.loads((tools.schemas() / "compose-spec.json").read_text("utf-8"))
    except tools.Missing as missing:
        pytest.skip(str(missing))
    jsonschema.Draft202012Validator(schema).validate(COMPOSE)


def test_everything_is_there() -> None:
    """Six services, three brokers, and the parts beside them; nothing else."""
    beside = {"postgres", "pgbouncer", "azurite", "prometheus", "grafana", "kafka-ui"}
    assert {*PARTS} == {*SERVICES, *BROKERS, *ONCE, *beside}


@pytest.mark.parametrize("part", [*SERVICES, *ONCE])
def test_programs_understand_what_they_are_told(part: str) -> None:
    """Each variable is a setting of the program, and the program starts with all of them."""
    said = environment(part)
    models = told.programs_of(PARTS[part].get("entrypoint", []), part)
    for model in models:
        assert said.keys() <= told.variables_of(model)
        assert told.understood({"PIXCRAWLER_HTTP_HOST": "0.0.0.0"} | said, model) == ""


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_what_the_code_says(service: str) -> None:
    """Its image, its role through the pooler, all brokers; read-only, and time enough to drain."""
    part, said = PARTS[service], environment(service)
    assert part["build"] == {"context": ".", "args": {"SERVICE": service}}
    url = f"postgresql+asyncpg://pixcrawler_{service}@pgbouncer:6432/pixcrawler"
    assert said["PIXCRAWLER_DATABASE_URL"] == url
    password = example()[f"PIXCRAWLER_ROLE_PASSWORD_{service.upper()}"]
    assert said["PIXCRAWLER_DATABASE_PASSWORD"] == password
    assert said["PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS"] == ",".join(f"{b}:9092" for b in BROKERS)
    assert (part["read_only"], part["cap_drop"]) == (True, ["ALL"])
    assert float(part["stop_grace_period"].rstrip("s")) >= GRACE_S
    assert any("/tmp" in str(each) for each in (*part["tmpfs"], *part.get("volumes", [])))
    waits = part["depends_on"]
    assert {waits[each]["condition"] for each in ONCE} == {"service_completed_successfully"}
    assert waits["pgbouncer"]["condition"] == "service_healthy"


def test_every_part_is_watched_and_bounded() -> None:
    """What stays has a health check (services: their image's), all have a limit of memory."""
    for name, part in PARTS.items():
        assert part["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        assert "healthcheck" in part or name in {*SERVICES, *ONCE}, name
        for port in part.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), name
    assert "HEALTHCHECK" in DOCKERFILE


def test_brokers_keep_what_is_acknowledged() -> None:
    """Three replicas, two in sync, topics only as the registry has them, as many as it says."""
    for number, name in enumerate(BROKERS, 1):
        said = environment(name)
        assert said["KAFKA_NODE_ID"] == str(number)
        assert said["KAFKA_DEFAULT_REPLICATION_FACTOR"] == "3"
        assert said["KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR"] == "3"
        assert said["KAFKA_MIN_INSYNC_REPLICAS"] == "2"
        assert said["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    made = environment("topics")
    partitions = {topic.partitions for topic in topics.registry() if topic.key != "original"}
    assert partitions == {int(made["PIXCRAWLER_TOPIC_PARTITIONS"])}
    assert partitions == {int(environment("tracker")["PIXCRAWLER_TRACKER_PARTITIONS"])}
    assert made["PIXCRAWLER_TOPIC_REPLICATION"] == "3"


def test_pgbouncer() -> None:
    """Transactions share connections, in the numbers that were agreed on."""
    found = configparser.ConfigParser(inline_comment_prefixes=(";",), interpolation=None)
    found.read(ROOT / "deploy" / "compose" / "pgbouncer.ini")
    said = found["pgbouncer"]
    assert said["pool_mode"] == "transaction"
    assert (said["listen_port"], said["max_client_conn"]) == ("6432", "1000")
    assert (said["default_pool_size"], said["reserve_pool_size"]) == ("25", "5")
    pools = len(SERVICES) * (int(said["default_pool_size"]) + int(said["reserve_pool_size"]))
    [allowed] = [each for each in PARTS["postgres"]["command"] if "max_connections" in each]
    assert pools <= int(allowed.partition("=")[2]) - 10


def test_examples_say_what_is_needed() -> None:
    """Each variable that the file refers to is in the example or has a default; none is unused."""
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    known = (ROOT / ".env.example").read_text("utf-8")
    named = {match[1] for match in _REFERENCE.finditer(text)}
    assert [name for name in sorted(named) if f"{name}=" not in known] == []
    assert example().keys() - named == {"COMPOSE_PROFILES"}
    azure = example(".env.azure.example")
    assert azure.keys() == {
        "COMPOSE_PROFILES", "AZURE_STORAGE_CONNECTION_STRING", "AZURE_CONTAINER_NAME",
    }  # fmt: skip
    assert azure["COMPOSE_PROFILES"] == ""


def test_versions_are_those_of_the_tests() -> None:
    """The same Kafka, PostgreSQL and Azurite as everywhere else."""
    [kafka] = {PARTS[name]["image"] for name in BROKERS}
    lock = (ROOT / "libs/standalone/pixcrawler/standalone/kafka.lock").read_text("utf-8")
    assert f"kafka_2.13:{kafka.partition(':')[2]}" in lock.replace("/", ":") or kafka in STACK
    for image in (kafka, PARTS["postgres"]["image"], PARTS["azurite"]["image"]):
        assert f'"{image}"' in STACK
    azurite = (ROOT / "deploy/k8s/overlays/local/azurite.yaml").read_text("utf-8")
    assert PARTS["azurite"]["image"] in azurite
    database = (ROOT / "deploy/k8s/base/postgres/cluster.yaml").read_text("utf-8")
    assert f"postgresql:{PARTS['postgres']['image'].partition(':')[2]}\n" in database
    for part in PARTS.values():
        assert part["image"].startswith("pixcrawler-") or ":" in part["image"]


def test_prometheus_looks_at_every_service() -> None:
    """At the port that images listen on; and its rules ask for metrics that there are."""
    said = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    [found] = said["scrape_configs"][0]["dns_sd_configs"]
    assert sorted(found["names"]) == sorted(SERVICES)
    assert f"PIXCRAWLER_HTTP_PORT={found['port']} " in DOCKERFILE
    rules = (ROOT / "deploy/prometheus/rules.yml").read_text("utf-8")
    known = {name for each in metrics.ALL for name in (each._name, f"{each._name}_total")}
    used = {*re.findall(r"\bpixcrawler_\w+", rules)}
    assert used
    assert used <= known
    operations = (ROOT / "docs" / "operations.md").read_text("utf-8")
    titles = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", operations, re.MULTILINE)
    }
    for runbook in re.findall(r"runbook: docs/operations.md#(.*)", rules):
        assert runbook in titles


def test_the_dockerfile() -> None:
    """A linter has no complaint; the user is a number, programs are started without a shell."""
    done = subprocess.run(
        [Path(sys.prefix) / "bin" / "hadolint", ROOT / "Dockerfile"],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    assert re.search(r"^USER \d+:\d+$", DOCKERFILE, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["service"\]$', DOCKERFILE, re.MULTILINE)
    assert re.search(r"^    CMD \[", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_a_program(service: str) -> None:
    """The image starts the script that the service's distribution brings."""
    said = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text("utf-8"))
    assert said["project"]["scripts"] == {
        f"pixcrawler-{service}": f"pixcrawler.{service}.__main__:main"
    }
