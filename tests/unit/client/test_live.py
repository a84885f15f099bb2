import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixcrawler.client import live
from pixcrawler.client.api import Api
from pixcrawler.client.errors import NotFound, WaitTimeout
from pixcrawler.client.live import Event, EventReader
from pixcrawler.client.ports import drive_each
from tests.unit.client.server import JOB, FakeApi, Reply, reply
from tests.unit.client.test_watching import progress

EVENTS = f"/v1/jobs/{JOB}/events"
PROGRESS = f"/v1/jobs/{JOB}/progress"


def event(name: str, number: int, shown: dict[str, Any]) -> bytes:
    return f"event: {name}\nid: {number}\ndata: {json.dumps(shown)}\n\n".encode()


def stream(*events: bytes, cut: int | None = None) -> Reply:
    return Reply(200, b"".join([b"retry: 2000\n\n", *events]), cut, "text/event-stream")


def statuses(api: Api, **options: Any) -> list[str]:
    return [shown["status"] for shown in drive_each(live.changes(api.core, JOB, **options))]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL_S", 0.01)


@given(
    st.lists(st.tuples(st.text("abc", min_size=1), st.text("01."), st.text("{}é :x"))),
    st.sampled_from(["\n", "\r\n"]),
    st.data(),
)
def test_events_however_they_come(
    told: list[tuple[str, str, str]], end: str, data: st.DataObject
) -> None:
    """Pieces of any size, cut anywhere, give the same events."""
    lines = (f"event: {n}{end}id: {i}{end}data: {d}{end}{end}" for n, i, d in told)
    whole = "".join(lines).encode()
    cuts = data.draw(st.lists(st.integers(0, len(whole))).map(sorted))
    reader, found = EventReader(), list[Event]()
    for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found += reader.feed(whole[start:stop])
    assert found == [Event(*each) for each in told]


def test_progress_is_pushed(fake: FakeApi, api: Api) -> None:
    """One request for a whole job: what the stream says is all there is to know."""
    fake.documents[f"GET {EVENTS}"] = stream(
        event("progress", 1, progress("pending")),
        b": still here\n\n",
        event("progress", 2, progress()),
        event("finished", 3, progress("completed")),
    )
    looks: list[int] = []
    found = statuses(api, on_look=lambda: looks.append(1))
    assert found == ["pending", "running", "completed"]
    assert len(fake.asked) == 1
    assert len(looks) == 5
    assert fake.asked[0].headers["accept"] == "text/event-stream"


def test_a_stream_that_breaks_goes_on(fake: FakeApi, api: Api) -> None:
    """It is asked for again from the last event that came; meanwhile progress is asked for."""
    begun = event("progress", 7, progress("pending"))
    fake.fail(EVENTS, stream(begun, b"x" * 100, cut=13 + len(begun)))
    fake.documents[f"GET {EVENTS}"] = stream(event("finished", 9, progress("completed")))
    fake.documents[f"GET {PROGRESS}"] = progress()
    assert statuses(api) == ["pending", "running", "completed"]
    first, second = fake.requests(EVENTS)
    assert "last-event-id" not in first.headers
    assert second.headers["last-event-id"] == "7"


@pytest.mark.parametrize(
    "answer",
    [
        reply({"title": "Not Found"}, 404),
        reply({"title": "Service Unavailable"}, 503),
        Reply(204, b""),
        Reply(200, b"<html>a proxy's page"),
        stream(cut=0),
    ],
    ids=["older", "too many", "nothing new", "proxy", "silent"],
)
def test_without_a_stream_progress_is_asked_for(fake: FakeApi, api: Api, answer: Reply) -> None:
    """Whatever refuses the stream costs liveliness alone."""
    fake.documents[f"GET {EVENTS}"] = answer
    fake.documents[f"GET {PROGRESS}"] = [progress("pending"), progress(), progress("failed")]
    assert statuses(api) == ["pending", "running", "failed"]


def test_an_api_that_is_away_while_one_watches(fake: FakeApi, api: Api) -> None:
    """A restart between two events is outlasted."""
    fake.fail(EVENTS, stream(event("progress", 1, progress())), Reply(503))
    fake.fail(PROGRESS, Reply(503), Reply(503))
    fake.documents[f"GET {PROGRESS}"] = progress("completed")
    assert statuses(api) == ["running", "completed"]


def test_a_job_that_is_deleted_while_one_watches(fake: FakeApi, api: Api) -> None:
    """It is told as any job that is not there."""
    fake.documents[f"GET {EVENTS}"] = stream(
        event("progress", 1, progress()), b"event: deleted\ndata: {}\n\n"
    )
    with pytest.raises(NotFound):
        statuses(api)


def test_waiting_ends_in_time(fake: FakeApi, api: Api) -> None:
    """A job that goes on for ever is left after the time that was given."""
    fake.documents[f"GET {PROGRESS}"] = progress()
    with pytest.raises(WaitTimeout, match="it goes on") as caught:
        statuses(api, timeout_s=0.3)
    assert isinstance(caught.value, TimeoutError)
