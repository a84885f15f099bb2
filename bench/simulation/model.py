"""The pipeline as queues: slots, stages with partitions, replicas and cores, KEDA beside them.

Times are seconds, work is chunks. What is modelled is what decides about throughput and waiting:

- admission: a chunk waits until one of the slots is free, releases are staggered;
- a stage: records lie in partitions, each owned by one replica, which has a few chunks in hand;
- a chunk in hand first waits (for hosts, the store, acknowledgements), then computes, sharing the
  cores that its replica has with the other chunks there;
- KEDA asks for the lag every so often, and the autoscaler follows within its rules.

What is not: rebalances take no time, nothing fails, every chunk has as many candidates as another.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import simpy

Draw = Callable[[random.Random], float]
"""Seconds, drawn anew for each chunk."""

Steps = Generator[simpy.Event, Any, None]

QUANTUM_S = 0.02
"""So long a chunk has a core before the next one does."""


@dataclass(frozen=True)
class Work:
    """What a stage does with a chunk: seconds that it waits, seconds that it computes."""

    stage: str
    wait_s: Draw
    cpu_s: Draw


@dataclass(frozen=True)
class Scaling:
    """What KEDA and the autoscaler were told of a stage.

    Attributes:
        least: Replicas at least.
        most: Replicas at most.
        lag_threshold: Records of lag a replica.
        pending_threshold: Waiting chunks a replica; None where they do not matter.
        poll_s: How often KEDA looks.
        up_percent: By how much the replicas may grow within `up_s`.
        up_s: Likewise.
        down_pods: By how many they may shrink within `down_s`.
        down_s: Likewise.
        calm_s: The most replicas wanted within so many seconds are what is kept.
        start_s: From the decision until a new replica has its partitions.
    """

    least: int
    most: int
    lag_threshold: int
    pending_threshold: int | None = None
    poll_s: float = 15.0
    up_percent: int = 100
    up_s: float = 30.0
    down_pods: int = 1
    down_s: float = 60.0
    calm_s: float = 300.0
    start_s: float = 20.0


@dataclass(frozen=True)
class Plan:
    """A system.

    Attributes:
        works: The stages in the order in which chunks pass them.
        replicas: Of each, at the beginning.
        in_flight: Chunks that a replica has in hand at most.
        partitions: Of every topic.
        capacity: Slots.
        release_s: Seconds between two admissions.
        cores: Of each replica; None: all replicas share `machine_cores`.
        machine_cores: Likewise.
        scaling: By stage; a stage without keeps its replicas.
    """

    works: tuple[Work, ...]
    replicas: dict[str, int]
    in_flight: int = 4
    partitions: int = 12
    capacity: int = 35
    release_s: float = 0.1
    cores: int | None = 1
    machine_cores: int = 2
    scaling: dict[str, Scaling] = field(default_factory=dict)


class Sample(NamedTuple):
    """How it stood at a moment: chunks that wait for a slot, and by stage lag and replicas."""

    at: float
    pending: int
    lag: dict[str, int]
    replicas: dict[str, int]


@dataclass
class Chunk:
    """One chunk: when it was asked for, admitted, and done with each stage."""

    partition: int
    asked: float
    admitted: float = 0.0
    done: dict[str, float] = field(default_factory=dict)

    @property
    def ended(self) -> float:
        """When the last stage was done with it."""
        return max(self.done.values())


@dataclass
class Outcome:
    """What happened."""

    chunks: list[Chunk]
    samples: list[Sample]

    @property
    def ended(self) -> list[Chunk]:
        """Chunks that went through all of it."""
        return [chunk for chunk in self.chunks if chunk.done]

    def latencies(self) -> list[float]:
        """Seconds from the request to the last stage, sorted."""
        return sorted(chunk.ended - chunk.asked for chunk in self.ended)


class _Replica:
    def __init__(self, cpu: simpy.Resource) -> None:
        self.cpu = cpu
        self.in_hand = 0


class Stage:
    """A consumer group: partitions, replicas that own them, chunks in hand."""

    def __init__(
        self, env: simpy.Environment, plan: Plan, work: Work, rng: random.Random, cpu: Any
    ) -> None:
        self._env, self._plan, self._work, self._rng = env, plan, work, rng
        self._shared: simpy.Resource | None = cpu
        self._waiting: list[deque[Chunk]] = [deque() for _ in range(plan.partitions)]
        self._replicas: list[_Replica] = []
        self.in_hand = 0
        self.then: Callable[[Chunk], None] = lambda _: None
        self.set_replicas(plan.replicas[work.stage])

    @property
    def lag(self) -> int:
        """Records whose offset is not committed: waiting ones and those in hand."""
        return sum(map(len, self._waiting)) + self.in_hand

    @property
    def replicas(self) -> int:
        """How many there are."""
        return len(self._replicas)

    def set_replicas(self, number: int) -> None:
        """Come or go; partitions are dealt anew, work in hand goes on."""
        while len(self._replicas) < number:
            own = simpy.Resource(self._env, self._plan.cores or 1)
            self._replicas.append(_Replica(self._shared or own))
        del self._replicas[number:]
        self._look()

    def put(self, chunk: Chunk) -> None:
        """A record arrives."""
        self._waiting[chunk.partition].append(chunk)
        self._look()

    def _look(self) -> None:
        """Every replica takes what it has room for, of its own partitions."""
        for index, replica in enumerate(self._replicas):
            own = self._waiting[index :: len(self._replicas)]
            while replica.in_hand < self._plan.in_flight and any(own):
                oldest = min((queue for queue in own if queue), key=lambda queue: queue[0].asked)
                replica.in_hand += 1
                self.in_hand += 1
                self._env.process(self._do(replica, oldest.popleft()))

    def _do(self, replica: _Replica, chunk: Chunk) -> Steps:
        yield self._env.timeout(self._work.wait_s(self._rng))
        left = self._work.cpu_s(self._rng)
        while left > 0:
            with replica.cpu.request() as core:
                yield core
                turn = min(left, QUANTUM_S)
                yield self._env.timeout(turn)
                left -= turn
        replica.in_hand -= 1
        self.in_hand -= 1
        chunk.done[self._work.stage] = self._env.now
        self.then(chunk)
        self._look()


class Pipeline:
    """Admission and the stages behind it."""

    def __init__(self, env: simpy.Environment, plan: Plan, rng: random.Random) -> None:
        self._env, self._plan = env, plan
        cpu = simpy.Resource(env, plan.machine_cores) if plan.cores is None else None
        self.stages = {work.stage: Stage(env, plan, work, rng, cpu) for work in plan.works}
        self.pending: deque[Chunk] = deque()
        self.active = 0
        self._free = env.event()
        order = list(self.stages.values())
        for before, after in pairwise(order):
            before.then = after.put
        order[-1].then = self._ended
        env.process(self._admit())

    def ask(self, chunk: Chunk) -> None:
        """A chunk waits for a slot."""
        self.pending.append(chunk)
        self._wake()

    def _ended(self, _: Chunk) -> None:
        self.active -= 1
        self._wake()

    def _wake(self) -> None:
        if not self._free.triggered:
            self._free.succeed()

    def _admit(self) -> Steps:
        first = next(iter(self.stages.values()))
        while True:
            while self.pending and self.active < self._plan.capacity:
                chunk = self.pending.popleft()
                self.active += 1
                chunk.admitted = self._env.now
                first.put(chunk)
                yield self._env.timeout(self._plan.release_s)
            self._free = self._env.event()
            yield self._free


def wanted(scaling: Scaling, lag: int, pending: int) -> int:
    """Replicas that KEDA asks for: the greater of its triggers, within the limits."""
    asked = math.ceil(lag / scaling.lag_threshold)
    if scaling.pending_threshold is not None:
        asked = max(asked, math.ceil(pending / scaling.pending_threshold))
    return min(max(asked, scaling.least), scaling.most)


def _scale(env: simpy.Environment, pipeline: Pipeline, stage: Stage, scaling: Scaling) -> Steps:
    """KEDA and the autoscaler: up at once within a share, down slowly after a calm while."""
    asked: deque[tuple[float, int]] = deque()
    target, grew, shrank = stage.replicas, -math.inf, -math.inf
    while True:
        want = wanted(scaling, stage.lag, len(pipeline.pending))
        asked.append((env.now, want))
        while asked[0][0] < env.now - scaling.calm_s:
            asked.popleft()
        if want > target and env.now - grew >= scaling.up_s:
            more = math.ceil(target * scaling.up_percent / 100)
            target, grew = min(want, target + more), env.now
            env.process(_start(env, stage, target, scaling.start_s))
        keep = max(number for _, number in asked)
        if keep < target and env.now - shrank >= scaling.down_s:
            target, shrank = max(keep, target - scaling.down_pods), env.now
            stage.set_replicas(min(target, stage.replicas))
        yield env.timeout(scaling.poll_s)


def _start(env: simpy.Environment, stage: Stage, number: int, start_s: float) -> Steps:
    yield env.timeout(start_s)
    stage.set_replicas(max(number, stage.replicas))


def simulate(
    plan: Plan, arrivals: Sequence[float], *, until_s: float | None = None, seed: int = 1
) -> Outcome:
    """Let chunks arrive at these times; until all are through, or until a time.

    Args:
        plan: The system.
        arrivals: When each chunk is asked for, ascending.
        until_s: When to stop looking; None: at the end of the last chunk.
        seed: Of everything that is drawn.
    """
    env, rng = simpy.Environment(), random.Random(seed)
    pipeline = Pipeline(env, plan, rng)
    chunks: list[Chunk] = []
    samples: list[Sample] = []

    def arrive() -> Steps:
        for at in arrivals:
            yield env.timeout(max(at - env.now, 0.0))
            chunks.append(Chunk(rng.randrange(plan.partitions), env.now))
            pipeline.ask(chunks[-1])

    def watch() -> Steps:
        while True:
            lags = {name: stage.lag for name, stage in pipeline.stages.items()}
            counts = {name: stage.replicas for name, stage in pipeline.stages.items()}
            samples.append(Sample(env.now, len(pipeline.pending), lags, counts))
            yield env.timeout(15.0)

    arriving = env.process(arrive())
    env.process(watch())
    for name, scaling in plan.scaling.items():
        env.process(_scale(env, pipeline, pipeline.stages[name], scaling))
    if until_s is not None:
        env.run(until_s)
        return Outcome(chunks, samples)
    env.run(arriving)
    while pipeline.pending or pipeline.active:
        env.step()
    return Outcome(chunks, samples)
