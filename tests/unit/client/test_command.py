"""The command's words and exit codes, called as a program calls it."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixcrawler.client import __main__ as command
from pixcrawler.common import topics
from tests.unit.client.server import ARCHIVE, JOB, FakeApi, Reply
from tests.unit.client.test_watching import progress

COMMANDS = {
    "": (
        *("run", "up", "down", "status", "chunks", "capacity", "workers", "url", "drops", "audit"),
        *("stages", "changes", "replicas", "drain", "completion"),
    ),
    "jobs": (
        *("list", "show", "explain", "rejected", "watch", "cancel", "retry", "extend", "delete"),
        *("priority", "give-up", "download"),
    ),
    "topics": ("list", "describe", "apply", "tail", "replay", "lag"),
    "dlq": ("list", "show", "replay", "discard"),
    "keys": ("create", "list", "revoke"),
    "db": ("upgrade", "current"),
    "pause": ("stage", "source"),
    "resume": ("stage", "source", "replica"),
}
LEAVES = [f"{group} {name}".strip() for group, names in COMMANDS.items() for name in names]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing runs here, nothing is set; SIGTERM is as it was afterwards."""
    before = signal.getsignal(signal.SIGTERM)
    for name in ("API_URL", "API_KEY", "KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL"):
        monkeypatch.delenv(f"PIXCRAWLER_{name}", raising=False)
    monkeypatch.setenv("PIXCRAWLER_DATA_DIR", str(tmp_path / "data"))
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def system(fake: FakeApi, monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    """An API with one finished job, found through the environment."""
    monkeypatch.setenv("PIXCRAWLER_API_URL", fake.url)
    job = {"job_id": JOB, "status": "pending", "max_images": 40, "created_at": None}
    fake.documents |= {
        "POST /v1/jobs": job,
        f"GET /v1/jobs/{JOB}": job,
        f"GET /v1/jobs/{JOB}/progress": progress("completed", valid=40),
        f"GET /v1/jobs/{JOB}/chunks": {"items": [], "next_cursor": None},
    }
    fake.serve_dataset({ARCHIVE: b"zip", "dataset.json": json.dumps({"job_id": JOB}).encode()})
    return fake


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The exit code of `pixcrawler WORDS`."""
    monkeypatch.setattr(sys, "argv", ["pixcrawler", *words])
    with pytest.raises(SystemExit) as ended:
        command.main()
    code = ended.value.code
    return code if isinstance(code, int) else 0


@pytest.mark.parametrize("words", LEAVES)
def test_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    """Every command has help with an example and --json; every option says what it does."""
    assert call(monkeypatch, *words.split(), "--help") == 0
    text = capsys.readouterr().out
    assert f"Example: pixcrawler {words}" in text
    assert "--json" in text
    assert "range>" not in text


@pytest.mark.parametrize("stage", topics.CONSUMERS)
def test_dead_letters_of_whom(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Whoever has dead letters can be named; here no broker is."""
    assert call(monkeypatch, "dlq", "list", stage) == 1


@pytest.mark.parametrize("group", COMMANDS)
def test_help_of_a_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], group: str
) -> None:
    """Whoever does not know the command yet sees all of them, and an example."""
    assert call(monkeypatch, *group.split(), "--help") == 0
    text = capsys.readouterr().out
    assert f"Example: pixcrawler {group}" in text
    assert all(f"  {name} " in text for name in COMMANDS[group])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("run panda", "'-o'"),
        ("run panda --source urls -o DIR", "--urls FILE"),
        ("run -o DIR", "say what to look for"),
        ("run panda --source foo -o DIR", "no source 'foo': choose from openverse, commons, urls"),
        ("run --urls /dev/stdin --source commons -o DIR", "say what to look for in commons"),
        ("run panda -n 0 -o DIR", "'-n'"),
        ("run panda --near-duplicates 99 -o DIR", "'--near-duplicates'"),
        ("run panda --near-duplicates -1 -o DIR", "'--near-duplicates'"),
        ("run panda --priority 11 -o DIR", "'--priority'"),
        ("run panda --format rar -o DIR", "'--format'"),
        ("run --urls /nowhere/list -o DIR", "/nowhere/list cannot be read"),
        ("run panda -o /dev/null", "is not a folder"),
        ("run panda -o /proc/x", "cannot be written to"),
        ("chunks JOB --status funny", "'--status'"),
        ("jobs list --status funny", "'--status'"),
        ("jobs extend JOB", "'-n'"),
        ("topics tail t --from nonsense", "--from takes beginning"),
        ("stages --window 0s", "--window takes 90s"),
        ("drops --since yesterday", "--since takes 90s"),
        ("topics replay job.created", "give --dry-run"),
        ("dlq list funny", "'STAGE'"),
        ("up --scale funny=2", "there is no service funny"),
        ("up --scale downloader", "--scale takes"),
        ("up --brokers 2", "--brokers: brokers must be odd"),
        ("up --port 70000", "'--port'"),
        ("keys create --owner x --scope all", "'--scope'"),
        ("bogus", "No such command"),
    ],
)
def test_wrong_usage(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: str,
    said: str,
) -> None:
    """Exit code 2, the words on stderr name what is wrong, and nothing was begun."""
    given = [str(tmp_path / "out") if word == "DIR" else word for word in words.split()]
    assert call(monkeypatch, *given) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    ["capacity", "jobs list", "jobs watch J", "chunks J", "topics lag", "keys list", "db current"],
)
def test_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    """One line that says how to get something to run; exit code 1."""
    assert call(monkeypatch, *words.split(), "--json") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "pixcrawler up" in err


def test_an_address_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host without its scheme is told as such at once."""
    monkeypatch.setenv("PIXCRAWLER_API_URL", "localhost:8000")
    assert call(monkeypatch, "capacity") == 2
    assert "PIXCRAWLER_API_URL is no http or https URL" in capsys.readouterr().err


@pytest.mark.usefixtures("system")
def test_run_for_machines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """created, progress, finished: one object a line on stdout; the dataset is in DIR."""
    assert call(monkeypatch, "run", "panda", "-n", "40", "--json", "-o", str(tmp_path / "d")) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["created", "progress", "finished"]
    assert lines[0]["job"]["job_id"] == JOB
    assert lines[2] | {"images": None} == {
        "event": "finished",
        "job_id": JOB,
        "status": "completed",
        "dataset": str(tmp_path / "d"),
        "images": None,
    }
    assert (tmp_path / "d" / ARCHIVE).read_bytes() == b"zip"


@pytest.mark.parametrize("ending", [("incomplete", 3), ("failed", 1), ("cancelled", 1)])
def test_run_tells_how_it_ended(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    system: FakeApi,
    tmp_path: Path,
    ending: tuple[str, int],
) -> None:
    """The exit code and the last lines say so, and the dataset is there all the same."""
    status, code = ending
    system.documents[f"GET /v1/jobs/{JOB}/progress"] = progress(status)
    failed = [{"index": n, "status": "failed", "error_message": "no answer"} for n in range(2)]
    system.documents[f"GET /v1/jobs/{JOB}/chunks"] = {"items": failed, "next_cursor": None}
    summary = f"{status}: 20 images of the 40 asked for; 1 of 4 chunks failed: no answer"
    assert call(monkeypatch, "run", "panda", "-o", str(tmp_path / "d")) == code
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last == [summary, f"dataset: {tmp_path / 'd'}"]
    assert call(monkeypatch, "jobs", "watch", JOB) == code
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == summary
    assert f"pixcrawler jobs download {JOB} -o DIR" in err


def test_sources_are_the_apis(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    system: FakeApi,
    tmp_path: Path,
) -> None:
    """An API may know others than this command; what it does not know is refused before anything is
    uploaded, in one line that names what it knows."""
    known = [{"name": "google"}, {"name": "urls"}]
    system.documents["GET /v1/sources"] = {"items": known, "next_cursor": None}
    (tmp_path / "list.txt").write_text("http://images.example/1.jpg\n")
    words = ["run", "x", "--urls", str(tmp_path / "list.txt"), "-o", str(tmp_path / "d")]
    assert call(monkeypatch, *words, "--source", "google", "--source", "commons") == 2
    assert capsys.readouterr().err == (
        "pixcrawler: there is no source 'commons': choose from google, urls\n"
    )
    assert [asked.method for asked in system.asked] == ["GET"]
    assert call(monkeypatch, "run", "x", "--source", "google", "-o", str(tmp_path / "d")) == 0


def test_rows_that_were_left_out(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    system: FakeApi,
    tmp_path: Path,
) -> None:
    """The first are told at once with their lines, to machines too; a command tells all of them."""
    rows = [{"line": n, "reason": "no URL", "text": ""} for n in range(1, 8)]
    rows[0] |= {"reason": "not an http or https URL", "text": "ftp://x"}
    told = {"id": "l", "rows": 1, "repeated": 0, "rejected": 7, "rejected_rows": rows}
    job = system.documents["POST /v1/jobs"] | {"url_list_id": "l"}
    system.documents |= {
        "POST /v1/url-lists": told,
        "POST /v1/jobs": job,
        f"GET /v1/jobs/{JOB}": job,
        "GET /v1/url-lists/l/rejected": [
            {"items": rows[:4], "next_cursor": "more"},
            {"items": rows[4:], "next_cursor": None},
        ],
    }
    (tmp_path / "list.txt").write_text("ftp://x\n")
    words = ["--urls", str(tmp_path / "list.txt"), "--json", "-o", str(tmp_path / "d")]
    assert call(monkeypatch, "run", *words) == 0
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[0]) == {"event": "created", "job": job, "url_list": told}
    assert "7 rows of list.txt were left out:" in err
    assert "  line 1: not an http or https URL\n  line 2: no URL\n" in err
    assert "  … and 2 more\n" in err
    assert f"pixcrawler jobs rejected {JOB}" in err
    assert call(monkeypatch, "jobs", "rejected", JOB) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "line 1: not an http or https URL: ftp://x"
    assert lines[1:] == [f"line {n}: no URL" for n in range(2, 8)]
    system.documents["GET /v1/url-lists/l/rejected"] = {"items": rows, "next_cursor": None}
    assert call(monkeypatch, "jobs", "rejected", JOB, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"items": rows}
    del job["url_list_id"]
    assert call(monkeypatch, "jobs", "rejected", JOB) == 1
    assert "without an uploaded list" in capsys.readouterr().err


def test_run_into_a_folder_that_is_in_use(
    monkeypatch: pytest.MonkeyPatch, system: FakeApi, tmp_path: Path
) -> None:
    """Another job's dataset is found before a job is made."""
    (tmp_path / "dataset.json").write_text(json.dumps({"job_id": JOB}))
    assert call(monkeypatch, "run", "panda", "-o", str(tmp_path)) == 2
    assert system.asked == []


@pytest.mark.parametrize(
    ("words", "sent"),
    [("run x -o", signal.SIGINT), ("run x -o", signal.SIGTERM), ("jobs watch", signal.SIGINT)],
)
def test_interrupted(system: FakeApi, tmp_path: Path, words: str, sent: signal.Signals) -> None:
    """Exit code 130; one is told what becomes of the job; DIR is not even made."""
    system.documents[f"GET /v1/jobs/{JOB}/progress"] = progress()
    told = [*words.split(), str(tmp_path / "d") if words.endswith("-o") else JOB]
    with subprocess.Popen(
        [sys.executable, "-m", "pixcrawler.client", *told], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr
            for line in process.stderr:
                if line.startswith("running"):
                    break
            process.send_signal(sent)
            _, rest = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert f"pixcrawler jobs watch {JOB}" in rest
    assert "Traceback" not in rest
    assert not (tmp_path / "d").exists()


def test_a_job_that_nobody_knows(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    system: FakeApi,
    tmp_path: Path,
) -> None:
    """The API's own words, exit code 1, and no folder."""
    gone = Reply(404, b'{"detail": "job x was not found"}')
    system.fail("/v1/jobs/x", gone)
    assert call(monkeypatch, "jobs", "download", "x", "-o", str(tmp_path / "d")) == 1
    assert capsys.readouterr().err == "pixcrawler: job x was not found\n"
    assert not (tmp_path / "d").exists()


def test_a_reader_that_goes_away(system: FakeApi) -> None:
    """`pixcrawler … | head` ends without a traceback."""
    job = {"job_id": JOB, "status": "running", "max_images": 1, "completed_chunks": 0}
    job |= {"total_chunks": 0, "keywords": ["x" * 200], "created_at": None}
    system.documents["GET /v1/jobs"] = {"items": [job] * 2000, "next_cursor": None}
    words = [sys.executable, "-m", "pixcrawler.client", "jobs", "list"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1
