"""What PostgreSQL is asked, as its own log says; and how many are connected to it."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.system import System

_LINE = re.compile(
    r" (pixcrawler_\w+)@\w+ LOG:  (?:execute [^:]*|statement): \s*(.*)$", re.MULTILINE
)
_VALUES = re.compile(r"\$\d+(::\w+)?(, \$\d+(::\w+)?)*")
Asking = tuple[str, str]
"""A role, and the first line of a statement: without values, and the same however many they are."""


class Log:
    """The server's log of statements, read from where the last reading ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = path.stat().st_size

    def read(self) -> Counter[Asking]:
        """What has been asked since."""
        with self._path.open("rb") as file:
            file.seek(self._end)
            text = file.read()
        self._end += len(text)
        found = _LINE.finditer(text.decode(errors="replace"))
        return Counter((match[1], _VALUES.sub("$n", match[2].strip())) for match in found)


@contextmanager
def logged(system: System) -> Iterator[Log]:
    """Have the server log every statement for as long as the context lasts."""
    system.rows("ALTER SYSTEM SET log_statement = 'all'")
    system.rows("SELECT pg_reload_conf()")
    try:
        yield Log(system.data_dir / "logs" / "postgres.log")
    finally:
        system.rows("ALTER SYSTEM RESET log_statement")
        system.rows("SELECT pg_reload_conf()")


def connections(system: System) -> Counter[str]:
    """Connections that each role has to the server now."""
    rows = system.rows(
        "SELECT usename, count(*) FROM pg_stat_activity "
        "WHERE usename LIKE 'pixcrawler%' AND backend_type = 'client backend' GROUP BY 1"
    )
    return Counter({str(role): int(number) for role, number in rows})
