"""Each document against the schema of its kind, strictly: a field that does not exist is a problem.

Kubernetes drops such a field without a word, and whoever wrote it believes that it is there.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import kubernetes_validate

from deploy.documents import Document, Documents, name_of

KUBERNETES = "1.34"
"""The oldest version that the manifests are for: all that they use is stable there."""


def core_kinds(documents: Documents) -> Iterator[str]:
    """Kinds of Kubernetes itself."""
    for document in documents:
        try:
            kubernetes_validate.validate(dict(document), KUBERNETES, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            continue
        except kubernetes_validate.ValidationError as error:
            yield f"{name_of(document)}: {error.message}"


def is_core(document: Document) -> bool:
    """Whether its kind is one of Kubernetes itself."""
    group = document["apiVersion"].rpartition("/")[0]
    return "." not in group or group.endswith(".k8s.io")


def custom_kinds(documents: Documents, definitions: Mapping[Any, Document]) -> Iterator[str]:
    """All other kinds, against their definitions, as strictly."""
    for document in documents:
        if is_core(document):
            continue
        schema = definitions.get((document["apiVersion"], document["kind"]))
        if schema is None:
            yield f"{name_of(document)}: nothing defines {document['apiVersion']}"
            continue
        validator = jsonschema.Draft202012Validator(strict(schema))
        for error in validator.iter_errors(document):
            yield f"{name_of(document)}: {error.json_path}: {error.message[:300]}"


def strict(schema: Any) -> Any:
    """The schema, refusing fields that it does not name: Kubernetes drops those without a word."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    keeps = schema.get("x-kubernetes-preserve-unknown-fields")
    if isinstance(made.get("properties"), dict) and "type" in schema and not keeps:
        made.setdefault("additionalProperties", False)
        if "apiVersion" in made["properties"]:
            made["properties"]["metadata"] = {"type": "object"}
    return made
