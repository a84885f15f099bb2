"""Operators steer a running system: pause, drain, give up, another priority; the job ends whole."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixcrawler.miniweb.site import Site
from tests.e2e import checks
from tests.e2e.system import System, mixed
from tests.e2e.waiting import until

REPLICA = "validator-2"
RESUMED = ("stages/downloader", "sources/urls", f"replicas/{REPLICA}")


@pytest.fixture
def steered(system: System) -> Iterator[System]:
    """A system in which nothing is stopped in the end."""
    yield system
    for what in RESUMED:
        system.api.post(f"/v1/{what}/resume")
    until("all work", lambda: set(states(system).values()) == {"working"})


def states(system: System) -> dict[str, str]:
    """How each replica says it is."""
    return {one["worker"]: one["state"] for one in system.api.pages("/v1/replicas")}


def codes(system: System, job: str) -> set[str]:
    """What the job's explanation says."""
    told = system.api.get(f"/v1/jobs/{job}/explanation")
    return {reason["code"] for reason in told["reasons"]}


def test_a_job_that_is_steered(steered: System, scattered_web: Site, tmp_path: Path) -> None:
    """In front of a paused stage its chunks wait, have another priority and can be given up; a
    replica that is drained leaves its work to the other one; a source that is paused keeps chunks
    from being let through. Resumed, and its chunk retried, the job ends as if nothing had been."""
    api = steered.api
    api.post("/v1/stages/downloader/pause", params={"reason": "a test"})
    api.post(f"/v1/replicas/{REPLICA}/drain")
    wanted = {"downloader-1": "paused", "downloader-2": "paused", REPLICA: "drained"}
    until("they rest", lambda: wanted.items() <= states(steered).items())
    job = steered.create_from(mixed(scattered_web.truth, seed=44))
    told = {"stage_paused", "chunk_in_stage"}
    until("chunks wait in front of it", lambda: told <= codes(steered, job))
    assert not [name for name in steered.names(f"jobs/{job}/") if "candidates" in name]

    assert api.patch(f"/v1/jobs/{job}", {"priority": 9})["priority"] == 9
    api.post(f"/v1/jobs/{job}/chunks/0/give-up", params={"reason": "it hangs"})
    first = until("it is given up", lambda: _failed(steered, job))
    assert first is not None
    assert first["error_message"] == "an operator gave it up: it hangs"

    api.post("/v1/sources/urls/pause")
    until("chunks wait for their source", lambda: "source_paused" in codes(steered, job))
    api.post("/v1/stages/downloader/resume")
    until("none is let through", lambda: _of_others(steered, job, "status") == {"pending"})
    until("all have moved", lambda: _of_others(steered, job, "priority") == {9})
    assert {c["retry_count"] for c in steered.chunks(job)} == {0}
    api.post("/v1/sources/urls/resume")
    assert steered.finish(job)["failed_chunks"] == 1
    workers = {s["worker"] for c in steered.chunks(job) for s in c["attempts"]}
    assert REPLICA not in workers

    api.post(f"/v1/jobs/{job}/chunks/0/retry")
    steered.finish(job)
    checks.all_well(steered, job, scattered_web.truth, tmp_path)
    lines = Counter(line["action"] for line in api.pages("/v1/audit", job_id=job))
    assert lines == Counter(("job.priority", "chunk.give_up", "chunk.retry"))


def _of_others(system: System, job: str, field: str) -> set[object]:
    """Of all chunks but the one that was given up."""
    return {chunk[field] for chunk in system.chunks(job) if chunk["index"]}


def _failed(system: System, job: str) -> dict[str, object] | None:
    first = system.chunks(job)[0]
    return first if first["status"] == "failed" else None
