"""Jobs over their rounds: exactly the number, more of it, cancelled, deleted."""

from collections import Counter
from pathlib import Path

import pytest

from pixcrawler.client.errors import ApiError
from pixcrawler.miniweb.site import Site
from tests.e2e import checks
from tests.e2e.records import EVENTS, shuffled
from tests.e2e.system import CHUNK_SIZE, System, mixed
from tests.e2e.waiting import until

TABLES = ("job_chunks", "job_rounds", "image_claims", "chunk_claims", "job_progress")


def test_duplicates_in_many_chunks_at_once_are_kept_once(
    system: System, scattered_web: Site, tmp_path: Path
) -> None:
    """Of every group of equal or near-equal images one is kept, in whichever chunks they are."""
    job = system.create_from(mixed(scattered_web.truth))
    system.finish(job)
    progress = checks.all_well(system, job, scattered_web.truth, tmp_path)
    assert progress["status"] == "incomplete"
    assert progress["images"]["valid"] == scattered_web.supply
    assert progress["total_chunks"] > 5


def test_exactly_the_number_is_kept_in_every_round(
    system: System, scattered_web: Site, tmp_path: Path
) -> None:
    """Fewer than there are, then more, then more than there are: each round keeps what it can."""
    first, more = scattered_web.supply // 2, 13
    job = system.create_from(mixed(scattered_web.truth, seed=2), number=first)
    assert system.finish(job)["status"] == "completed"
    checks.as_the_truth_says(system, job, scattered_web.truth, tmp_path / "1", requested=first)
    checks.adds_up(system, job)
    before = system.archives(job)

    grown = system.api.post(f"/v1/jobs/{job}/chunks", params={"max_images": more})
    assert (grown["round"], grown["max_images"]) == (2, first + more)
    assert system.progress(job)["progress"] < 100
    assert system.finish(job)["status"] == "completed"
    checks.as_the_truth_says(
        system, job, scattered_web.truth, tmp_path / "2", requested=first + more
    )
    checks.adds_up(system, job)
    assert before.items() <= system.archives(job).items()

    system.api.post(f"/v1/jobs/{job}/chunks", params={"max_images": 1000})
    assert system.finish(job)["status"] == "incomplete"
    progress = checks.all_well(system, job, scattered_web.truth, tmp_path / "3", requested=None)
    assert progress["images"]["valid"] == scattered_web.supply


def test_a_refill_makes_up_for_what_was_dropped(
    system: System, small_web: Site, tmp_path: Path
) -> None:
    """Chunks that yield less than the number are followed by others, until it is reached."""
    good = [url for url, true in small_web.truth.items() if true.kind == "photo"]
    bad = [url for url, true in small_web.truth.items() if true.outcome in {"corrupt", "not_image"}]
    urls = [*bad[:CHUNK_SIZE], *good]
    truth = {url: small_web.truth[url] for url in urls}
    job = system.create_from(urls, number=CHUNK_SIZE)
    assert system.finish(job)["status"] == "completed"
    checks.as_the_truth_says(system, job, truth, tmp_path, requested=CHUNK_SIZE)
    checks.nothing_left(system, job)
    statuses = Counter(chunk["status"] for chunk in system.chunks(job))
    assert statuses["failed"] == 1  # nothing in the first one was an image
    with pytest.raises(ApiError, match="finished"):
        system.api.post(f"/v1/jobs/{job}/cancel")


def test_a_cancelled_job_keeps_what_was_uploaded(
    system: System, scattered_web: Site, tmp_path: Path
) -> None:
    """It ends `cancelled`, with an index of what was ready, and leaves nothing else behind."""
    job = system.create_from(mixed(scattered_web.truth, seed=3))
    system.wait_ended(1, job)
    system.api.post(f"/v1/jobs/{job}/cancel")
    assert system.finish(job)["status"] == "cancelled"
    checks.nothing_left(system, job)
    checks.adds_up(system, job)

    folder = system.fetch(job, tmp_path)
    done = [chunk for chunk in system.chunks(job) if chunk["status"] == "completed"]
    lost = [chunk for chunk in system.chunks(job) if chunk["status"] == "failed"]
    assert done
    assert {chunk["error_message"] for chunk in lost} <= {"cancelled"}
    archives = {Path(chunk["archive"]["name"]).name for chunk in done if chunk["archive"]}
    assert {path.name for path in folder.glob("chunk_*")} == archives
    kept = system.progress(job)["images"]["valid"]
    assert kept == sum(chunk["images"]["valid"] for chunk in done)
    for refused in ("retry", "chunks"):
        with pytest.raises(ApiError, match="cancelled"):
            system.api.post(f"/v1/jobs/{job}/{refused}", params={"max_images": 1})


@pytest.mark.parametrize("over", [False, True], ids=["in the middle", "finished"])
def test_a_deleted_job_leaves_nothing(system: System, scattered_web: Site, *, over: bool) -> None:
    """404 at once; soon no row of it, no object, no progress, also when all is told once more."""
    job = system.create_from(mixed(scattered_web.truth, seed=4))
    if over:
        system.finish(job)
    else:
        system.wait_ended(1, job)
    system.api.delete(f"/v1/jobs/{job}")
    assert system.missing(job)
    assert job not in {each["job_id"] for each in system.api.pages("/v1/jobs")}

    def left() -> dict[str, int]:
        rows = {table: system.count(table, job) for table in TABLES}
        blobs = {
            prefix: len(system.names(f"{prefix}/{job}/"))
            for prefix in ("jobs", "staging", "datasets")
        }
        return {name: number for name, number in (rows | blobs).items() if number}

    until("nothing of the job is left", lambda: not left(), about=left)
    checks.nothing_left(system, job)
    system.publish(shuffled(system.read(EVENTS, job)))
    checks.nothing_left(system, job)
    until("nothing of the job is left again", lambda: not left(), about=left)
    finished = {record.event_id for record in system.read(["job.finished"], job)}
    assert finished == ({f"{job}:1"} if over else set())
