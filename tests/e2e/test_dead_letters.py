"""Dead letters as an operator meets them, in a whole system of their own."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pixcrawler.miniweb.site import Site
from pixcrawler.standalone import Program
from tests.e2e import checks, refusing
from tests.e2e.records import Raw
from tests.e2e.shared.test_command import pixcrawler
from tests.e2e.system import (
    Json,
    System,
    mixed,
    programs,
    running,
)
from tests.e2e.waiting import until
from tests.scratch import reachable_folder

TOPIC = "chunk.planned"


class Broken:
    """A system whose downloader cannot read `chunk.planned` while `file` exists."""

    def __init__(self, system: System, file: Path) -> None:
        self.system = system
        self.file = file

    def dlq(self, *words: str) -> Json:
        """`pixcrawler dlq …`; its document."""
        answer = pixcrawler(self.system.command_environment(), "dlq", *words)
        assert answer.code == 0, answer.notes
        return answer.document

    def letters(self, count: int, **wanted: object) -> list[Json]:
        """The downloader's, as soon as there are so many that look like this."""

        def found() -> list[Json]:
            items: list[Json] = self.dlq("list", "downloader")["items"]
            chosen = [each for each in items if wanted.items() <= each.items()]
            return chosen if len(chosen) == count else []

        return until(f"{count} letters that are {wanted}", found)


@pytest.fixture(scope="module")
def broken(small_web: Site) -> Iterator[Broken]:
    """One replica of every service."""
    with ExitStack() as stack:
        folder = stack.enter_context(reachable_folder())
        file = folder / "refuse"
        script = (sys.executable, "-P", str(Path(refusing.__file__)))
        refuser = Program(service="downloader", argv=(*script, "downloader", TOPIC, str(file)))

        def with_refuser(points: Path) -> tuple[Program, ...]:
            others = (each for each in programs(points) if each.service != "downloader")
            return (*others, refuser)

        system = stack.enter_context(
            running(small_web.env, {}, folder=folder, programs=with_refuser)
        )
        yield Broken(system, file)


def test_a_poison_record_comes_back_until_it_is_discarded(broken: Broken) -> None:
    """Listed, shown, replayed without anything being mended: another letter with the same id."""
    poison = Raw(TOPIC, 0, 0, b"nobody", b"{not json", (("origin", b"here"),))
    broken.system.publish([poison])
    [letter] = broken.letters(1, key="nobody")
    assert (letter["state"], letter["topic"], letter["letters"]) == ("open", TOPIC, 1)
    shown = broken.dlq("show", "downloader", "--id", letter["id"])
    assert shown["headers"] == [["origin", "here"]]
    assert broken.dlq("replay", "downloader", "--id", letter["id"])["replayed"] == [letter["id"]]
    [again] = broken.letters(1, key="nobody", letters=2)
    assert (again["id"], again["state"]) == (letter["id"], "open")
    broken.dlq("discard", "downloader", "--id", letter["id"])
    [gone] = broken.letters(1, key="nobody", state="discarded")
    assert gone["id"] == letter["id"]


def test_what_a_broken_version_refused_is_done_after_a_replay(
    broken: Broken, scattered_web: Site, tmp_path: Path
) -> None:
    """The job waits for its chunks; mended and replayed, it finishes as if nothing had been."""
    broken.file.touch()
    urls = mixed(scattered_web.truth, seed=60)[:35]
    job = broken.system.create_from(urls)
    letters = broken.letters(2, job_id=job, state="open")
    assert broken.system.progress(job)["status"] in {"pending", "running"}
    broken.file.unlink()
    replayed = broken.dlq("replay", "downloader")["replayed"]
    assert sorted(replayed) == sorted(letter["id"] for letter in letters)
    broken.system.finish(job)
    truth = {url: scattered_web.truth[url] for url in urls}
    checks.as_the_truth_says(broken.system, job, truth, tmp_path)
    checks.adds_up(broken.system, job)
    broken.letters(2, job_id=job, state="replayed")
