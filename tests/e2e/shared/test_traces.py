"""One trace from the request to the dataset."""

import uuid

import pytest

from pixcrawler.common.events import header
from pixcrawler.miniweb.site import Site
from tests.e2e import checks
from tests.e2e.records import EVENTS
from tests.e2e.system import CHUNK_SIZE, System, mixed

GIVEN = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize("given", [GIVEN, ""], ids=["given", "derived"])
def test_all_events_of_a_job_have_one_trace(
    system: System, scattered_web: Site, given: str
) -> None:
    """Every record of a job on every topic, progress included, belongs to the trace of the request
    that made it, or to one that is called like the job; also what a later request has caused."""
    wish = {"urls": mixed(scattered_web.truth, seed=70)[: 2 * CHUNK_SIZE], "max_images": 3}
    headers = {"traceparent": f"00-{given}-00f067aa0ba902b7-01"} if given else {}
    made = system.api.post(
        "/v1/jobs", wish, headers={"Idempotency-Key": uuid.uuid4().hex, **headers}
    )
    job = str(made["job_id"])
    system.finish(job)
    system.api.post(
        f"/v1/jobs/{job}/chunks",
        params={"max_images": 2},
        headers={"traceparent": f"00-{'5' * 32}-{'6' * 16}-01"},
    )
    system.finish(job)
    checks.nothing_left(system, job)
    told = [record for record in system.read(EVENTS, job) if record.value is not None]
    topics = {record.topic for record in told}
    assert topics >= {"job.created", "chunk.planned", "job.planned", "job.finished", "job.progress"}
    traces = {
        (record.topic, header(record.headers, "traceparent").split("-")[1]) for record in told
    }
    assert {trace for _, trace in traces} == {given or uuid.UUID(job).hex}, traces
