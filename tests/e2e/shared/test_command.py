"""The `pixcrawler` command, as a program: exit codes, and documents for machines."""

import csv
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pixcrawler.client.__main__ import main
from pixcrawler.common import topics
from pixcrawler.common.outcomes import Outcome
from pixcrawler.miniweb import compare
from pixcrawler.miniweb.site import Site
from pixcrawler.standalone import status
from tests.e2e import checks
from tests.e2e.system import CHUNK_SIZE, PARTITIONS, SETTINGS, Json, System, inherited, lines
from tests.e2e.waiting import until
from tests.scratch import reachable_folder

COMMAND = Path(sys.executable).with_name("pixcrawler")


class Answer(NamedTuple):
    """How the command ended, and what it said."""

    code: int
    documents: list[Json]
    notes: str

    @property
    def document(self) -> Json:
        """The only document."""
        (only,) = self.documents
        return only


def program(environment: Mapping[str, str], *words: object) -> Answer:
    """Run it as the program that it is."""
    done = subprocess.run(
        [os.fspath(COMMAND), *map(str, words), "--json"],
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return Answer(done.returncode, lines(done.stdout), done.stderr)


def pixcrawler(environment: Mapping[str, str], *words: object) -> Answer:
    """The same in this process: most of a short command's time goes into its imports."""
    said, notes = StringIO(), StringIO()
    terminated = signal.getsignal(signal.SIGTERM)
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", ["pixcrawler", *map(str, words), "--json"]),
        redirect_stdout(said),
        redirect_stderr(notes),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    signal.signal(signal.SIGTERM, terminated)
    return Answer(int(ended.value.code or 0), lines(said.getvalue()), notes.getvalue())


def test_one_command_from_keywords_to_a_dataset(small_web: Site, tmp_path: Path) -> None:
    """Nothing runs: `run` starts everything, keeps all that can be kept, and leaves nothing."""
    folder = tmp_path / "dataset"
    words = ["run", *small_web.keywords, "-n", small_web.supply, "-o", folder]
    with reachable_folder() as data_dir:
        told = {**inherited(), **SETTINGS, **small_web.env, "PIXCRAWLER_DATA_DIR": str(data_dir)}
        answer = program(told, *words)
        assert answer.code == 0, answer.notes
        created, *progress, finished = answer.documents
        assert created["event"] == "created"
        assert created["job"]["max_images"] == small_web.supply
        assert {each["event"] for each in progress} == {"progress"}
        assert {each["job_id"] for each in progress} == {created["job"]["job_id"]}
        shown = [each["progress"] for each in progress]
        assert shown == sorted(shown)
        assert shown[-1] == 100
        assert finished == {
            "event": "finished",
            "job_id": created["job"]["job_id"],
            "status": "completed",
            "dataset": str(folder),
            "images": progress[-1]["images"],
        }
        assert finished["images"]["valid"] == small_web.supply
        assert not status(Path(data_dir)).running

        again = pixcrawler(told, *words)
        assert again.code == 2
        assert "choose another folder" in again.notes
        assert again.documents == []
        assert pixcrawler(told, "jobs", "list").code == 1  # nothing runs
    differences = compare.compare_dataset(small_web.truth, folder, requested=small_web.supply)
    assert differences == []
    assert small_web.state()["trespasses"] == []


def test_more_than_there_is_ends_incomplete(
    system: System, small_web: Site, tmp_path: Path
) -> None:
    """Every candidate has its outcome, all that can be kept is kept, and the exit code says so; the
    metrics count what happened."""
    number = small_web.supply + 10
    before = system.metrics()
    answer = program(
        system.command_environment(), "run", *small_web.keywords, "-n", number, "-o", tmp_path
    )
    assert answer.code == 3, answer.notes
    assert answer.documents[-1]["status"] == "incomplete"
    assert compare.compare_dataset(small_web.truth, tmp_path, requested=number) == []
    job = answer.documents[-1]["job_id"]
    checks.nothing_left(system, job)
    checks.adds_up(system, job)
    assert small_web.state()["trespasses"] == []
    _moved(system, job, before)


def _moved(system: System, job: str, before: Counter[tuple[str, ...]]) -> None:
    """Every metric counts the only job that ran meanwhile, and the gauges are at rest again."""
    chunks = system.chunks(job)
    statuses = Counter(str(chunk["status"]) for chunk in chunks)
    outcomes: Counter[str] = Counter()
    for images in (chunk["images"] for chunk in chunks if chunk["status"] == "completed"):
        outcomes.update(images["dropped"], kept=images["valid"])

    now = system.metrics()
    moved = Counter({name: value - before[name] for name, value in now.items()})
    assert moved["pixcrawler_jobs_total", "incomplete"] == 1
    for ended in ("completed", "failed"):
        assert moved["pixcrawler_chunks_total", "planner", ended] == statuses[ended]
    for stage in ("planner", "downloader", "validator", "uploader"):
        done = moved["pixcrawler_chunks_total", stage, "completed"]
        assert done >= statuses["completed"], stage
        assert moved["pixcrawler_chunk_duration_seconds_count", stage] >= done
    for outcome in Outcome:
        assert moved["pixcrawler_images_total", outcome] == outcomes[outcome], outcome
    images = system.progress(job)["images"]
    assert moved[("pixcrawler_fetch_seconds_count",)] >= images["downloaded"]
    assert moved[("pixcrawler_fetch_bytes_total",)] >= images["bytes"]
    for source in ("openverse", "commons"):
        assert moved["pixcrawler_source_requests_total", source, "200"] > 0

    def busy() -> Json:
        gauges = (
            *("chunks_active", "chunks_pending", "in_flight", "outbox_pending"),
            *("consumer_lag", "consumer_lag_seconds"),
        )
        names = {f"pixcrawler_{gauge}" for gauge in gauges}
        shown = {key: value for key, value in system.metrics().items() if key[0] in names}
        assert {key[0] for key in shown} == names
        pending = {key[1] for key in shown if key[0] == "pixcrawler_chunks_pending"}
        assert pending == set(map(str, range(11)))
        return {" ".join(key): value for key, value in shown.items() if value}

    until("the gauges are at rest", lambda: not busy(), about=busy)


def test_a_list_of_urls(system: System, small_web: Site, tmp_path: Path) -> None:
    """`--urls FILE` asks for all of them; what people see has the outcomes and the dataset."""
    good = [url for url, true in small_web.truth.items() if true.kind == "photo"]
    file = tmp_path / "urls.txt"
    file.write_text("# photographs\n\n" + "\n".join(good) + "\n")
    done = subprocess.run(
        [COMMAND, "run", "--urls", file, "--format", "webdataset", "-o", tmp_path / "set"],
        env=system.command_environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"completed: {len(good)} images" in done.stdout
    assert done.stdout.splitlines()[-1] == f"dataset: {tmp_path / 'set'}"
    truth = {url: small_web.truth[url] for url in good}
    assert compare.compare_dataset(truth, tmp_path / "set") == []
    assert len(list((tmp_path / "set").glob("chunk_*.tar"))) == -(-len(good) // CHUNK_SIZE)
    empty = pixcrawler(system.command_environment(), "run", "--urls", os.devnull, "-o", tmp_path)
    assert (empty.code, empty.documents) == (2, [])


def test_a_list_with_captions_and_licences(system: System, small_web: Site, tmp_path: Path) -> None:
    """`--urls list.parquet`: what it says of an image stands beside the image, in every file; rows
    that cannot be used are told. The images are squares, as they were asked for."""
    good = [url for url, true in small_web.truth.items() if true.kind == "photo"][:15]
    rows = [(url, f"caption {n}", "CC BY 4.0", f"artist {n}") for n, url in enumerate(good)]
    given = [*rows, ("nope", "", "", ""), (good[0], "again", "", "")]
    columns = ("IMAGE_URL", "TEXT", "license", "author")
    table = pa.table(dict(zip(columns, zip(*given, strict=True), strict=True)))
    pq.write_table(table, tmp_path / "list.parquet")
    folder = tmp_path / "set"
    squares = ("--resize-mode", "center_crop", "--image-size", 64, "--image-format", "webp")
    told = system.command_environment()
    done = program(
        told, "run", "--urls", tmp_path / "list.parquet", *squares, "--upright", "-o", folder
    )
    assert done.code == 0, done.notes
    assert "list.parquet: 16 URLs, 1 of them again" in done.notes
    assert "line 16: not an http or https URL" in done.notes
    assert done.documents[-1]["images"]["valid"] == 15
    wanted = {(u, title, creator, "CC-BY-4.0") for u, title, _, creator in rows}
    stored = pq.read_table(folder / "images.parquet").to_pylist()
    assert {(r["url"], r["title"], r["creator"], r["license"]) for r in stored} == wanted
    (archive,) = folder.glob("chunk_*.zip")
    with zipfile.ZipFile(archive) as opened:
        said = [json.loads(line) for line in opened.read("metadata.jsonl").splitlines()]
        for line in said:
            with Image.open(opened.open(line["file_name"])) as image:
                assert (image.size, image.format) == ((64, 64), "WEBP")
    assert {r["url"]: r["original_sha256"] for r in said} == {
        url: small_web.truth[url].sha256 for url in good
    }
    assert {(r["url"], r["title"], r["creator"], r["license"]) for r in said} == wanted
    with (folder / "LICENSES.csv").open(newline="") as file:
        licences = list(csv.DictReader(file))
    assert {(r["url"], r["title"], r["creator"], r["license"]) for r in licences} == wanted
    job = done.documents[-1]["job_id"]
    shown = list(system.api.pages(f"/v1/jobs/{job}/images"))
    assert {r["sha256"] for r in shown} == {r["sha256"] for r in stored}
    checks.nothing_left(system, job)
    listed = system.api.get("/v1/url-lists")["items"][0]
    system.api.delete(f"/v1/url-lists/{listed['id']}")


def test_jobs(system: System, small_web: Site, tmp_path: Path) -> None:
    """list, show, watch, download, chunks, extend, retry, cancel, delete of real jobs."""
    told = system.command_environment()
    good = [url for url, true in small_web.truth.items() if true.kind == "photo"]
    bad = [url for url, true in small_web.truth.items() if true.outcome == "corrupt"][:3]
    job = system.create_from([*bad, *good], number=3)

    watched = pixcrawler(told, "jobs", "watch", job)
    assert watched.code == 0
    assert watched.documents[-1]["status"] == "completed"
    listed = pixcrawler(told, "jobs", "list", "--status", "completed").document["items"]
    assert job in {each["job_id"] for each in listed}
    shown = pixcrawler(told, "jobs", "show", job).document
    assert shown["progress"] == system.progress(job)
    assert {k: v for k, v in shown.items() if k != "progress"} == system.job(job)

    extended = pixcrawler(told, "jobs", "extend", job, "-n", 4, "--priority", 7).document
    assert (extended["max_images"], extended["priority"], extended["round"]) == (7, 7, 2)
    assert pixcrawler(told, "jobs", "watch", job).code == 0
    downloaded = pixcrawler(told, "jobs", "download", job, "-o", tmp_path / "set").document
    assert downloaded == {"job_id": job, "dataset": str(tmp_path / "set")}
    truth = {url: small_web.truth[url] for url in [*bad, *good]}
    found = compare.compare_dataset(truth, tmp_path / "set", requested=7)
    assert found == []
    assert pixcrawler(told, "jobs", "download", job, "-o", tmp_path / "set").code == 0  # goes on

    (failed,) = pixcrawler(told, "chunks", job, "--status", "failed").document["items"]
    assert failed["index"] == 0
    assert "corrupt" in failed["error_message"]
    explained = pixcrawler(told, "jobs", "explain", job).document
    assert [why["code"] for why in explained["reasons"]] == ["finished", "chunks_failed"]
    assert "corrupt" in explained["reasons"][1]["sentence"]
    refused = pixcrawler(told, "jobs", "retry", job, "--chunk", 1)
    assert (refused.code, refused.documents) == (1, [])
    assert "has not failed" in refused.notes
    assert pixcrawler(told, "jobs", "retry", job).document["round"] == 3
    assert pixcrawler(told, "jobs", "watch", job).code == 0
    chunks = pixcrawler(told, "chunks", job).document["items"]
    assert [c["index"] for c in chunks if c["superseded"]] == [0]
    assert [c["retry_of"] for c in chunks if c["retry_of"]] == [failed["chunk_id"]]
    checks.adds_up(system, job)

    over = pixcrawler(told, "jobs", "cancel", job)
    assert (over.code, "finished" in over.notes) == (1, True)
    assert pixcrawler(told, "jobs", "delete", job).document == {"job_id": job, "deleted": True}
    gone = pixcrawler(told, "jobs", "show", job)
    assert (gone.code, gone.documents) == (1, [])
    waiting = system.create_from(good, start=False)
    [why] = pixcrawler(told, "jobs", "explain", waiting).document["reasons"]
    assert why["code"] == "not_started"
    assert pixcrawler(told, "jobs", "cancel", waiting).document["job_id"] == waiting
    assert pixcrawler(told, "jobs", "watch", waiting).code == 1
    assert system.job(waiting)["status"] == "cancelled"


def test_topics(system: System, small_web: Site) -> None:
    """list, describe, lag and tail show what is in Kafka, decoded and filtered."""
    told = system.command_environment()
    good = [url for url, true in small_web.truth.items() if true.kind == "photo"]
    job = system.create_from(good)
    system.finish(job)
    checks.nothing_left(system, job)

    listed = pixcrawler(told, "topics", "list").document["items"]
    assert {each["name"] for each in listed} == {topic.name for topic in topics.registry()}
    assert all(each["partitions"] for each in listed)
    described = pixcrawler(told, "topics", "describe", "chunk.planned").document
    assert (described["partitions"], described["readers"]) == (
        PARTITIONS,
        ["downloader", "tracker"],
    )
    assert pixcrawler(told, "topics", "describe", "nothing").code == 1
    behind = pixcrawler(told, "topics", "lag").document["items"]
    assert {each["group"] for each in behind} >= set(topics.STAGES)
    assert not any(each["lag"] for each in behind)

    tailed = pixcrawler(told, "topics", "tail", "chunk.uploaded", "--job", job).documents
    chunks = {chunk["chunk_id"]: chunk for chunk in system.chunks(job)}
    assert {each["key"] for each in tailed} == set(chunks)
    for each in tailed:
        assert each["value"]["images"] == chunks[each["key"]]["images"]
        assert each["headers"]["ce_type"] == "io.pixcrawler.chunk.uploaded.v1"
        assert each["problem"] == ""
    one = next(iter(chunks))
    words = ["topics", "tail", "chunk.planned", "--chunk", one, "--from", "beginning", "-n", 1]
    (planned,) = pixcrawler(told, *words).documents
    assert planned["value"]["chunk_id"] == one
    assert pixcrawler(told, "topics", "tail", "chunk.planned", "--from", "end").documents == []
    assert pixcrawler(told, "topics", "tail", "chunk.planned", "--from", "never").code == 2


def test_keys_capacity_and_schema(system: System) -> None:
    """A key opens what its scope says until it is revoked; capacity and schema are told."""
    told = system.command_environment()
    capacity = pixcrawler(told, "capacity").document
    assert capacity == {
        "active_chunks": 0,
        "max_chunks": 35,
        "available": 35,
        "utilization": 0.0,
        "environment": "local",
    }
    assert pixcrawler(told, "workers", "--all").document == {
        "items": [],
        "controls": [],
    }
    assert pixcrawler(told, "db", "current").document["revision"]

    made = pixcrawler(told, "keys", "create", "--owner", "ann", "--scope", "read").document
    anns = {**told, "PIXCRAWLER_API_KEY": made["api_key"]}
    assert pixcrawler(anns, "jobs", "list").document == {"items": []}
    assert pixcrawler(anns, "run", "cat", "-n", 1, "-o", "nowhere").code == 1
    listed = pixcrawler(told, "keys", "list").document["items"]
    (found,) = [key for key in listed if key["key_id"] == made["key_id"]]
    assert (found["owner"], found["scope"], found["revoked_at"]) == ("ann", "read", None)
    assert made["api_key"] not in str(listed)
    assert pixcrawler(told, "keys", "revoke", made["key_id"]).document["revoked"]
    until("the key opens nothing", lambda: pixcrawler(anns, "jobs", "list").code == 1)
    assert pixcrawler(told, "keys", "revoke", "unknown").code == 1


@pytest.mark.parametrize("words", [["status"], ["jobs", "list"], ["topics", "lag"]], ids=" ".join)
def test_nothing_runs(words: list[str]) -> None:
    """One line that says what to do, and exit code 1."""
    with reachable_folder() as data_dir:
        answer = pixcrawler({**inherited(), "PIXCRAWLER_DATA_DIR": str(data_dir)}, *words)
    assert answer.code == 1
    assert [each for each in answer.documents if each["running"]] == []
    assert len(answer.notes.splitlines()) == (words != ["status"])
