import socket
import time

import pytest

from pixcrawler.client.api import Api
from pixcrawler.client.errors import FAILED, USAGE, ApiError, CommandError
from tests.unit.client.server import FakeApi, Reply, reply


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_key_and_the_parameters_are_sent(fake: FakeApi, api: Api) -> None:
    """Parameters that are None are left out."""
    fake.documents["GET /v1/jobs"] = {"items": []}
    api.get("/v1/jobs", status="running", project_id=None)
    [asked] = fake.asked
    assert asked.headers["authorization"] == "Bearer the-key"
    assert asked.query == "status=running"


def test_all_pages_are_read(fake: FakeApi, api: Api) -> None:
    """A list is followed by its cursor to its end."""
    fake.documents["GET /v1/jobs"] = [
        {"items": [{"n": 1}, {"n": 2}], "next_cursor": "abc"},
        {"items": [{"n": 3}], "next_cursor": None},
    ]
    assert [item["n"] for item in api.pages("/v1/jobs")] == [1, 2, 3]
    assert [asked.query for asked in fake.asked] == ["", "cursor=abc"]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_an_api_that_is_away_for_a_while(fake: FakeApi, api: Api, status: int) -> None:
    """What a proxy answers for it is no answer: it is asked again."""
    fake.fail("/v1/capacity", Reply(status), Reply(status))
    fake.documents["GET /v1/capacity"] = {"max_chunks": 35}
    assert api.get("/v1/capacity") == {"max_chunks": 35}


def test_creating_again_is_with_the_same_key(fake: FakeApi, api: Api) -> None:
    """A job that is asked for again is asked for with the same Idempotency-Key and body."""
    fake.fail("/v1/jobs", Reply(503))
    fake.documents["POST /v1/jobs"] = {"job_id": "j"}
    api.post("/v1/jobs", {"keywords": ["x"]}, headers={"Idempotency-Key": "once"})
    assert [(a.headers["idempotency-key"], a.body) for a in fake.asked] == [
        ("once", b'{"keywords":["x"]}')
    ] * 2


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that stays away is one line that names its address; before, people are told once."""
    monkeypatch.setattr("pixcrawler.client.core.SILENCE_S", 0.1)
    told: list[str] = []
    url = f"http://127.0.0.1:{free_port()}"
    began = time.monotonic()
    with (
        Api(url, "", patience_s=1.5, on_away=told.append) as api,
        pytest.raises(CommandError, match=url) as caught,
    ):
        api.get("/v1/jobs")
    assert 1 < time.monotonic() - began < 15
    assert caught.value.code == FAILED
    assert len(told) == 1
    assert url in told[0]


def test_people_are_not_told_of_a_hiccup(fake: FakeApi) -> None:
    """What is over at once is not worth a line."""
    fake.fail("/v1/jobs", Reply(503))
    fake.documents["GET /v1/jobs"] = {}
    told: list[str] = []
    with Api(fake.url, "", on_away=told.append) as api:
        api.get("/v1/jobs")
    assert told == []


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (reply({"detail": "max_images must be positive"}, 422), USAGE, "max_images must be"),
        (reply({"title": "Conflict", "detail": ""}, 409), FAILED, "Conflict"),
        (reply({"detail": "job x was not found"}, 404), FAILED, "job x was not found"),
        (reply({"detail": "the API key is not valid"}, 401), FAILED, "PIXCRAWLER_API_KEY"),
        (Reply(500, b"<html>oops"), FAILED, "the API answered 500"),
        (Reply(418, b'["a list"]'), FAILED, "the API answered 418"),
    ],
)
def test_refusals_are_one_line(
    fake: FakeApi, api: Api, answer: Reply, code: int, words: str
) -> None:
    """The problem's own words, asked for once; wrong values are wrong usage."""
    fake.fail("/v1/jobs", answer)
    with pytest.raises(ApiError, match=words) as caught:
        api.post("/v1/jobs", {})
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert len(fake.asked) == 1


def test_an_answer_that_is_no_json(fake: FakeApi, api: Api) -> None:
    """Something else that listens there is told from an API."""
    fake.fail("/v1/jobs", Reply(200, b"<html>a router's page"))
    with pytest.raises(CommandError, match="is it PixCrawler"):
        api.get("/v1/jobs")
