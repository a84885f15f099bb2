import hashlib
from pathlib import Path

import pytest

from pixcrawler.standalone import StandaloneError
from pixcrawler.standalone.jars import Jar, parse_lock, provide, read_lock


def test_the_lock_pins_every_jar() -> None:
    """46 jars, each with its own name and a sha256; the broker and its clients agree."""
    jars = read_lock()
    assert len(jars) == len({jar.file_name for jar in jars}) == 46
    assert all(len(jar.sha256) == 64 for jar in jars)
    versions = {jar.artifact: jar.version for jar in jars}
    assert versions["kafka_2.13"] == versions["kafka-clients"] == "4.3.0"


def test_a_lock_is_read() -> None:
    """Comments and empty lines are left out."""
    assert parse_lock("# why\n\ng.h:a-b:1.0 00ff\n") == (Jar("g.h", "a-b", "1.0", "00ff"),)


def test_a_complete_cache_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched: the group does not exist anywhere."""
    jar = Jar("nowhere.invalid", "thing", "1", hashlib.sha256(b"bytes").hexdigest())
    monkeypatch.setattr("pixcrawler.standalone.jars._install", _make_by_hand)
    directory = provide((jar,), tmp_path)
    monkeypatch.undo()
    assert provide((jar,), tmp_path) == directory
    assert (directory / "thing-1.jar").read_bytes() == b"bytes"


def _make_by_hand(jars: tuple[Jar, ...], target: Path) -> None:
    target.mkdir()
    for jar in jars:
        (target / jar.file_name).write_bytes(b"bytes")


def test_what_cannot_be_kept_is_one_line(tmp_path: Path) -> None:
    """A cache directory that cannot be made is told."""
    (tmp_path / "file").touch()
    jar = Jar("nowhere.invalid", "thing", "1", "00")
    with pytest.raises(StandaloneError, match="cannot store Kafka's jars"):
        provide((jar,), tmp_path / "file" / "cache")
