"""What is asked for again because its answer got lost is asked for with the same key."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixcrawler.client import AsyncPixCrawler, PixCrawler, jobs, url_lists
from pixcrawler.client.api import Api
from tests.unit.client.server import JOB, Asked, FakeApi, Reply, reply

INFO = {"job_id": JOB, "status": "running", "max_images": 10, "round": 2}
PATH = f"/v1/jobs/{JOB}"


def lose_answers(fake: FakeApi, path: str, answer: object, status: int = 202) -> None:
    """The first answer breaks off, a proxy answers the second request, the third is answered."""
    fake.documents[f"POST {path}"] = reply(answer, status)
    fake.fail(path, Reply(status, b'{"job_id": "and no more', 5), Reply(503))


def asked_once(fake: FakeApi, path: str) -> Asked:
    """The request that was made three times, with one key."""
    asked = fake.requests(path)
    assert len(asked) == 3
    assert len({(a.query, a.body, a.headers["idempotency-key"]) for a in asked}) == 1
    assert asked[0].headers["idempotency-key"]
    return asked[0]


@pytest.mark.parametrize(
    ("act", "path"),
    [
        (lambda: jobs.extend(JOB, 5, None, json=True), f"{PATH}/chunks"),
        (lambda: jobs.retry(JOB, None, json=True), f"{PATH}/retry"),
        (lambda: jobs.retry(JOB, "3", json=True), f"{PATH}/chunks/3/retry"),
        (lambda: jobs.act(JOB, "cancel", json=True), f"{PATH}/cancel"),
    ],
)
def test_the_command(
    fake: FakeApi, monkeypatch: pytest.MonkeyPatch, act: Callable[[], int], path: str
) -> None:
    """Each command has a key of its own, and keeps it while it tries."""
    monkeypatch.setenv("PIXCRAWLER_API_URL", fake.url)
    lose_answers(fake, path, INFO)
    assert act() == 0
    first = asked_once(fake, path).headers["idempotency-key"]
    act()
    assert fake.requests(path)[-1].headers["idempotency-key"] != first


def test_the_sdk(fake: FakeApi) -> None:
    """Of its own accord, or with the key that it is given."""
    fake.documents[f"GET {PATH}"] = INFO
    with PixCrawler(fake.url, "key") as client:
        job = client.job(JOB)
        acts: tuple[tuple[str, Callable[[], Any]], ...] = (
            ("chunks", lambda: job.extend(5)),
            ("retry", job.retry),
            ("cancel", job.cancel),
        )
        for action, act in acts:
            lose_answers(fake, f"{PATH}/{action}", INFO)
            act()
            asked_once(fake, f"{PATH}/{action}")
        job.extend(5, idempotency_key="mine")
        job.retry(idempotency_key="mine too")
    assert fake.requests(f"{PATH}/chunks")[-1].headers["idempotency-key"] == "mine"
    assert fake.requests(f"{PATH}/retry")[-1].headers["idempotency-key"] == "mine too"


async def test_the_sdk_without_blocking(fake: FakeApi) -> None:
    """Its other face does the same."""
    fake.documents[f"GET {PATH}"] = INFO
    lose_answers(fake, f"{PATH}/chunks", INFO)
    async with AsyncPixCrawler(fake.url, "key") as client:
        job = await client.job(JOB)
        await job.extend(5)
        asked_once(fake, f"{PATH}/chunks")
        await job.extend(5, idempotency_key="mine")
    assert fake.requests(f"{PATH}/chunks")[-1].headers["idempotency-key"] == "mine"


def test_an_upload(fake: FakeApi, api: Api, tmp_path: Path) -> None:
    """A list that is sent again is the same list."""
    path = tmp_path / "list.txt"
    path.write_text("http://images.example/1.jpg\n")
    told = {"id": "l", "rows": 1, "repeated": 0, "rejected": 0, "rejected_rows": []}
    lose_answers(fake, url_lists.PATH, told, 201)
    url_lists.upload(api, url_lists.ListFile(path), {})
    assert asked_once(fake, url_lists.PATH).body == path.read_bytes()
