"""A witness of what was decided: it looks all the time, and remembers what it saw first."""

import hashlib
import json
import re
import threading
from types import TracebackType
from typing import Self

from pixcrawler.common.errors import BlobNotFound
from tests.e2e.system import Json, System

LOOK_S = 0.25
DECIDED = re.compile(
    r"""
    jobs/(?P<job>[^/]+)/chunks/[^/]+/(candidates\.jsonl|verdicts\.jsonl|result\.json)
    | jobs/[^/]+/rounds/\d+/[^/]+
    | datasets/[^/]+/chunk_[^/]+
    """,
    re.VERBOSE,
)
"""Every object that is written once. (Beside the archives there is a copy of the latest index.)"""


class Witness:
    """Remembers the sha256 of every object that is written once, as it was when it appeared.

    Args:
        system: Whose.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._first: dict[str, str] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def look(self) -> None:
        """Remember what is new."""
        with self._lock:
            for prefix in ("jobs/", "datasets/"):
                for name in self._system.names(prefix):
                    if name not in self._first and DECIDED.fullmatch(name):
                        self._remember(name)

    def seen(self, job_id: str) -> dict[str, str]:
        """What was seen of a job, by name: sha256."""
        with self._lock:
            return {name: digest for name, digest in self._first.items() if job_id in name}

    def forget(self, job_id: str) -> None:
        """A job that is deleted."""
        with self._lock:
            self._first = {k: v for k, v in self._first.items() if job_id not in k}

    def changed(self, job_id: str) -> list[str]:
        """What is not any more as it was when it appeared: in words.

        The archive of a chunk that has failed goes: its packer was late.
        """
        self.look()
        said = []
        for name, digest in sorted(self.seen(job_id).items()):
            now = self._digest(name)
            if now is None and not self._of_a_failed_chunk(name):
                said.append(f"{name} has vanished")
            elif now not in {digest, None}:
                said.append(f"{name} has changed: {digest[:16]} is now {str(now)[:16]}")
        return said

    def archives(self, job_id: str) -> dict[str, str]:
        """The archives that were seen of a job."""
        return {name: sha for name, sha in self.seen(job_id).items() if name.startswith("datasets")}

    def _watch(self) -> None:
        while not self._ended.wait(LOOK_S):
            try:
                self.look()
            except Exception as error:  # noqa: BLE001 - told at the end: who did not look saw nothing
                self.errors.append(f"{type(error).__name__}: {error}")

    def _remember(self, name: str) -> None:
        digest = self._digest(name)
        if digest is not None:
            self._first[name] = digest

    def _digest(self, name: str) -> str | None:
        try:
            return hashlib.sha256(self._system.content(name)).hexdigest()
        except BlobNotFound:
            return None

    def _of_a_failed_chunk(self, archive: str) -> bool:
        found = re.fullmatch(r"datasets/([^/]+)/chunk_(.+)\.(?:zip|tar)", archive)
        if found is None:
            return False
        job, chunk = found.groups()[:2]
        return result(self._system, job, chunk).get("status") == "failed"


def result(system: System, job: str, chunk: str) -> Json:
    """How a chunk has ended, as its result says; empty if it has none."""
    try:
        said: Json = json.loads(system.content(f"jobs/{job}/chunks/{chunk}/result.json"))
    except BlobNotFound:
        return {}
    return said
