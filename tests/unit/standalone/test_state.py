import os
import subprocess
import sys
from pathlib import Path

import pytest

from pixcrawler.standalone import StandaloneError, status
from pixcrawler.standalone.paths import Paths
from pixcrawler.standalone.state import (
    ComponentState,
    Kept,
    ProcessState,
    State,
    identity,
    is_locked,
    read_kept,
    read_state,
    supervisor_lock,
    write_kept,
    write_state,
)


def test_a_process_is_known_by_more_than_its_id() -> None:
    """The same id with another beginning is another process, which gets no signals of ours."""
    this = ProcessState.of_this()
    assert this.alive
    later = ProcessState(pid=this.pid, identity="another boot:1")
    assert not later.alive
    later.send(9)


def test_a_process_that_has_ended_is_gone_before_it_is_reaped() -> None:
    """A zombie counts as ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert identity(process.pid) is not None
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert identity(process.pid) is None


def test_there_is_one_supervisor(tmp_path: Path) -> None:
    """The lock has one holder, and is free again when that one is done."""
    paths = Paths(tmp_path)
    assert not is_locked(paths)
    with supervisor_lock(paths):
        assert is_locked(paths)
        with pytest.raises(StandaloneError, match="running already"), supervisor_lock(paths):
            pass
    assert not is_locked(paths)


def test_what_is_kept_and_what_runs_come_back(tmp_path: Path) -> None:
    """Both files are read as written, and only their owner may read them."""
    paths = Paths(tmp_path)
    assert (read_kept(paths), read_state(paths)) == (Kept(), None)
    kept = Kept(api_key="k", kafka_ports=((1, 2),), passwords={"api": "p"})
    component = ComponentState(
        name="api-1", service="api", address="127.0.0.1:1", process=ProcessState.of_this(),
        restarts=3,
    )  # fmt: skip
    state = State(
        phase="running", api_url="u", kafka_bootstrap_servers="b", database_url="d",
        components=(component,),
    )  # fmt: skip
    write_kept(paths, kept)
    write_state(paths, state)
    assert (read_kept(paths), read_state(paths)) == (kept, state)
    assert {path.stat().st_mode & 0o777 for path in (paths.kept, paths.state)} == {0o600}


def test_a_state_left_by_a_crash_is_recognised(tmp_path: Path) -> None:
    """Processes that are gone, or other ones now, count as down: nothing runs."""
    paths = Paths(tmp_path)
    gone = ProcessState(pid=os.getpid(), identity="before the reboot:1")
    component = ComponentState(
        name="api-1", service="api", address="127.0.0.1:1", process=gone, restarts=0
    )
    state = State(
        phase="running", api_url="u", kafka_bootstrap_servers="b", database_url="d",
        components=(component,),
    )  # fmt: skip
    write_state(paths, state)
    found = status(tmp_path)
    assert not found.running
    assert found.phase is None
    assert [(item.pid, item.healthy) for item in found.components] == [(None, False)]


def test_a_damaged_file_of_secrets_is_an_error(tmp_path: Path) -> None:
    """Passwords are not made anew behind the database's back."""
    Paths(tmp_path).kept.write_text("{")
    with pytest.raises(StandaloneError, match="damaged"):
        read_kept(Paths(tmp_path))


def test_status_of_nothing(tmp_path: Path) -> None:
    """A directory that does not exist is not running, and is not made."""
    assert not status(tmp_path / "nothing").running
    assert not (tmp_path / "nothing").exists()
