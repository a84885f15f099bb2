"""Whether the manifests are right: against the schemas of their kinds, and against the code.

`python -m deploy check` renders both overlays and prints one line for each problem. A check is a
function from the documents of an overlay to problems; tests damage documents and see each speak.
"""

import copy
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from deploy import generate, kinds, scaling, told, tools
from deploy.documents import Document, Documents, name_of, named, of_kind, ours, pods
from deploy.network import FENCED, network
from deploy.rights import SERVICES, everybody
from pixcrawler.common import topics
from pixcrawler.common.db.roles import role_name
from pixcrawler.common.errors import SettingsError
from pixcrawler.common.limits import STOP_MARGIN_S

Check = Callable[[Documents], Iterable[str]]

OVERLAYS = ("local", "production")
HTTP_PORT = 8000
PROBES = {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
LATER = frozenset(
    {
        "kafka-cluster-ca-cert",  # Strimzi: the cluster's authority
        "postgres-ca",  # CloudNativePG: likewise
        *(right.user for right in everybody()),  # Strimzi: a KafkaUser's password
    }
)
"""Secrets that operators make."""
BY_HAND = frozenset({"postgres-owner", "postgres-roles", "blob-store", "backup-store"})
"""Secrets that deploy/README.md asks for."""


def variables(documents: Documents) -> Iterator[str]:
    """Each variable is one of the program's, and the program starts with these."""
    known = told.all_variables()
    for container in ours(documents):
        its_own = frozenset().union(*map(told.variables_of, container.models))
        for variable in container.spec.get("env", []):
            if variable["name"] not in its_own:
                yield f"{container.where}: {variable['name']} is no setting of {container.service}"
        for name in container.told.keys() - known:
            yield f"{container.where}: {name} is no setting of any program"
        for model in container.models:
            if reason := told.understood(container.told, model):
                yield f"{container.where}: {reason}"


def services(documents: Documents) -> Iterator[str]:
    """Every service is there, with its image, its budget for disruptions and its scaling."""
    budgets = {
        each["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
        for each in of_kind(documents, "PodDisruptionBudget")
    }
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(documents, "ScaledObject")}
    deployed = named(documents, "Deployment")
    for service in SERVICES:
        if service not in deployed:
            yield f"there is no Deployment {service}"
            continue
        labels = deployed[service]["spec"]["template"]["metadata"]["labels"]
        if labels.get("app.kubernetes.io/name") != service:
            yield f"Deployment/{service}: its pods are not labelled {service}"
        if service not in budgets:
            yield f"Deployment/{service}: no PodDisruptionBudget"
        if service not in scaled:
            yield f"Deployment/{service}: no ScaledObject"
        if "replicas" in deployed[service]["spec"]:
            yield f"Deployment/{service}: replicas are KEDA's to say"
    for container in ours(documents):
        owner = container.owner.partition("/")[2]
        if owner in SERVICES and container.service != owner:
            yield f"{container.where}: the image of another service, {container.service}"
    for extra in deployed.keys() - set(SERVICES):
        yield f"Deployment/{extra}: no such service"


def identities(documents: Documents) -> Iterator[str]:
    """Each service has its own user in Kafka and its own role in the database."""
    for container in ours(documents):
        url, service = container.told.get("PIXCRAWLER_DATABASE_URL", ""), container.service
        role = re.search("//([^:@]*)@", url)
        owner = container.owner.startswith("Job/")
        if role and role[1] != ("pixcrawler" if owner else role_name(service)):
            yield f"{container.where}: the database's role is {role[1]}"
        user = container.told.get("PIXCRAWLER_KAFKA_USERNAME")
        if user is not None and user != f"pixcrawler-{service}":
            yield f"{container.where}: the user in Kafka is {user}"
        for variable in container.spec.get("env", []):
            secret = variable.get("valueFrom", {}).get("secretKeyRef")
            if not secret or owner:
                continue
            if variable["name"] == "PIXCRAWLER_KAFKA_PASSWORD" and secret["name"] != user:
                yield f"{container.where}: the password of {secret['name']} for {user}"
            if variable["name"] == "PIXCRAWLER_DATABASE_PASSWORD" and secret["key"] != service:
                yield f"{container.where}: the password of {secret['key']} for {service}"


def registry(documents: Documents) -> Iterator[str]:
    """Topics, their partitions and policies are the registry's; users have its rights."""
    there = named(documents, "KafkaTopic")
    for topic in topics.registry():
        if topic.name not in there:
            yield f"there is no KafkaTopic {topic.name}"
        elif there[topic.name]["spec"]["partitions"] < topic.partitions:
            yield f"KafkaTopic/{topic.name}: fewer partitions than {topic.partitions}"
    for name in there.keys() - {topic.name for topic in topics.registry()}:
        yield f"KafkaTopic/{name}: the registry does not know it"
    users = named(documents, "KafkaUser")
    for right in everybody():
        if right.user not in users:
            yield f"there is no KafkaUser {right.user}"
            continue
        acls = users[right.user]["spec"]["authorization"]["acls"]
        found = {
            (acl["resource"]["type"], acl["resource"]["name"], operation)
            for acl in acls
            for operation in acl["operations"]
        }
        allowed = {
            *(("topic", name, "Read") for name in right.reads),
            *(("topic", name, "Write") for name in right.writes),
            *(("group", name, "Read") for name in right.groups),
        }
        given = {each for each in found if each[2] not in {"Describe", "DescribeConfigs"}}
        for kind, name, operation in sorted(given ^ allowed):
            yield f"KafkaUser/{right.user}: {operation} of the {kind} {name}"


def http(documents: Documents) -> Iterator[str]:
    """A service answers where its probes and Prometheus ask."""
    for container in ours(documents):
        if container.spec["name"] != "service":
            continue
        found = {port["name"]: port["containerPort"] for port in container.spec["ports"]}
        said = int(container.told.get("PIXCRAWLER_HTTP_PORT", "0"))
        if found != {"http": said} or said != HTTP_PORT:
            yield f"{container.where}: ports {found}, PIXCRAWLER_HTTP_PORT {said}"
        for probe, path in PROBES.items():
            get = container.spec[f"{probe}Probe"]["httpGet"]
            if (get["path"], get["port"]) != (path, "http"):
                yield f"{container.where}: its {probe} is asked at {get['path']}:{get['port']}"


def addresses(documents: Documents) -> Iterator[str]:
    """Kafka, the pooler and the database are where programs and the autoscaler look for them."""
    kafka = {
        f"{name}-kafka-bootstrap:{listener['port']}"
        for name, each in named(documents, "Kafka").items()
        for listener in each["spec"]["kafka"]["listeners"]
    }
    databases = {f"{name}-rw:5432" for name in named(documents, "Cluster")}
    poolers = {f"{name}:5432" for name in named(documents, "Pooler")}
    for container in ours(documents):
        address = container.told.get("PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS")
        if address is not None and address not in kafka:
            yield f"{container.where}: no Kafka is at {address}"
        url = container.told.get("PIXCRAWLER_DATABASE_URL", "")
        host = url.partition("@")[2].partition("/")[0]
        wanted = databases if container.owner.startswith("Job/") else poolers
        if host not in wanted:
            yield f"{container.where}: {host} is none of {', '.join(sorted(wanted))}"
    for each, trigger in _kafka_triggers(documents):
        if trigger["bootstrapServers"] not in kafka:
            yield f"{name_of(each)}: no Kafka is at {trigger['bootstrapServers']}"


def _kafka_triggers(documents: Documents) -> Iterator[tuple[Document, Document]]:
    for each in of_kind(documents, "ScaledObject"):
        for trigger in each["spec"]["triggers"]:
            if trigger["type"] == "kafka":
                yield each, trigger["metadata"]


def scaled(documents: Documents) -> Iterator[str]:
    """Never more replicas than partitions, on the lag of what the stage reads."""
    partitions = {topic.name: topic.partitions for topic in topics.registry()}
    for each in of_kind(documents, "ScaledObject"):
        spec = each["spec"]
        if spec["scaleTargetRef"]["name"] not in named(documents, "Deployment"):
            yield f"{name_of(each)}: there is no Deployment {spec['scaleTargetRef']['name']}"
        if spec["minReplicaCount"] > spec["maxReplicaCount"]:
            yield f"{name_of(each)}: more replicas at least than at most"
    for each, said in _kafka_triggers(documents):
        if said["topic"] not in topics.read_by(said["consumerGroup"]):
            yield f"{name_of(each)}: {said['consumerGroup']} does not read {said['topic']}"
        elif each["spec"]["maxReplicaCount"] > partitions[said["topic"]]:
            yield f"{name_of(each)}: more replicas than partitions of {said['topic']}"


def capacity(documents: Documents) -> Iterator[str]:
    """There are slots for all chunks that the replicas can have in hand."""
    most = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]["maxReplicaCount"]
        for each in of_kind(documents, "ScaledObject")
    }
    needed = 0
    for container in ours(documents):
        service = container.service
        if container.spec["name"] == "service" and service in scaling.CHUNK_STAGES:
            in_hand = told.read(container.told, told.settings_of(service)).in_flight
            needed += most.get(service, 0) * in_hand
    for container in ours(documents):
        if container.where == "Deployment/planner/service":
            slots = told.read(container.told, told.settings_of("planner")).max_chunks
            if slots < needed:
                yield f"{container.where}: {slots} slots, {needed} chunks can be in hand"


def stopping(documents: Documents) -> Iterator[str]:
    """SIGKILL comes after a service has ended by itself."""
    for container in ours(documents):
        if container.spec["name"] != "service":
            continue
        before = container.spec.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        try:
            drain_s = told.read(container.told, told.settings_of(container.service)).drain_s
        except SettingsError:
            continue  # `variables` tells
        budget = drain_s + STOP_MARGIN_S + before.get("seconds", 0)
        if container.pod.get("terminationGracePeriodSeconds", 30) <= budget:
            yield f"{container.where}: it may need {budget:g} s to stop"


def fenced(documents: Documents) -> Iterator[str]:
    """Pods as the standard `restricted` wants them, without a token, spread over zones."""
    for document, pod in pods(documents):
        where, context = name_of(document), pod.get("securityContext", {})
        if not FENCED.items() <= document["spec"]["template"]["metadata"]["labels"].items():
            yield f"{where}: no network policy closes it"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{where}: a token is mounted"
        if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
            yield f"{where}: may run as root"
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{where}: no seccomp profile"
        zones = [each["topologyKey"] for each in pod.get("topologySpreadConstraints", [])]
        if document["kind"] == "Deployment" and "topology.kubernetes.io/zone" not in zones:
            yield f"{where}: not spread over zones"


def bounded(documents: Documents) -> Iterator[str]:
    """Containers write nowhere but to their volumes, gain no rights, and say what they take."""
    for document, pod in pods(documents):
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            where = f"{name_of(document)}/{container['name']}"
            if container.get("securityContext", {}) != RESTRICTED:
                yield f"{where}: its security context is not restricted"
            resources = container.get("resources", {})
            if not {"cpu", "memory"} <= resources.get("requests", {}).keys():
                yield f"{where}: asks for no resources"
            if "memory" not in resources.get("limits", {}):
                yield f"{where}: no limit of its memory"


def secrets(documents: Documents) -> Iterator[str]:
    """A secret that is named is made by somebody; in production none stands in a manifest."""
    made = {*named(documents, "Secret")} | LATER
    wanted = made | BY_HAND if not named(documents, "Secret") else made
    for document in documents:
        for name in _secrets_in(document):
            if name not in wanted:
                yield f"{name_of(document)}: nobody makes the secret {name}"


def _secrets_in(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, list):
        for each in node:
            yield from _secrets_in(each, key)
    elif isinstance(node, dict):
        if key in {
            "secretKeyRef",
            "secretTargetRef",
            "secret",
            "passwordSecret",
            "azureCredentials",
        }:
            yield from (each for each in (node.get("name"), node.get("secretName")) if each)
        for name, value in node.items():
            yield from _secrets_in(value, name if name != "connectionString" else key)


def durable(documents: Documents) -> Iterator[str]:
    """In production nothing that was acknowledged hangs on one machine."""
    if named(documents, "Secret"):
        return  # the overlay of one machine
    for topic in of_kind(documents, "KafkaTopic"):
        spec = topic["spec"]
        if (spec["replicas"], spec["config"]["min.insync.replicas"]) != (3, "2"):
            yield f"{name_of(topic)}: not three replicas, two of them in sync"
    roles = {
        role: each["spec"]["replicas"]
        for each in of_kind(documents, "KafkaNodePool")
        for role in each["spec"]["roles"]
    }
    if roles != {"controller": 3, "broker": 3}:
        yield f"Kafka has {roles}, not three of each"
    for cluster in of_kind(documents, "Cluster"):
        spec = cluster["spec"]
        if spec["instances"] < generate.REPLICAS or not spec["postgresql"].get("synchronous"):
            yield f"{name_of(cluster)}: a failover may lose what was acknowledged"
        backups = [
            each["spec"]["cluster"]["name"] for each in of_kind(documents, "ScheduledBackup")
        ]
        if cluster["metadata"]["name"] not in backups or "backup" not in spec:
            yield f"{name_of(cluster)}: no backups"
    for pooler in of_kind(documents, "Pooler"):
        said = pooler["spec"]["pgbouncer"]
        pool = ("max_client_conn", "default_pool_size", "reserve_pool_size")
        numbers = tuple(said["parameters"].get(name) for name in pool)
        if said["poolMode"] != "transaction" or numbers != ("1000", "25", "5"):
            yield f"{name_of(pooler)}: {said['poolMode']}, {numbers}"


AGAINST_CODE: tuple[Check, ...] = (
    variables,
    services,
    identities,
    registry,
    http,
    addresses,
    scaled,
    capacity,
    stopping,
    fenced,
    bounded,
    secrets,
    network,
    durable,
)
"""What needs no schema."""


def problems(documents: Documents) -> list[str]:
    """Everything that is wrong, schemas of other kinds apart."""
    checks = (kinds.core_kinds, *AGAINST_CODE)
    return [problem for check in checks for problem in check(copy.deepcopy(documents))]


@functools.cache
def rendered(overlay: str) -> Documents:
    """The documents of an overlay.

    Raises:
        tools.Missing: there is no kustomize.
    """
    return list(tools.render(generate.ROOT / "k8s" / "overlays" / overlay))


def main() -> int:
    """Check all, with one line for what cannot be checked here; 1 if something is wrong."""
    found = [f"{path} is out of date: python -m deploy generate" for path in generate.outdated()]
    skipped = []
    try:
        definitions = tools.definitions(tools.schemas())
    except tools.Missing as missing:
        definitions = {}
        skipped.append(f"kinds of operators were not checked: {missing}")
    try:
        for overlay in OVERLAYS:
            documents = rendered(overlay)
            wrong = problems(documents)
            if definitions:
                wrong += kinds.custom_kinds(documents, definitions)
            found += [f"{overlay}: {problem}" for problem in wrong]
            _say(f"{overlay}: {len(documents)} documents, {len(wrong)} problems")
    except tools.Missing as missing:
        skipped.append(f"the overlays were not rendered: {missing}")
    for line in (*found, *(f"skipped: {line}" for line in skipped)):
        _say(line)
    return 1 if found else 0


def _say(line: str) -> None:
    print(line)  # noqa: T201
