"""`make demo`: the main job on real photographs from a miniature web, compared with its truth.

Serves the miniature web, runs `pixcrawler run` against it (which starts everything and stops it
again), and compares what every URL became with what is true. Exit code 0: no difference.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from pixcrawler.miniweb import compare, names, plans, site
from pixcrawler.miniweb.site import Site

SEED = 20261123
LEAST_URLS, LEAST_KEPT, LEAST_ARCHIVES = 600, 300, 2

console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Run the demo; the exit code."""
    options = _options()
    if any(options.output.glob("*")):
        console.print(f"{options.output} is not empty: remove it, or choose another (--output DIR)")
        return 2
    plan = plans.demo_plan(names.private_names())
    with site.running(plan, SEED) as web:
        console.print(
            f"a miniature web of {len(web.truth)} URLs at {web.address}: "
            f"{web.supply} images can be kept, the others show the faults of the real web"
        )
        code = _run(web, options.output)
        if code:
            return code
        return _compare(web, options.output)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=Path("demo-dataset"), help="where the dataset goes"
    )
    return parser.parse_args()


def _run(web: Site, folder: Path) -> int:
    """The job, by the command that users use."""
    command = ["run", *web.keywords, "-n", str(web.supply), "-o", str(folder)]
    console.print("$ pixcrawler " + " ".join(f'"{w}"' if " " in w else w for w in command))
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pixcrawler-demo-", dir=_room()) as data_dir:
        Path(data_dir).chmod(0o755)  # PostgreSQL runs as another user where we are root
        code = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "pixcrawler.client", *command],
            env=_environment(web.env, data_dir),
            check=False,
        ).returncode
    console.print(f"took {time.monotonic() - begun:.1f} s, start and stop of everything included")
    return code


def _room() -> str:
    """A folder for temporary files that every account may enter."""
    return os.environ.get("TMPDIR", "/tmp")  # noqa: S108 - a fresh folder is made in there


def _environment(settings: Mapping[str, str], data_dir: str) -> dict[str, str]:
    """Ours without what would lead the command elsewhere, and the miniature web's settings."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PIXCRAWLER_")}
    cache = {k: v for k, v in os.environ.items() if k == "PIXCRAWLER_CACHE_DIR"}
    return {
        **inherited,
        **cache,
        **settings,
        "PIXCRAWLER_DATA_DIR": data_dir,
        "PIXCRAWLER_RESOURCE_CHUNK_SIZE_IMAGES": "250",
    }


def _compare(web: Site, folder: Path) -> int:
    """Hold the dataset against the truth."""
    differences = compare.compare_dataset(web.truth, folder, requested=web.supply)
    trespasses = web.state()["trespasses"]
    archives = len(list(folder.glob("chunk_*.zip")))
    for line in differences[:20]:
        console.print(line, markup=False)
    for line in trespasses:
        console.print(f"reached a private address: {line}", markup=False)
    enough = len(web.truth) >= LEAST_URLS and web.supply >= LEAST_KEPT
    if differences or trespasses or not enough or archives < LEAST_ARCHIVES:
        console.print(f"{len(differences)} differences from the truth, {archives} archives")
        return 1
    console.print(
        f"as the truth says: the outcome of each of {len(web.truth)} URLs; bytes, licence and "
        f"creator of each of {web.supply} images, in {archives} archives"
    )
    console.print(f"dataset: {folder.resolve()}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
