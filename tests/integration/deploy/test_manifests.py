"""The cluster's manifests: rendered, held against schemas and code; every check can fail."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import checks, generate, kinds, tools
from deploy.checks import OVERLAYS
from deploy.documents import Documents, named

Json = dict[str, Any]


def rendered(overlay: str) -> Documents:
    """The overlay's documents; without a tool to render them it is skipped, in CI it fails."""
    try:
        return checks.rendered(overlay)
    except tools.Missing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))


def test_generated_files_are_up_to_date() -> None:
    """Topics, users, scaling and rules are what the code says: `python -m deploy generate`."""
    assert generate.outdated() == []


@pytest.mark.timeout(1200)  # the first one builds kustomize
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_right(overlay: str) -> None:
    """Its documents pass the schemas of Kubernetes, and what the code knows."""
    assert checks.problems(rendered(overlay)) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kinds_of_operators(overlay: str) -> None:
    """All other documents pass their CustomResourceDefinitions, where those are."""
    try:
        definitions = tools.definitions(tools.schemas())
    except tools.Missing as missing:
        pytest.skip(str(missing))
    documents = rendered(overlay)
    assert list(kinds.custom_kinds(documents, definitions)) == []
    named(documents, "KafkaTopic")["job.created"]["spec"]["partition"] = 12
    [problem] = kinds.custom_kinds(documents, definitions)
    assert "'partition' was unexpected" in problem
    del named(documents, "KafkaTopic")["job.created"]["spec"]["partition"]


def test_nobody_may_more_than_read_and_write() -> None:
    """The rights are those of `deploy.rights`, which a job runs with in `tests/e2e`: no others."""
    users = named(rendered("production"), "KafkaUser")
    assert len(users) == 8
    for user in users.values():
        for acl in user["spec"]["authorization"]["acls"]:
            assert not {"All", "Alter", "Create", "Delete", "ClusterAction"} & {*acl["operations"]}


def container(document: Json, kind: str = "containers") -> Json:
    """The first container of its pods."""
    found: Json = document["spec"]["template"]["spec"][kind][0]
    return found


def told(document: Json, name: str, value: str) -> None:
    """Tell its container something else."""
    for variable in container(document)["env"]:
        if variable["name"] == name:
            variable["value"] = value
            return
    container(document)["env"].append({"name": name, "value": value})


def setting(document: Json, **values: str) -> None:
    """Change what all services are told."""
    document["data"] |= values


Damage = Callable[[Json], object]
# fmt: off
DAMAGES: tuple[tuple[str, str, Damage, str], ...] = (
    ("Deployment", "api", lambda d: d["spec"].update(replica=1), "'replica' was unexpected"),
    ("Deployment", "api", lambda d: d["spec"].update(replicas=1), "replicas are KEDA's"),
    ("Deployment", "planner", lambda d: d["metadata"].update(name="plan"), "no Deployment planner"),
    ("Deployment", "planner", lambda d: d["metadata"].update(name="plan"), "no such service"),
    ("Deployment", "tracker", lambda d: told(d, "PIXCRAWLER_SPEED", "9"), "no setting of tracker"),
    (
        "Deployment", "tracker", lambda d: told(d, "PIXCRAWLER_CONTACT", "a@b.c"),
        "PIXCRAWLER_CONTACT is no setting of tracker",
    ),
    (
        "Deployment", "tracker",
        lambda d: told(d, "PIXCRAWLER_DRAIN_S", "soon"),
        "PIXCRAWLER_DRAIN_S",
    ),
    (
        "Deployment", "api", lambda d: told(d, "PIXCRAWLER_KAFKA_USERNAME", "pixcrawler-planner"),
        "the user in Kafka is pixcrawler-planner",
    ),
    (
        "Deployment", "uploader",
        lambda d: told(
            d, "PIXCRAWLER_DATABASE_URL", "postgresql+asyncpg://pixcrawler@pooler:5432/pixcrawler"
        ),
        "the database's role is pixcrawler",
    ),
    (
        "Deployment", "uploader",
        lambda d: told(
            d, "PIXCRAWLER_DATABASE_URL",
            "postgresql+asyncpg://pixcrawler_uploader@postgres-rw:5432/pixcrawler",
        ),
        "postgres-rw:5432 is none of pooler:5432",
    ),
    (
        "Deployment", "uploader", lambda d: container(d).update(image="pixcrawler-validator:1"),
        "the image of another service",
    ),
    (
        "Deployment", "uploader", lambda d: container(d)["ports"][0].update(containerPort=8080),
        "ports {'http': 8080}",
    ),
    (
        "Deployment", "uploader",
        lambda d: container(d)["livenessProbe"]["httpGet"].update(path="/readyz"),
        "its liveness is asked at /readyz",
    ),
    (
        "Deployment", "validator",
        lambda d: d["spec"]["template"]["spec"].update(terminationGracePeriodSeconds=53),
        "it may need 53 s to stop",
    ),
    (
        "Deployment", "api",
        lambda d: d["spec"]["template"]["spec"].update(terminationGracePeriodSeconds=58),
        "it may need 58 s to stop",
    ),
    (
        "Deployment", "api",
        lambda d: d["spec"]["template"]["metadata"]["labels"].pop("pixcrawler.io/network"),
        "no network policy closes it",
    ),
    (
        "Deployment", "api",
        lambda d: d["spec"]["template"]["spec"].update(automountServiceAccountToken=True),
        "a token is mounted",
    ),
    (
        "Deployment", "api",
        lambda d: d["spec"]["template"]["spec"]["securityContext"].update(runAsUser=0),
        "may run as root",
    ),
    (
        "Deployment", "api",
        lambda d: d["spec"]["template"]["spec"]["securityContext"].pop("seccompProfile"),
        "no seccomp profile",
    ),
    (
        "Deployment", "api",
        lambda d: d["spec"]["template"]["spec"]["topologySpreadConstraints"].pop(0),
        "not spread over zones",
    ),
    (
        "Deployment", "downloader",
        lambda d: container(d)["securityContext"].update(readOnlyRootFilesystem=False),
        "not restricted",
    ),
    (
        "Deployment", "downloader",
        lambda d: container(d, "initContainers")["securityContext"].clear(), "not restricted",
    ),
    (
        "Deployment", "api",
        lambda d: container(d)["resources"].pop("limits"),
        "no limit of its memory",
    ),
    (
        "Deployment", "api",
        lambda d: container(d)["resources"].pop("requests"),
        "asks for no resources",
    ),
    (
        "Deployment", "api",
        lambda d: container(d)["env"][1]["valueFrom"]["secretKeyRef"].update(name="other"),
        "nobody makes the secret other",
    ),
    (
        "Deployment", "api",
        lambda d: container(d)["env"][1]["valueFrom"]["secretKeyRef"].update(key="planner"),
        "the password of planner for api",
    ),
    (
        "Deployment", "api",
        lambda d: container(d)["env"][3]["valueFrom"]["secretKeyRef"].update(
            name="pixcrawler-keda"
        ),
        "the password of pixcrawler-keda for pixcrawler-api",
    ),
    ("PodDisruptionBudget", "api", lambda d: d.update(kind="Nothing"), "no PodDisruptionBudget"),
    ("ScaledObject", "api", lambda d: d.update(kind="Nothing"), "no ScaledObject"),
    (
        "ScaledObject", "downloader", lambda d: d["spec"].update(maxReplicaCount=13),
        "more replicas than partitions",
    ),
    (
        "ScaledObject", "uploader",
        lambda d: d["spec"].update(minReplicaCount=9),
        "more replicas at least",
    ),
    (
        "ScaledObject", "uploader",
        lambda d: d["spec"].update(maxReplicaCount=12),
        "chunks can be in hand",
    ),
    (
        "ScaledObject", "uploader",
        lambda d: d["spec"]["triggers"][0]["metadata"].update(topic="chunk.planned"),
        "uploader does not read chunk.planned",
    ),
    (
        "ScaledObject", "uploader",
        lambda d: d["spec"]["triggers"][0]["metadata"].update(bootstrapServers="kafka:9092"),
        "no Kafka is at kafka:9092",
    ),
    (
        "KafkaTopic", "chunk.planned",
        lambda d: d["metadata"].update(name="chunk.plan"),
        "no KafkaTopic",
    ),
    (
        "KafkaTopic", "chunk.planned", lambda d: d["metadata"].update(name="chunk.plan"),
        "the registry does not know it",
    ),
    ("KafkaTopic", "chunk.planned", lambda d: d["spec"].update(partitions=6), "fewer partitions"),
    ("KafkaTopic", "chunk.planned", lambda d: d["spec"].update(replicas=2), "not three replicas"),
    (
        "KafkaUser", "pixcrawler-validator",
        lambda d: d["spec"]["authorization"]["acls"][0]["operations"].append("Write"),
        "Write of the topic chunk.downloaded",
    ),
    ("KafkaUser", "pixcrawler-keda", lambda d: d["metadata"].update(name="keda"), "no KafkaUser"),
    ("KafkaNodePool", "brokers", lambda d: d["spec"].update(replicas=1), "not three of each"),
    (
        "Cluster", "postgres",
        lambda d: d["spec"]["postgresql"].pop("synchronous"),
        "a failover may lose",
    ),
    ("Cluster", "postgres", lambda d: d["spec"].pop("backup"), "no backups"),
    ("Pooler", "pooler", lambda d: d["spec"]["pgbouncer"].update(poolMode="session"), "session"),
    (
        "NetworkPolicy", "internet",
        lambda d: d["spec"]["egress"][0]["to"][0]["ipBlock"]["except"].remove("169.254.0.0/16"),
        "169.254.169.254 can be reached",
    ),
    (
        "NetworkPolicy", "internet",
        lambda d: d["spec"]["podSelector"]["matchExpressions"][0]["values"].append("validator"),
        "others than the downloader and the api reach the internet",
    ),
    (
        "NetworkPolicy", "nothing",
        lambda d: d["spec"].update(egress=[{}]),
        "no NetworkPolicy closes",
    ),
)
# fmt: on


def test_every_damage_is_seen() -> None:
    """What would go wrong in a cluster, one at a time, in the production overlay."""
    whole = rendered("production")
    unseen = []
    for kind, name, damage, expected in DAMAGES:
        documents = [copy.deepcopy(each) for each in whole if each["kind"] != kind]
        documents += [
            copy.deepcopy(each) if each["metadata"]["name"] == name else each
            for each in whole
            if each["kind"] == kind
        ]
        damaged = named(documents, kind)[name]
        damage(damaged)  # type: ignore[arg-type]
        found = [*kinds.core_kinds([damaged])] if damaged["kind"] == kind else []
        found += [problem for check in checks.AGAINST_CODE for problem in check(documents)]
        if not any(expected in problem for problem in found):
            unseen.append((kind, name, expected))
    assert unseen == []


def test_a_setting_of_all_services_is_seen() -> None:
    """A variable that nobody reads, and one whose file of authorities is nowhere mounted."""
    documents = copy.deepcopy(rendered("production"))
    for name, each in named(documents, "ConfigMap").items():
        if name.startswith("settings"):
            setting(each, PIXCRAWLER_KAFKA_CA_FIEL="/x")  # type: ignore[arg-type]
    found = checks.problems(documents)
    assert any("PIXCRAWLER_KAFKA_CA_FIEL is no setting of any program" in each for each in found)


def test_secrets_by_hand_are_documented() -> None:
    """What the manifests expect to be there stands in the README, and nowhere with a value."""
    readme = (generate.ROOT / "README.md").read_text("utf-8")
    assert [name for name in sorted(checks.BY_HAND) if f"`{name}`" not in readme] == []
    assert named(rendered("production"), "Secret") == {}


def test_without_go_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line about what is missing, for kustomize and for schemas; `make manifests` goes on."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("PIXCRAWLER_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv(tools.SCHEMAS_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(tools.Missing, match="Go is missing"):
        tools.kustomize()
    with pytest.raises(tools.Missing, match=r"there are no schemas in .*nowhere"):
        tools.schemas()
    checks.rendered.cache_clear()
    assert checks.main() == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "skipped", "skipped",
    ]  # fmt: skip
