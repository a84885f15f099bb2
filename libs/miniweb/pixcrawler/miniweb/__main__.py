"""Serves a miniature web until Ctrl-C and prints the settings to use with it.

python -m pixcrawler.miniweb --plan demo --seed 1 --port 9300
"""

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from pixcrawler.miniweb import plans
from pixcrawler.miniweb import truth as truths
from pixcrawler.miniweb.names import private_names
from pixcrawler.miniweb.plans import Plan
from pixcrawler.miniweb.site import Site, hosting


def plan_named(text: str) -> Plan:
    """`demo`, `small`, `good:500`, `tiny:5`, or a plan in JSON.

    Raises:
        ValueError: it is none of these.
    """
    name, _, number = text.partition(":")
    if name in plans.NAMED:
        return plans.NAMED[name](private_names())
    if name in plans.NUMBERED and number.isdigit():
        return plans.NUMBERED[name](int(number))
    if text.startswith("{"):
        return Plan.from_json(text)
    raise ValueError(f"no such plan: {text}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m pixcrawler.miniweb", description=__doc__)
    parser.add_argument(
        "--plan", type=plan_named, default="demo", help="demo, small, good:N, tiny:N"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=0, help="the first of ten or so; 0: any")
    parser.add_argument(
        "--truth", type=Path, help="writes the truth about every URL there, as JSON"
    )
    parser.add_argument(
        "--child", action="store_true", help="one line of JSON; ends with its stdin"
    )
    return parser.parse_args()


async def serve(options: argparse.Namespace) -> None:
    """Serves until cancelled, or as a child until its parent is gone."""
    async with hosting(options.plan, options.seed, options.port) as (site, _):
        if options.truth:
            options.truth.write_text(truths.dump(site.truth))
        if options.child:
            said = {"address": site.address, "env": dict(site.env)}
            sys.stdout.write(f"{json.dumps(said)}\n")
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.read)
        else:
            sys.stdout.write("".join(f"{line}\n" for line in introduction(site)))
            sys.stdout.flush()
            await asyncio.Event().wait()


def introduction(site: Site) -> Iterator[str]:
    """What a person needs to know."""
    yield f"# {len(site.truth)} URLs, {site.supply} images to keep; Ctrl-C ends it"
    yield f"# keywords: {', '.join(site.keywords)}"
    for name, value in site.env.items():
        yield f"export {name}={value}"


def main() -> int:
    """Returns the exit code."""
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve(arguments()))
    except OSError as error:
        sys.stderr.write(f"the miniature web cannot start: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
