"""Random times."""

import math
import random
from collections.abc import Sequence

from bench.simulation.model import Draw


def always(seconds: float) -> Draw:
    """The same for every chunk."""
    return lambda _: seconds


def exponential(mean_s: float) -> Draw:
    """Memoryless, as the textbooks' queues have it."""
    return lambda rng: rng.expovariate(1 / mean_s)


def like(measured: Sequence[float]) -> Draw:
    """As it was measured: one of these, each as likely as the other."""
    values = list(measured)
    return lambda rng: rng.choice(values)


def skewed(mean_s: float, spread: float = 0.5) -> Draw:
    """Log-normal: most are a little quicker than the mean, some much slower."""
    middle = math.log(mean_s) - spread * spread / 2
    return lambda rng: rng.lognormvariate(middle, spread)


def poisson(rate: float, until_s: float, seed: int = 2, *, at_once: int = 1) -> list[float]:
    """Arrivals of groups of chunks; `rate` counts chunks a second."""
    rng, now, found = random.Random(seed), 0.0, []
    while (now := now + rng.expovariate(rate / at_once)) < until_s:
        found += [now] * at_once
    return found
