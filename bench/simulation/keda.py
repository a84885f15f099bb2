"""What KEDA and the autoscaler are told of each stage, read from the manifests themselves."""

from pathlib import Path
from typing import Any

import yaml

from bench.simulation.model import Scaling

STAGES = ("downloader", "validator", "uploader")
BASE = Path(__file__).parents[2] / "deploy" / "k8s" / "base"
SCALING = BASE / "scaling.yaml"
SETTINGS = BASE / "settings.env"


def scalings(path: Path = SCALING) -> dict[str, Scaling]:
    """The ScaledObjects by the stage that they scale."""
    with path.open() as file:
        documents = [doc for doc in yaml.safe_load_all(file) if doc["kind"] == "ScaledObject"]
    specs = {doc["spec"]["scaleTargetRef"]["name"]: doc["spec"] for doc in documents}
    return {name: _scaling(specs[name]) for name in STAGES}


def slots(path: Path = SETTINGS) -> int:
    """Chunks that may be in progress at a time, over the whole cluster."""
    settings = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    return int(settings["PIXCRAWLER_RESOURCE_MAX_CONCURRENT_CHUNKS"])


def _scaling(spec: dict[str, Any]) -> Scaling:
    triggers = {trigger["name"]: trigger["metadata"] for trigger in spec["triggers"]}
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    (up,), (down,) = behavior["scaleUp"]["policies"], behavior["scaleDown"]["policies"]
    pending = triggers.get("pending")
    return Scaling(
        least=spec["minReplicaCount"],
        most=spec["maxReplicaCount"],
        lag_threshold=int(triggers["lag"]["lagThreshold"]),
        pending_threshold=None if pending is None else int(pending["threshold"]),
        poll_s=float(spec["pollingInterval"]),
        up_percent=up["value"],
        up_s=float(up["periodSeconds"]),
        down_pods=down["value"],
        down_s=float(down["periodSeconds"]),
        calm_s=float(behavior["scaleDown"]["stabilizationWindowSeconds"]),
    )
