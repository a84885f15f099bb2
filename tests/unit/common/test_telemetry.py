"""Trace context survives from event to event."""

import re

import pytest

from pixcrawler.common import telemetry

GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


JOB = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_a_child_keeps_the_trace() -> None:
    """Same trace and flags, another span, whose parent is the one that was named."""
    span = telemetry.begin("validator chunk.downloaded", GIVEN, "consumer")
    assert (span.trace.trace_id, span.trace.flags) == ("4bf92f3577b34da6a3ce929d0e0e4736", "01")
    assert span.trace.span_id != "00f067aa0ba902b7"
    assert str(span.parent) == GIVEN


def test_the_trace_of_a_job() -> None:
    """That of the request that made it; without one its id is the job's, the same every time."""
    for named, parent in ((GIVEN, GIVEN), (None, "None"), ("", "None"), ("nonsense", "None")):
        first = telemetry.first_of(JOB, named, "POST /v1/jobs")
        assert str(first.parent) == parent
        expected = "4bf92f3577b34da6a3ce929d0e0e4736" if named == GIVEN else JOB.replace("-", "")
        sent = [telemetry.sending("job.planned", JOB, str(first.trace)) for _ in range(2)]
        assert {each.trace_id for each in (first.trace, *sent)} == {expected}
        assert len({each.span_id for each in (first.trace, *sent)}) == 3
    assert telemetry.sending("job.planned", JOB, None).trace_id == JOB.replace("-", "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        GIVEN.upper(),
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    ],
)
def test_without_a_trace_a_new_one_begins(text: str) -> None:
    """What names no span is replaced, not passed on."""
    assert telemetry.parse(text) is None
    span = telemetry.begin("any", text, "consumer")
    assert span.parent is None
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", str(span.trace))
