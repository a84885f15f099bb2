"""Long runs of the models: `python -m tests.model --schedules 100000 --seed 1`.

`--without RULE` switches a rule off and tells the shortest schedule that breaks a law; `--show
SEED` tells one schedule step by step; `--rules` lists the rules. `--model handlers` runs the real
handlers, 30 schedules a second; without it both abstract models run, 1,500 a second.
"""

import argparse
import logging
import sys
import time
from functools import partial
from multiprocessing import Pool

import structlog

from tests.model.rules import ChunkRules, JobRules, says
from tests.model.running import CHUNKS, JOBS, MODELS, Figures, Model, model_of, one, shortest, story


def tell(line: str) -> None:
    """For the person who runs this."""
    print(line)  # noqa: T201 - it is a program


def main() -> int:
    """Run what was asked for; 1 if a law was broken with every rule on."""
    asked = _arguments()
    # Handlers log what they do; here their story is told by the trace.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    if asked.rules:
        for model in MODELS:
            for name in model.rules:
                tell(f"{model.name:8} {name:24} {_says(name)}")
        return 0
    models = [m for m in MODELS if asked.model == m.name]
    if asked.model == "all":
        models = [model_of(asked.without)] if asked.without else [CHUNKS, JOBS]
    if asked.show is not None:
        tell("\n\n".join(story(model, asked.show, asked.without) for model in models))
        return 0
    bad = sum(_run(model, asked) for model in models)
    return int(bool(bad) and not asked.without)


def _says(name: str) -> str:
    """A rule in words."""
    rules = ChunkRules if name in CHUNKS.rules else JobRules
    return says(rules, name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000, help="of each model")
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule")
    parser.add_argument("--model", choices=["all", *(m.name for m in MODELS)], default="all")
    parser.add_argument("--without", default="", help="a rule to switch off", metavar="RULE")
    parser.add_argument("--show", type=int, help="tell one schedule", metavar="SEED")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--rules", action="store_true", help="list the rules")
    return parser.parse_args()


def _run(model: Model, asked: argparse.Namespace) -> int:
    """Many schedules; how many broke a law."""
    began = time.monotonic()
    figures = Figures()
    seeds = range(asked.seed, asked.seed + asked.schedules)
    with Pool(asked.processes) as pool:
        work = partial(one, name=model.name, off=asked.without)
        for outcome in pool.imap_unordered(work, seeds, chunksize=200):
            figures.add(*outcome)
    seconds = time.monotonic() - began
    tell(
        f"{model.name}: {figures.schedules} schedules from seed {asked.seed},"
        f" {figures.steps} steps, {seconds:.0f} s: {figures.bad} broke a law"
    )
    for law, times in figures.laws.most_common():
        tell(f"  {times:6} {law} (seed {figures.seeds[law]})")
    if figures.bad:
        first = shortest(model, seeds, asked.without)
        assert first is not None
        tell(story(model, first, asked.without))
    return figures.bad


if __name__ == "__main__":
    sys.exit(main())
