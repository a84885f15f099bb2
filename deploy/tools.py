"""What the checks work with, where it is there: `kustomize`, and the schemas of operators' kinds.

Nothing here fails because a machine lacks something: it says in one line what is missing. In CI
(`CI` is set) the tests take that line for a failure.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pixcrawler.standalone.paths import cache_dir

ROOT = Path(__file__).parents[1]
KUSTOMIZE_VERSION = "v5.8.1"
_MODULE = "sigs.k8s.io/kustomize/kustomize/v5"
_INSTALL_TIMEOUT_S = 900.0
_RENDER_TIMEOUT_S = 120.0
SCHEMAS_VARIABLE = "PIXCRAWLER_SCHEMAS_DIR"


class Missing(Exception):
    """A tool or a schema is not there; the message is one line that says what to do."""


def kustomize() -> Path:
    """The program, from where it was installed for us; installed with Go where it is not there yet.

    Raises:
        Missing: there is none and it cannot be installed.
    """
    folder = cache_dir(os.environ) / f"kustomize-{KUSTOMIZE_VERSION}"
    program = folder / "kustomize"
    if program.exists():
        return program
    go = shutil.which("go")
    if go is None:
        raise Missing("Go is missing, so kustomize cannot be built: install Go 1.24 or newer")
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    # It runs for half a second here and there: not optimised, and without C, it is built in two
    # thirds of the time.
    environment = {**os.environ, "GOBIN": str(fresh), "CGO_ENABLED": "0"}
    try:
        subprocess.run(  # noqa: S603 - a fixed command line
            [go, "install", "-gcflags=all=-N -l", f"{_MODULE}@{KUSTOMIZE_VERSION}"],
            env=environment, check=True, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError) as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()[-1]
        raise Missing(f"kustomize cannot be built: {said}") from error
    folder.mkdir(parents=True, exist_ok=True)
    (fresh / "kustomize").replace(program)
    shutil.rmtree(fresh, ignore_errors=True)
    return program


def render(overlay: Path) -> list[dict[str, Any]]:
    """Every document of an overlay.

    Raises:
        Missing: there is no kustomize.
        ValueError: the overlay cannot be rendered.
    """
    done = subprocess.run(  # noqa: S603 - a fixed command line
        [kustomize(), "build", overlay],
        check=False, capture_output=True, text=True, timeout=_RENDER_TIMEOUT_S,
    )  # fmt: skip
    if done.returncode:
        raise ValueError(f"{overlay.name} cannot be rendered: {done.stderr.strip()}")
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def schemas() -> Path:
    """The folder of schemas: `PIXCRAWLER_SCHEMAS_DIR`, else one beside the checkout.

    Raises:
        Missing: there is none.
    """
    chosen = os.environ.get(SCHEMAS_VARIABLE)
    folder = Path(chosen) if chosen else ROOT.parent / "shared" / "schemas"
    if not folder.is_dir():
        raise Missing(
            f"there are no schemas in {folder}: set {SCHEMAS_VARIABLE} to a folder with the "
            "CustomResourceDefinitions and compose-spec.json"
        )
    return folder


def definitions(folder: Path) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """The schema of each kind that a CustomResourceDefinition defines, by apiVersion and kind."""
    found = {}
    for file in sorted(folder.glob("*.yaml")):
        for document in yaml.load_all(file.read_text("utf-8"), yaml.CSafeLoader):
            if document and document.get("kind") == "CustomResourceDefinition":
                spec = document["spec"]
                for version in spec["versions"]:
                    name = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
                    found[name] = version["schema"]["openAPIV3Schema"]
    return found
