"""Running schedules: many, until one breaks a law, and the shortest of those for people to read."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import NamedTuple

from tests.model.handlers.laws import run_handlers
from tests.model.handlers.world import OFF
from tests.model.laws import run_chunks, run_jobs
from tests.model.rules import ChunkRules, JobRules, names_of, without
from tests.model.world import World


class Model(NamedTuple):
    """A model: its name, its rules, and how one of its schedules is run."""

    name: str
    rules: tuple[str, ...]
    run: Callable[..., World]

    def schedule(self, seed: int, off: str = "", *, traced: bool = False) -> World:
        """One schedule, with one rule off if one is named."""
        return self.run(seed, off, traced=traced)


def _chunks(seed: int, off: str, *, traced: bool) -> World:
    rules = ChunkRules()
    return run_chunks(seed, without(rules, off) if off else rules, traced=traced)


def _jobs(seed: int, off: str, *, traced: bool) -> World:
    rules = JobRules()
    return run_jobs(seed, without(rules, off) if off else rules, traced=traced)


CHUNKS = Model("chunks", names_of(ChunkRules), _chunks)
JOBS = Model("jobs", names_of(JobRules), _jobs)
HANDLERS = Model("handlers", OFF, run_handlers)
MODELS = (CHUNKS, JOBS, HANDLERS)


def model_of(rule: str) -> Model:
    """The first model that has a rule of this name."""
    return next(model for model in MODELS if rule in model.rules)


@dataclass
class Figures:
    """What many schedules gave: how many broke a law, which laws, the first seeds."""

    schedules: int = 0
    steps: int = 0
    bad: int = 0
    laws: Counter[str] = field(default_factory=Counter)
    seeds: dict[str, int] = field(default_factory=dict)

    def add(self, seed: int, broken: Iterable[str], steps: int) -> None:
        """Count a schedule."""
        self.schedules += 1
        self.steps += steps
        laws = set(broken)
        self.bad += bool(laws)
        self.laws.update(laws)
        for law in laws:
            self.seeds.setdefault(law, seed)


class Outcome(NamedTuple):
    """A schedule's seed, the laws that it broke, and its steps."""

    seed: int
    broken: frozenset[str]
    steps: int


def one(seed: int, *, name: str, off: str = "") -> Outcome:
    """A schedule, run where nobody can see its world."""
    model = next(model for model in MODELS if model.name == name)
    world = model.schedule(seed, off)
    return Outcome(seed, frozenset(world.broken), world.steps_taken)


def outcomes(name: str, seeds: Iterable[int], off: str = "") -> Iterator[Outcome]:
    """Schedules, one after another."""
    return map(partial(one, name=name, off=off), seeds)


def broken(model: Model, seeds: Iterable[int], off: str = "") -> Iterator[World]:
    """The schedules that broke a law."""
    worlds = (model.schedule(seed, off) for seed in seeds)
    return (world for world in worlds if world.broken)


def story(model: Model, seed: int, off: str = "") -> str:
    """A schedule step by step, as a person reads it."""
    world = model.schedule(seed, off, traced=True)
    title = f"{model.name}, seed {seed}{f', without {off}' if off else ''}: {sorted(world.broken)}"
    return "\n".join([title, *world.trace])


def shortest(model: Model, seeds: Iterable[int], off: str = "", among: int = 20) -> int | None:
    """Of the first schedules that break a law the seed of the one with the fewest steps."""
    some = islice((o for o in outcomes(model.name, seeds, off) if o.broken), among)
    found = min(some, key=lambda outcome: outcome.steps, default=None)
    return None if found is None else found.seed
