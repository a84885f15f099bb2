import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from pixcrawler.client import download
from pixcrawler.client.api import Api
from pixcrawler.client.errors import FAILED, USAGE, CommandError
from tests.unit.client.server import ARCHIVE, JOB, FakeApi, Reply

OTHER = "0199a000-0000-7000-8000-00000000ffff"
BODY = bytes(range(256)) * 4000
INDEX = json.dumps({"job_id": JOB}).encode()
DATASET = {ARCHIVE: BODY, "README.md": b"# a card", "dataset.json": INDEX}


@pytest.fixture
def served(fake: FakeApi) -> FakeApi:
    fake.serve_dataset(DATASET)
    return fake


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_everything_is_there_and_the_index_comes_last(
    served: FakeApi, api: Api, tmp_path: Path
) -> None:
    """A dataset is fetched whole, its index after all else, and nothing else is left there."""
    told: list[tuple[int, int]] = []
    files = download.fetch(api, JOB, tmp_path / "new" / "dir", lambda *b: told.append(b))
    assert contents(tmp_path / "new" / "dir") == DATASET
    assert {file.path for file in files} == set(DATASET)
    assert [a.path for a in served.asked if a.path.startswith("/files/")][-1].endswith("set.json")
    assert told[-1] == (len(BODY) + 8, sum(map(len, DATASET.values())))


def test_goes_on_where_it_stopped(served: FakeApi, api: Api, tmp_path: Path) -> None:
    """Of a partial file only the rest is fetched."""
    (tmp_path / f"{ARCHIVE}.part").write_bytes(BODY[:1000])
    download.fetch(api, JOB, tmp_path)
    [asked] = served.requests(f"/files/{ARCHIVE}")
    assert asked.headers["range"] == "bytes=1000-"
    assert contents(tmp_path) == DATASET


def test_what_is_there_is_not_fetched_again(served: FakeApi, api: Api, tmp_path: Path) -> None:
    """A second fetch moves no file."""
    download.fetch(api, JOB, tmp_path)
    before = len(served.asked)
    download.fetch(api, JOB, tmp_path)
    assert [asked.path for asked in served.asked[before:]] == [f"/v1/jobs/{JOB}/dataset"]


def test_a_damaged_file_is_fetched_again(served: FakeApi, api: Api, tmp_path: Path) -> None:
    """What is there is believed by its sha256, not by its name or size."""
    (tmp_path / ARCHIVE).write_bytes(b"x" * len(BODY))
    download.fetch(api, JOB, tmp_path)
    assert contents(tmp_path) == DATASET
    assert len(served.requests(f"/files/{ARCHIVE}")) == 1


def test_a_connection_that_breaks_is_resumed(served: FakeApi, api: Api, tmp_path: Path) -> None:
    """The bytes that came before the break are not asked for again."""
    served.fail(f"/files/{ARCHIVE}", Reply(200, BODY, cut=300_000), Reply(503))
    download.fetch(api, JOB, tmp_path)
    ranges = [asked.headers.get("range") for asked in served.requests(f"/files/{ARCHIVE}")]
    assert ranges[0] is None
    assert ranges[-1] == "bytes=300000-"
    assert contents(tmp_path) == DATASET


@pytest.mark.usefixtures("served")
def test_a_part_of_another_version_is_started_anew(api: Api, tmp_path: Path) -> None:
    """A partial file that fits no more is found by the sum and fetched from its beginning."""
    (tmp_path / f"{ARCHIVE}.part").write_bytes(b"y" * 1000)
    download.fetch(api, JOB, tmp_path)
    assert contents(tmp_path) == DATASET


def test_wrong_bytes_are_refused(served: FakeApi, api: Api, tmp_path: Path) -> None:
    """A file that is not what is listed never gets its name, nor does the index."""
    served.files[ARCHIVE] = b"z" * len(BODY)
    with pytest.raises(CommandError, match="sha256"):
        download.fetch(api, JOB, tmp_path)
    assert ARCHIVE not in contents(tmp_path)
    assert "dataset.json" not in contents(tmp_path)


def test_an_expired_link_is_renewed(served: FakeApi, api: Api, tmp_path: Path) -> None:
    """A refused link is exchanged for a new one."""
    served.fail(f"/files/{ARCHIVE}", Reply(403))
    download.fetch(api, JOB, tmp_path)
    assert contents(tmp_path) == DATASET
    assert len(served.requests(f"/v1/jobs/{JOB}/dataset")) == 2


def test_a_file_that_is_refused_again_and_again(served: FakeApi, api: Api, tmp_path: Path) -> None:
    """It ends long before patience does, and says which file it was."""
    served.fail(f"/files/{ARCHIVE}", *[Reply(403)] * 20)
    with pytest.raises(CommandError, match=ARCHIVE) as caught:
        download.fetch(api, JOB, tmp_path)
    assert caught.value.code == FAILED
    assert len(served.requests(f"/files/{ARCHIVE}")) == download.NEW_LINKS + 1


def test_a_link_gets_no_key(served: FakeApi, api: Api, tmp_path: Path) -> None:
    """Links lead anywhere: the key is for the API alone."""
    download.fetch(api, JOB, tmp_path)
    for asked in served.asked:
        assert ("authorization" in asked.headers) is asked.path.startswith("/v1/")


@pytest.mark.parametrize("path", ["../escaped", "/tmp/escaped", "a/../../escaped"])
def test_no_file_leaves_the_folder(fake: FakeApi, api: Api, tmp_path: Path, path: str) -> None:
    """A server does not choose where on this machine it writes."""
    fake.serve_dataset({path: b"x"})
    with pytest.raises(CommandError, match="outside"):
        download.fetch(api, JOB, tmp_path / "in")
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("dataset.json", json.dumps({"job_id": OTHER}).encode()),
        (f"chunk_{OTHER}-00003.zip", b""),
        (f"chunk_{OTHER}-00003.tar.part", b""),
    ],
)
def test_another_jobs_folder_is_refused(
    served: FakeApi, api: Api, tmp_path: Path, name: str, body: bytes
) -> None:
    """Whole or in parts, another job's dataset is not mixed with this one: wrong usage."""
    (tmp_path / name).write_bytes(body)
    with pytest.raises(CommandError, match=OTHER) as caught:
        download.fetch(api, JOB, tmp_path)
    assert caught.value.code == USAGE
    assert contents(tmp_path) == {name: body}
    assert served.asked == []


def test_a_new_job_takes_no_folder_with_a_dataset(tmp_path: Path) -> None:
    """`run` makes a new job: any dataset there is another job's. Other files do not matter."""
    (tmp_path / "notes.txt").write_text("mine")
    download.check_folder(tmp_path, None)
    (tmp_path / "dataset.json").write_bytes(INDEX)
    with pytest.raises(CommandError):
        download.check_folder(tmp_path, None)
    download.check_folder(tmp_path, JOB)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """DIR that is a file is wrong usage."""
    (tmp_path / "f").write_text("")
    with pytest.raises(CommandError, match="is not a folder") as caught:
        download.check_folder(tmp_path / "f", None)
    assert caught.value.code == USAGE


@pytest.mark.parametrize("folder", ["/proc/pixcrawler", "/dev/null/x"])
def test_a_folder_that_cannot_be_written_to(folder: str) -> None:
    """It is found before any work is done for it."""
    with pytest.raises(CommandError, match="cannot be written") as caught:
        download.check_writable(Path(folder))
    assert caught.value.code == USAGE


def test_looking_whether_one_can_write_leaves_nothing(tmp_path: Path) -> None:
    """Neither a file in a folder that is there nor a folder that was not."""
    download.check_writable(tmp_path)
    download.check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.usefixtures("served")
def test_a_full_disk_is_one_line(api: Api, tmp_path: Path) -> None:
    """What the disk says is told in one line, with the exit code of a failure."""
    (tmp_path / f"{ARCHIVE}.part").symlink_to("/dev/full")
    with pytest.raises(CommandError, match=os.strerror(errno.ENOSPC)) as caught:
        download.fetch(api, JOB, tmp_path)
    assert caught.value.code == FAILED


def test_nobody_waits_for_the_other_files(served: FakeApi, tmp_path: Path) -> None:
    """One file that cannot be had ends the others' waiting, in their threads too."""
    more = {f"f{n}.bin": hashlib.sha256(str(n).encode()).digest() for n in range(4)}
    served.serve_dataset({**more, "dataset.json": INDEX})
    served.fail("/files/f0.bin", *[Reply(403)] * 20)
    for name in list(more)[1:]:
        served.fail(f"/files/{name}", *[Reply(503)] * 10_000)
    with (
        Api(served.url, "", patience_s=120) as api,
        pytest.raises(CommandError, match=r"f0\.bin is refused"),
    ):
        download.fetch(api, JOB, tmp_path)
    assert api.stopped
