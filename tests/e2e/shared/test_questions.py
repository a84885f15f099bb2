"""The ten questions of `docs/operations.md`, each with its fault in place, by its one command."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pixcrawler.miniweb.site import Site
from tests.e2e.records import Raw
from tests.e2e.shared.test_command import pixcrawler
from tests.e2e.shared.test_pauses import paused
from tests.e2e.system import CHUNK_SIZE, Json, System
from tests.e2e.waiting import until

WINDOW = "5s"
STANDS_STILL_S = 10.0


@dataclass(frozen=True)
class Faulty:
    """A system whose uploader does nothing, with a job that is stuck there, and a dead letter.

    Attributes:
        kept: A URL that an earlier job keeps.
        bad: One that it has dropped as corrupt.
        done: That job.
        stuck: The job that is stuck.
    """

    system: System
    kept: str
    bad: str
    done: str
    stuck: str

    def ask(self, *words: object) -> Json:
        """What the command answers."""
        answer = pixcrawler(self.system.command_environment(), *words)
        assert answer.code == 0, answer.notes
        return answer.document


@pytest.fixture(scope="module")
def faulty(shared_system: System, small_web: Site) -> Iterator[Faulty]:
    """The faults, in the order in which they can be told apart."""
    system = shared_system
    system.wait_healthy()
    good = [url for url, true in small_web.truth.items() if true.kind == "photo"]
    bad = next(url for url, true in small_web.truth.items() if true.outcome == "corrupt")
    done = system.create_from([*good[:3], bad], number=4)
    system.finish(done)
    until("all of it is committed", lambda: not +system.lag(), about=system.lag)
    with paused(system.pids("uploader")):
        stuck = system.create_from(good[:CHUNK_SIZE])
        system.publish([Raw("chunk.planned", 0, 0, b"nobody", b"{not json", ())])
        until("it is there", lambda: ("chunk_in_stage", "uploader") in why(system, stuck))
        yield Faulty(system, good[0], bad, done, stuck)
    system.finish(stuck)
    system.wait_healthy()
    for stage in ("downloader", "tracker"):
        until(f"{stage} has its letter", lambda s=stage: system.read([f"{s}.dlq"]))  # type: ignore[misc]
        system.forget([f"{stage}.dlq"])


def why(system: System, job: str) -> list[tuple[str, str]]:
    """What the API says of a job that is not done: codes and stages."""
    told = system.api.get(f"/v1/jobs/{job}/explanation")["reasons"]
    return [(each["code"], each["stage"]) for each in told]


def test_1_why_is_a_job_not_done(faulty: Faulty) -> None:
    """Its chunk is in the uploader."""
    told = faulty.ask("jobs", "explain", faulty.stuck)["reasons"]
    assert ("chunk_in_stage", "uploader") in [(each["code"], each["stage"]) for each in told]


def test_2_and_8_who_has_a_chunk_and_is_anything_stuck(faulty: Faulty) -> None:
    """The chunk is before the uploader, and nobody has told of it."""
    (held,) = faulty.ask("workers", "--all")["items"]
    assert (held["job_id"], held["stage"], held["worker"]) == (faulty.stuck, "uploader", "")


def test_3_which_stage_is_behind(faulty: Faulty) -> None:
    """The uploader: it stands still, its replicas are gone; nobody else is behind."""

    def told() -> dict[str, Json]:
        return {each["stage"]: each for each in faulty.ask("stages", "--window", WINDOW)["items"]}

    def waiting() -> Json | None:
        stages = told()
        chunks = {each["topic"]: each for each in stages["uploader"]["topics"]}["chunk.validated"]
        long = chunks["lag"] == 1 and chunks["oldest_s"] >= STANDS_STILL_S
        return stages if long and not stages["uploader"]["replicas"] else None

    stages = until("its replicas are gone", waiting, about=told)
    assert stages is not None
    behind = stages.pop("uploader")
    assert (behind["state"], behind["go_per_s"]) == ("standing_still", 0.0)
    assert behind["caught_up_in_s"] is None
    assert all(each["replicas"] for each in stages.values())
    assert all(stages[name]["lag"] == 0 for name in ("downloader", "validator"))


def test_4_what_happened_to_a_url(faulty: Faulty) -> None:
    """Kept by one job, with the name of its image, and on its way in the other; or corrupt."""
    # Other tests' jobs may have had it as well.
    found = {each["job_id"]: each for each in faulty.ask("url", faulty.kept)["items"]}
    stuck, kept = found[faulty.stuck], found[faulty.done]
    assert (stuck["chunk_status"], kept["outcome"]) == ("processing", "kept")
    assert kept["archive"] == f"chunk_{kept['chunk_id']}.zip"
    assert kept["file_name"] == f"images/{kept['sha256'][:20]}.jpg"
    (bad,) = faulty.ask("url", faulty.bad, "--job", faulty.done)["items"]
    assert bad["outcome"] == "corrupt"
    assert bad["detail"]


def test_5_what_is_in_a_topic(faulty: Faulty) -> None:
    """The event that nobody has taken up."""
    words = ("topics", "tail", "chunk.validated", "--job", faulty.stuck, "--from", "beginning")
    event = faulty.ask(*words)
    assert event["value"]["chunk_id"] == f"{faulty.stuck}-00000"


def test_6_what_was_dropped_most(faulty: Faulty) -> None:
    """Outcomes with their reasons and hosts, over all jobs."""
    told = faulty.ask("drops", "--since", "1h", "--all")
    corrupt = next(each for each in told["outcomes"] if each["outcome"] == "corrupt")
    assert corrupt["count"] >= 1
    assert corrupt["reasons"]
    assert sum(each["count"] for each in told["outcomes"]) == told["dropped"]
    assert told["dropped"] + told["kept"] == told["candidates"]


def test_7_what_would_a_replay_do(faulty: Faulty) -> None:
    """The uploader would pack the stuck chunk, and only answer for the one that is done; the dead
    letter would die again. Nothing of it happens."""
    system = faulty.system
    before = system.objects(f"jobs/{faulty.stuck}"), system.chunks(faulty.stuck)

    def of(topic: str, job: str) -> dict[str, tuple[str, str]]:
        (record,) = faulty.ask("topics", "replay", topic, "--job", job, "--dry-run")["items"]
        return {each["stage"]: (each["verdict"], each["detail"]) for each in record["stages"]}

    archive = f"create datasets/{faulty.stuck}/chunk_{faulty.stuck}-00000.zip"
    assert of("chunk.validated", faulty.stuck)["uploader"] == ("taken", archive)
    assert of("chunk.validated", faulty.done)["uploader"][0] == "answered"
    assert of("chunk.planned", faulty.done)["downloader"][0] == "ignored"
    assert of("chunk.uploaded", faulty.done)["planner"][0] == "ignored"
    assert (system.objects(f"jobs/{faulty.stuck}"), system.chunks(faulty.stuck)) == before
    assert system.names(f"datasets/{faulty.stuck}/") == []

    def letters() -> list[Json]:
        return list(faulty.ask("dlq", "list", "downloader")["items"])

    until("the letter is there", letters)
    (letter,) = letters()
    words = ("dlq", "replay", "downloader", "--id", letter["id"], "--dry-run")
    (record,) = faulty.ask(*words)["items"]
    assert {each["verdict"] for each in record["stages"]} == {"dead_letter"}
    assert letters() == [letter]


def test_9_who_uses_the_capacity(faulty: Faulty) -> None:
    """The owner of the stuck job has its slot."""
    told = faulty.ask("capacity", "--by-owner")
    (share,) = [each for each in told["owners"] if each["active_chunks"]]
    assert (share["active_chunks"], share["open_jobs"]) == (told["active_chunks"], 1)
    assert share["share"] == round(100 / told["max_chunks"], 1)


def test_10_what_changed(faulty: Faulty) -> None:
    """Jobs, chunks, the dead letter, and what people did."""
    told = faulty.ask("changes", "--since", "1h", "--all")
    assert told["jobs"]["created"] >= 2
    assert told["jobs"]["ended"]["incomplete"] >= 1
    assert told["chunks"]["completed"] >= 1
    assert told["dead_letters"]["downloader"] == 1
    faulty.ask("jobs", "extend", faulty.done, "-n", 1, "--reason", "to see it written down")

    again = faulty.ask("changes", "--since", "1h", "--all")
    assert again["acts"]["job.extend"] == told["acts"].get("job.extend", 0) + 1
    assert again["lines"][0]["reason"] == "to see it written down"
