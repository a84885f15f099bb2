"""Trace context survives from event to event."""

import re

import pytest

from pixcrawler.common import telemetry

GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_child_keeps_the_trace() -> None:
    """Same trace and flags, another span."""
    child = telemetry.parse(str(telemetry.continued(GIVEN)))
    assert child is not None
    assert (child.trace_id, child.flags) == ("4bf92f3577b34da6a3ce929d0e0e4736", "01")
    assert child.span_id != "00f067aa0ba902b7"


def test_the_trace_of_a_job() -> None:
    """That of the request that made it; without one its id is the job's, the same every time."""
    job = "01890a5d-ac96-774b-bcce-b302099a8057"
    assert telemetry.trace_of(job, GIVEN).trace_id == "4bf92f3577b34da6a3ce929d0e0e4736"
    spans = {telemetry.trace_of(job, given) for given in (None, "", "nonsense")}
    assert {span.trace_id for span in spans} == {"01890a5dac96774bbcceb302099a8057"}
    assert len({span.span_id for span in spans}) == 3


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
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", str(telemetry.continued(text)))
