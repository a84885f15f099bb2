"""The API does what its description says: schemathesis over all of it, on a real database.

It makes up requests from `/openapi.json`, right ones and wrong ones, and looks at every answer:
no 500, only documented statuses, media types, headers and bodies, wrong values refused, `Allow`
with 405, nothing without a key, nothing that was deleted.
"""

import asyncio
import json
import sys
from asyncio.subprocess import STDOUT
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pixcrawler.api.server import WebServer
from pixcrawler.common import names
from pixcrawler.common.documents import DatasetFile, DatasetIndex
from pixcrawler.common.events import ImageTotals, JobFacts
from tests.integration.api.conftest import World
from tests.integration.api.test_pictures import complete

DEADLINE_S = 300
IMAGES = [b"one image", b"another image"]

# One worker: Python 3.11 cannot parse sources in two threads at once, as Hypothesis would.
CONFIGURATION = """
base-url = {url}
seed = 20260314
workers = 1
continue-on-failure = true
request-timeout = 30
headers = {{ Authorization = {key} }}

[cache]
enabled = false

[generation]
deterministic = true
database = "none"
max-examples = 3
with-security-parameters = false

# Two that no path has: the others would be answered likewise.
[phases.coverage]
unexpected-methods = ["PATCH", "OPTIONS"]

# A right value may still be refused: a job that is cancelled, a chunk that has not failed, a list
# that is none. What is refused is told in the description, and tested one by one elsewhere.
[checks.positive_data_acceptance]
enabled = false

# It would ask for everything twice more; `test_access` walks over all routes without a key.
[checks.ignored_auth]
enabled = false

# The stream of a job that is not over does not end; tests of live progress read it.
[[operations]]
include-operation-id = "stream_events"
enabled = false
"""


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[str]:
    """The application behind a real web server; its address."""
    server = WebServer(world.app, "127.0.0.1", 0, drain_s=1)
    server.listen()
    running = asyncio.create_task(server.run())
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()
        await running


async def finished_job(world: World) -> str:
    """A job with a dataset, a chunk with images, and one that has failed."""
    job_id = str((await world.job())["job_id"])
    chunk, _ = await world.plan(job_id, "completed", "failed")
    archive = await complete(world.blobs, chunk, IMAGES, "zip")
    index = DatasetIndex(
        job_id=job_id,
        round=1,
        facts=JobFacts(
            round=1, closed_round=1, status="completed", total_chunks=2, requested=9, kept=2
        ),
        images=ImageTotals(valid=len(IMAGES)),
        files=(
            DatasetFile(
                path=f"chunk_{chunk}.zip",
                object=archive.name,
                size=archive.size,
                sha256=archive.sha256,
            ),
        ),
    )
    await world.blobs.create(names.dataset_index(job_id, 1), index.model_dump_json().encode())
    await world.close_round(job_id, 1)
    await world.show(job_id, "completed", finished=1)
    return job_id


async def a_list(world: World) -> str:
    """An uploaded list with a row that was left out."""
    content = b"http://images.example/1.jpg\nftp://images.example/2.jpg\n"
    made = await world.client.post("/v1/url-lists?name=list.txt", content=content)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


async def configured(world: World, url: str) -> str:
    """The configuration: real values beside those that are made up, so that it gets far in."""
    job_id = await finished_job(world)
    image = (await world.get(f"/v1/jobs/{job_id}/images"))["items"][0]
    file = (await world.get(f"/v1/jobs/{job_id}/dataset"))["files"][0]["url"]
    link = urlsplit(file)
    query = {name: value[0] for name, value in parse_qs(link.query).items()}
    common: dict[str, str | int] = {
        "path.job_id": job_id,
        "path.chunk": "0",
        "path.sha256": image["sha256"],
        "path.list_id": await a_list(world),
    }
    # What an operation ends for good it ends for itself: it has a job or a list of its own.
    own: dict[str, dict[str, str | int]] = {
        "delete_job": {"path.job_id": (await world.job())["job_id"]},
        "cancel_job": {"path.job_id": (await world.job())["job_id"]},
        "retry_chunk": {"path.job_id": await finished_job(world), "path.chunk": "1"},
        "start_job": {"path.job_id": (await world.job(start=False))["job_id"]},
        "delete_url_list": {"path.list_id": await a_list(world)},
        "get_file": {
            "path.name": link.path.removeprefix("/v1/files/"),
            **{f"query.{name}": value for name, value in query.items()},
            "query.expires": int(query["expires"]),
        },
    }
    key = world.client.headers["Authorization"]
    return "\n".join(
        (
            CONFIGURATION.format(url=json.dumps(url), key=json.dumps(key)),
            *dictionaries("any", common),
            *(line for name, values in own.items() for line in dictionaries(name, values)),
            "[parameters]",
            *bindings("any", common),
            *(
                line
                for name, values in own.items()
                for line in (
                    "[[operations]]",
                    f'include-operation-id = "{name}"',
                    "[operations.parameters]",
                    *bindings(name, values),
                )
            ),
        )
    )


def dictionaries(name: str, values: Mapping[str, str | int]) -> Iterator[str]:
    """Each value under a name."""
    for parameter, value in values.items():
        yield f'[dictionaries."{name} {parameter}"]\nvalues = [{json.dumps(value)}]'


def bindings(name: str, values: Mapping[str, str | int]) -> Iterator[str]:
    """Each value is what its parameter mostly is."""
    for parameter in values:
        yield f'"{parameter}" = {{ dictionary = "{name} {parameter}", probability = 0.8 }}'


async def test_it_does_what_it_says(world: World, tmp_path: Path) -> None:
    """schemathesis finds nothing."""
    async with serving(world) as url:
        configuration, said = tmp_path / "schemathesis.toml", tmp_path / "said"
        configuration.write_text(await configured(world, url))
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("st")),
            *("--config-file", str(configuration), "--no-color", "run", f"{url}/openapi.json"),
            cwd=tmp_path,
            stdout=said.open("wb"),
            stderr=STDOUT,
        )
        try:
            await asyncio.wait_for(process.wait(), DEADLINE_S)
        except TimeoutError:
            process.kill()
            await process.wait()
    told = said.read_text(errors="replace")
    assert process.returncode == 0, told[-20_000:]
    # All but the stream.
    total = sum(len(path) for path in world.app.openapi()["paths"].values())
    assert f"{total - 1} selected / {total} total" in told, told[-20_000:]
