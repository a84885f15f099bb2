"""What tables are made with."""

import subprocess
import sys

PROGRAM = """if True:
    import sys
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from pixcrawler.common.events import Value
    from pixcrawler.uploader.tables import Counted, ParquetTable, counted_outcomes, load

    class Row(Value):
        outcome: str = "kept"
        bytes: int = 1
        sha256: str = ""

    load()
    before = set(sys.modules)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "outcomes.parquet"
        with ParquetTable(path, Counted._fields) as table:
            table.add([Row()])
        assert len(list(counted_outcomes(path))) == 1
    print(*sorted(set(sys.modules) - before))
    """


def test_nothing_is_imported_once_it_was_loaded() -> None:
    """Where pandas is installed, pyarrow imports it at its first table: seconds of a busy machine.

    On the event loop they looked like a pause, and the uploader stopped itself, again and again.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    heavy = {name.partition(".")[0] for name in done.stdout.split()} & {"pandas", "pyarrow"}
    assert not heavy
