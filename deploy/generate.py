"""The files that follow from code: topics, users, scaling, rules, the dashboard.

`python -m deploy generate` writes them; a test fails when one is out of date.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy import dashboard, rights, scaling
from pixcrawler.common import topics
from pixcrawler.common.admin import configs_of

ROOT = Path(__file__).parent
BASE = ROOT / "k8s" / "base"
CLUSTER = "kafka"
"""Name of the Strimzi cluster."""
REPLICAS = 3
BOOTSTRAP = f"{CLUSTER}-kafka-bootstrap:9093"
PROMETHEUS = "http://prometheus-operated.monitoring.svc:9090"
HEAD = "# Made by `python -m deploy generate` from {source}: change that.\n"

Document = Mapping[str, Any]


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as they are."""


def _represent(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent)


def files() -> dict[Path, str]:
    """Every generated file as it has to be."""
    rules = yaml.safe_load((ROOT / "prometheus" / "rules.yml").read_text("utf-8"))
    board = dashboard.made()
    return {
        ROOT / "grafana" / "dashboards" / "pixcrawler.json": board,
        BASE / "monitoring" / "dashboard.yaml": _text("deploy/panels.py", [_board(board)]),
        BASE / "kafka" / "topics.yaml": _text(
            "pixcrawler.common.topics", map(_topic, topics.registry())
        ),
        BASE / "kafka" / "users.yaml": _text(
            "pixcrawler.common.topics", map(_user, rights.everybody())
        ),
        BASE / "scaling.yaml": _text("deploy/scaling.py", _scaling()),
        BASE / "monitoring" / "rules.yaml": _text(
            "deploy/prometheus/rules.yml",
            [
                {
                    "apiVersion": "monitoring.coreos.com/v1",
                    "kind": "PrometheusRule",
                    "metadata": {"name": "pixcrawler"},
                    "spec": rules,
                }
            ],
        ),
    }


def write() -> None:
    """Write them."""
    for path, text in files().items():
        path.write_text(text, "utf-8")


def outdated() -> list[str]:
    """Those that are not as they have to be."""
    return [
        str(path.relative_to(ROOT))
        for path, text in files().items()
        if not path.exists() or path.read_text("utf-8") != text
    ]


def _text(source: str, documents: Iterable[Document]) -> str:
    return HEAD.format(source=source) + yaml.dump_all(
        documents, Dumper=_Dumper, sort_keys=False, width=100, explicit_start=True
    )


def _board(board: str) -> Document:
    """As the sidecar of Grafana's chart finds dashboards."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "grafana-dashboard", "labels": {"grafana_dashboard": "1"}},
        "data": {"pixcrawler.json": board},
    }


def _strimzi(kind: str, name: str, spec: Document) -> Document:
    return {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": {"strimzi.io/cluster": CLUSTER}},
        "spec": spec,
    }


def _topic(topic: topics.Topic) -> Document:
    configs = {**configs_of(topic), "min.insync.replicas": "2"}
    spec = {"partitions": topic.partitions, "replicas": REPLICAS, "config": configs}
    return _strimzi("KafkaTopic", topic.name, spec)


def _user(right: rights.Rights) -> Document:
    acls = [
        *(_acl("topic", name, "Read", "Describe") for name in right.reads),
        *(_acl("topic", name, "Write", "Describe") for name in right.writes),
        *(_acl("group", name, "Read") for name in right.groups),
    ]
    if right.describes:
        acls += [_acl("topic", "*", "Describe", "DescribeConfigs"), _acl("group", "*", "Describe")]
    return _strimzi(
        "KafkaUser",
        right.user,
        {
            "authentication": {"type": "scram-sha-512"},
            "authorization": {"type": "simple", "acls": acls},
        },
    )


def _acl(kind: str, name: str, *operations: str) -> Document:
    resource = {"type": kind, "name": name, "patternType": "literal"}
    return {"resource": resource, "operations": list(operations)}


def _scaling() -> Iterable[Document]:
    keda = rights.of_autoscaler().user
    yield {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "keda"},
        "data": {"username": keda},
    }
    yield {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": {"name": "kafka"},
        "spec": {
            "configMapTargetRef": [{"parameter": "username", "name": "keda", "key": "username"}],
            "secretTargetRef": [
                {"parameter": "password", "name": keda, "key": "password"},
                {"parameter": "ca", "name": f"{CLUSTER}-cluster-ca-cert", "key": "ca.crt"},
            ],
        },
    }
    for pace in scaling.PACES:
        triggers = [_lag(pace)]
        if pace.stage == "downloader":
            triggers.append(_pending(pace))
        yield _scaled(pace.stage, pace.least, pace.most, triggers, fallback=True)
    cpu = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}}
    yield _scaled("api", 2, 6, [cpu], fallback=False)


def _scaled(
    service: str, least: int, most: int, triggers: list[Document], *, fallback: bool
) -> Document:
    # A rebalance gives work away that is in hand: so out quickly, in slowly and one at a time.
    behavior = {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 30}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 300,
            "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
        },
    }
    spec: dict[str, Any] = {
        "scaleTargetRef": {"name": service},
        "pollingInterval": 15,
        "cooldownPeriod": 300,
        "minReplicaCount": least,
        "maxReplicaCount": most,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
        "triggers": triggers,
    }
    if fallback:
        # Nobody tells the lag: what runs goes on, and half of what there may be is there at least.
        spec["fallback"] = {
            "failureThreshold": 4,
            "replicas": max(least, most // 2),
            "behavior": "currentReplicasIfHigher",
        }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": service},
        "spec": spec,
    }


def _lag(pace: scaling.Pace) -> Document:
    return {
        "type": "kafka",
        "name": "lag",
        "metadata": {
            "bootstrapServers": BOOTSTRAP,
            "consumerGroup": pace.group,
            "topic": pace.topic,
            "lagThreshold": str(pace.threshold),
            "offsetResetPolicy": "earliest",
            "allowIdleConsumers": "false",
            "sasl": "scram_sha512",
            "tls": "enable",
        },
        "authenticationRef": {"name": "kafka"},
    }


def _pending(pace: scaling.Pace) -> Document:
    """The backlog waits in the database, not in Kafka: each planner tells all of it."""
    return {
        "type": "prometheus",
        "name": "pending",
        "metadata": {
            "serverAddress": PROMETHEUS,
            "query": "sum(max by (priority) (pixcrawler_chunks_pending))",
            "threshold": str(pace.threshold),
            "ignoreNullValues": "false",
        },
    }
