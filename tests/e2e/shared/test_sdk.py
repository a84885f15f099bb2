"""The SDK against the whole system: the examples of its documentation, run as they stand."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from pixcrawler.client import (
    AsyncPixCrawler,
    Conflict,
    Invalid,
    NotAuthorized,
    NotFound,
    PixCrawler,
)
from pixcrawler.miniweb import compare
from pixcrawler.miniweb.site import Site
from tests.e2e.system import System

DOCS = Path(__file__).parents[3] / "docs/sdk.md"


def examples(small_web: Site) -> list[str]:
    """Those of the documentation, with what this web has pictures of."""
    found = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    return [example.replace("red panda", small_web.keywords[0]) for example in found]


def test_the_examples(system: System, small_web: Site, tmp_path: Path) -> None:
    """Each runs by itself as a program, one after the other, in one folder."""
    told = {
        **system.command_environment(),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": os.fspath(tmp_path / "hf"),
        "XDG_CACHE_HOME": os.fspath(tmp_path / "cache"),
    }
    for number, example in enumerate(examples(small_web)):
        script = tmp_path / f"example{number}.py"
        script.write_text(example)
        done = subprocess.run(
            [sys.executable, script],
            cwd=tmp_path,
            env=told,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{example}\n{done.stdout}\n{done.stderr}"
        assert done.stdout


def test_a_job_by_the_sdk(system: System, small_web: Site, tmp_path: Path) -> None:
    """Everything that a job can be asked for; what it made is as the truth says."""
    number = small_web.supply
    with PixCrawler(system.api.url, system.key) as client:
        job = client.run(small_web.keywords, number, name="sdk", start=False)
        with pytest.raises(NotFound, match="no dataset yet"):
            job.dataset(tmp_path / "early")
        assert job.start().id == job.id
        shown = [job.progress()]
        last = job.wait(120, on_progress=shown.append)
        assert (last.status, last.images.valid, last.progress) == ("completed", number, 100)
        assert [p.progress for p in shown] == sorted(p.progress for p in shown)
        assert job.info.status == "completed"

        dataset = job.dataset(tmp_path / "set")
        assert compare.compare_dataset(small_web.truth, tmp_path / "set", requested=number) == []
        samples = list(dataset.images())
        assert len(samples) == len(dataset) == number
        kept = {outcome.url for outcome in job.outcomes("kept")}
        assert kept == {sample.record.url for sample in samples}
        outcomes = list(job.outcomes())
        assert len(outcomes) == last.images.candidates
        chunks = list(job.chunks())
        assert sum(chunk.images.valid for chunk in chunks) == number
        assert job.id in {each.id for each in client.jobs(status="completed")}

        with pytest.raises(Conflict) as refused:
            job.cancel()
        assert refused.value.problem["status"] == 409
        with pytest.raises(Invalid) as wrong:
            client.run("x", 0)
        assert wrong.value.errors[0]["field"] == "max_images"
        job.delete()
        with pytest.raises(NotFound):
            job.refresh()
    with PixCrawler(system.api.url, "none") as nobody, pytest.raises(NotAuthorized):
        nobody.capacity()


def test_the_same_asynchronously(system: System, small_web: Site, tmp_path: Path) -> None:
    """Two jobs at a time on one loop, one of them cancelled; the API is found by its folder."""

    async def work() -> None:
        async with AsyncPixCrawler() as client:
            assert client.api_url == system.api.url
            wanted = await client.run(small_web.keywords, 5)
            unwanted = await client.run(small_web.keywords, 5, start=False)
            last, _ = await asyncio.gather(wanted.wait(120), unwanted.cancel())
            assert (last.status, last.images.valid) == ("completed", 5)
            assert (await unwanted.wait(120)).status == "cancelled"
            dataset = await wanted.dataset(tmp_path / "set")
            kept = {outcome.url async for outcome in wanted.outcomes("kept")}
            assert kept == {sample.record.url for sample in dataset.images()}
            assert {job.id async for job in client.jobs()} >= {wanted.id, unwanted.id}
            assert (await client.capacity(1)).can_start

    with mock.patch.dict(os.environ, system.command_environment(), clear=True):
        asyncio.run(work())
