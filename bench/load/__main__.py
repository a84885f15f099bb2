"""`make load`: 50 and 500 users of the API at a time, and how long its answers take.

    python -m bench.load [--users 50 500] [--seconds 90] [--think 10] [--errors 0.1]

Starts standalone mode and a miniature web, makes a key for each user, and lets them at it (see
`bench.load.users`). Prints requests, errors and percentiles of every route; exit code 1 if more
than `--errors` percent of the requests went wrong. Everything, the users too, is on this machine.
"""

import argparse
import asyncio
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.load.users import ROUTES, Measured, use
from pixcrawler import standalone
from pixcrawler.common import keys
from pixcrawler.common.db.engine import connect
from pixcrawler.miniweb import plans, site
from pixcrawler.standalone import UpOptions

IMAGES = 3
"""In each job: it is the API that is looked at, not the pipeline."""
PHOTOS = 60
SETTINGS = {"PIXCRAWLER_RESOURCE_RELEASE_INTERVAL_S": "1"}
"""One chunk a second is let through. The pipeline would take all of the machine as long as there
are chunks that wait, and it is the API that is looked at; so most users see a queue."""
RAMP = 0.5
"""The part of the time in which the users arrive."""

console = Console(highlight=False, width=110)


def main() -> int:
    """Run it; the exit code."""
    options = _options()
    _open_many_files()
    with (
        site.running(plans.good_plan(PHOTOS)) as web,
        _room() as data_dir,
        standalone.temporary(
            UpOptions(data_dir=data_dir, port=0), environment={**os.environ, **web.env, **SETTINGS}
        ) as status,
    ):
        urls = [url for url, true in web.truth.items() if true.outcome == "kept"][:IMAGES]
        owned = asyncio.run(_keys(str(status.database_url), max(options.users)))
        shares = [
            _stage(str(status.api_url), owned, urls, users, options) for users in options.users
        ]
    return int(any(100 * share > options.errors for share in shares))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=[50, 500])
    parser.add_argument("--seconds", type=float, default=90.0, help="for each number of users")
    parser.add_argument(
        "--think", type=float, default=10.0, help="seconds between answer and request, in the mean"
    )
    parser.add_argument(
        "--errors", type=float, default=0.1, help="percent of requests that may go wrong"
    )
    return parser.parse_args()


def _open_many_files() -> None:
    """Each user takes two connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _room() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pixcrawler-load-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user where we are root
        yield Path(folder)


async def _keys(database_url: str, number: int) -> list[str]:
    """A key for each user, who is an owner of their own."""
    engine = connect(database_url)
    try:
        async with engine.begin() as connection:
            made = [await keys.create(connection, f"user-{n}", "write") for n in range(number)]
    finally:
        await engine.dispose()
    return [one.text for one in made]


def _stage(
    url: str, owned: Sequence[str], urls: Sequence[str], users: int, options: argparse.Namespace
) -> float:
    """So many users for the time; prints what they saw, answers the share of errors."""
    ends = time.monotonic() + options.seconds
    measured, seconds = asyncio.run(
        use(
            url,
            owned,
            urls,
            users=users,
            over=lambda _: time.monotonic() >= ends,
            think_s=options.think,
            ramp_s=RAMP * options.seconds,
        )
    )
    report(measured, users, seconds)
    return measured.error_share


def report(measured: Measured, users: int, seconds: float) -> None:
    """A table of the routes, and what went wrong in words."""
    table = Table(title=f"{users} users, {seconds:.0f} s", title_justify="left")
    table.add_column("route")
    for name in ("requests", "per s", "errors", "p50 ms", "p95 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for route in ROUTES:
        answered, failed = len(measured.seconds[route]), measured.errors[route].total()
        times = (f"{1000 * measured.percentile(route, p):.0f}" for p in (0.5, 0.95, 0.99))
        count = answered + failed
        table.add_row(route, f"{count:,}", f"{count / seconds:.1f}", str(failed), *times)
    console.print(table)
    console.print(
        f"{measured.requests:,} requests, {measured.requests / seconds:.1f} a second; errors "
        f"{100 * measured.error_share:.2f} %; {measured.finished:,} jobs followed to their end"
    )
    for route, errors in measured.errors.items():
        for said, number in errors.most_common(5):
            console.print(f"  {number} × {route}: {said}", markup=False)  # noqa: RUF001 - times


if __name__ == "__main__":
    sys.exit(main())
