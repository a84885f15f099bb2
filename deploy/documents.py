"""The documents of a rendered overlay, and the containers in them that run our programs."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic_settings import BaseSettings

from deploy import told

Document = Mapping[str, Any]
Documents = list[Document]


def name_of(document: Document) -> str:
    """`Kind/name`."""
    return f"{document['kind']}/{document['metadata']['name']}"


def of_kind(documents: Documents, *kinds: str) -> Documents:
    """Those of these kinds."""
    return [each for each in documents if each["kind"] in kinds]


def named(documents: Documents, kind: str) -> dict[str, Document]:
    """Those of a kind by name."""
    return {each["metadata"]["name"]: each for each in of_kind(documents, kind)}


class Container(NamedTuple):
    """A container of a pod of ours, and what it is told."""

    owner: str
    service: str
    pod: Document
    spec: Document
    told: Mapping[str, str]

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.owner}/{self.spec['name']}"

    @property
    def models(self) -> tuple[type[BaseSettings], ...]:
        """The settings of what runs in it."""
        words = [*self.spec.get("command", []), *self.spec.get("args", [])]
        return told.programs_of(words, self.service)


def pods(documents: Documents) -> Iterator[tuple[Document, Document]]:
    """Whatever has pods, with their spec."""
    for document in of_kind(documents, "Deployment", "StatefulSet", "Job"):
        yield document, document["spec"]["template"]["spec"]


def ours(documents: Documents) -> Iterator[Container]:
    """The containers that run our programs."""
    maps = {name: each.get("data", {}) for name, each in named(documents, "ConfigMap").items()}
    for document, pod in pods(documents):
        for spec in (*pod.get("initContainers", []), *pod["containers"]):
            image = spec["image"].rpartition("/")[2].partition(":")[0]
            if image.startswith("pixcrawler-"):
                yield Container(
                    name_of(document), image.removeprefix("pixcrawler-"), pod, spec,
                    _environment(spec, maps),
                )  # fmt: skip


def _environment(spec: Document, maps: Mapping[str, Document]) -> dict[str, str]:
    """Variables with their values; a secret is a word that every setting takes."""
    found: dict[str, str] = {}
    for source in spec.get("envFrom", []):
        found |= maps.get(source["configMapRef"]["name"], {})
    for variable in spec.get("env", []):
        origin = variable.get("valueFrom", {}).get("configMapKeyRef")
        value = maps.get(origin["name"], {}).get(origin["key"], "") if origin else "secret"
        found[variable["name"]] = variable.get("value", value)
    return found
