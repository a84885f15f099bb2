"""The simulation against what is known without it: arithmetic, and the textbook's queue."""

import math
import random
import xml.etree.ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.simulation import charts, draws, keda
from bench.simulation.model import Outcome, Plan, Scaling, Work, simulate, wanted

STAGES = ("downloader", "validator", "uploader")


def plan(*works: Work, replicas: int = 1, **other: object) -> Plan:
    """These stages, each in so many replicas."""
    values: dict[str, object] = {"release_s": 0.0, "capacity": 10**6, **other}
    return Plan(works, {work.stage: replicas for work in works}, **values)  # type: ignore[arg-type]


def chain(wait_s: float, cpu_s: float) -> tuple[Work, ...]:
    """Three equal stages."""
    return tuple(Work(name, draws.always(wait_s), draws.always(cpu_s)) for name in STAGES)


def test_a_chunk_alone_takes_the_sum_of_its_stages() -> None:
    """Nobody waits for anybody."""
    alone = simulate(plan(*chain(0.5, 0.25)), [0.0, 100.0, 200.0])
    assert [round(x, 6) for x in alone.latencies()] == [2.25, 2.25, 2.25]


@settings(max_examples=30, deadline=None)
@given(
    arrivals=st.lists(st.integers(0, 50), max_size=60).map(sorted),
    capacity=st.integers(1, 8),
    replicas=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_no_chunk_is_lost_and_none_is_made(
    arrivals: list[float], capacity: int, replicas: int, seed: int
) -> None:
    """Whatever comes goes through every stage once, in order, within the slots."""
    system = plan(*chain(0.3, 0.1), replicas=replicas, capacity=capacity)
    done = simulate(system, arrivals, seed=seed)
    assert [chunk.asked for chunk in done.chunks] == arrivals
    for chunk in done.chunks:
        times = [chunk.asked, chunk.admitted, *(chunk.done[stage] for stage in STAGES)]
        assert times == sorted(times)
    assert most_at_once(done) <= capacity


def most_at_once(outcome: Outcome) -> int:
    """The most slots in use at any time; one that ends frees its slot before the next begins."""
    edges = [(chunk.admitted, 1) for chunk in outcome.chunks]
    edges += [(chunk.done[STAGES[-1]], -1) for chunk in outcome.chunks]
    busy = most = 0
    for _, step in sorted(edges):
        busy += step
        most = max(most, busy)
    return most


def test_one_stage_waits_as_the_textbook_says() -> None:
    """Erlang's formula for M/M/4 at 80 %: one partition, one replica with four hands."""
    hands, mean_s, load = 4, 1.0, 0.8
    work = Work("only", draws.exponential(mean_s), draws.always(0.0))
    arrivals = draws.poisson(load * hands / mean_s, 20_000.0)
    done = simulate(plan(work, partitions=1, in_flight=hands), arrivals)
    waits = sum(chunk.done["only"] - chunk.asked for chunk in done.chunks) / len(arrivals) - mean_s
    expected = erlang_c(hands, load * hands) * mean_s / (hands * (1 - load))
    assert abs(waits / expected - 1) < 0.1


def erlang_c(servers: int, offered: float) -> float:
    """The chance that all servers are busy when somebody comes."""
    full = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return full / (sum(offered**k / math.factorial(k) for k in range(servers)) + full)


def test_cores_are_shared() -> None:
    """Four chunks at a time on one core take four times as long, on four cores they do not."""
    work = (Work("only", draws.always(0.0), draws.always(1.0)),)
    for cores, seconds in ((1, 4.0), (4, 1.0)):
        done = simulate(plan(*work, partitions=1, cores=cores), [0.0] * 4)
        assert abs(done.latencies()[-1] - seconds) < 0.1


def test_replicas_beyond_the_partitions_do_nothing() -> None:
    """A partition has one owner."""
    work = Work("only", draws.always(1.0), draws.always(0.0))
    few = simulate(plan(work, replicas=2, partitions=2, in_flight=1), [0.0] * 20)
    many = simulate(plan(work, replicas=9, partitions=2, in_flight=1), [0.0] * 20)
    assert many.latencies() == few.latencies()


def test_replicas_come_within_the_rules_and_go_after_a_calm_while() -> None:
    """At most twice as many in 30 s; one fewer a minute, five minutes after they were wanted."""
    rules = Scaling(least=1, most=8, lag_threshold=2)
    work = Work("only", draws.always(10.0), draws.always(0.0))
    system = plan(work, scaling={"only": rules}, in_flight=1)
    seen = simulate(system, [0.0] * 60, until_s=1200.0).samples
    counts = [sample.replicas["only"] for sample in seen]
    assert max(counts) == rules.most
    doubled = zip(counts, counts[2:], strict=False)  # samples are 15 s apart
    assert all(later <= 2 * before for before, later in doubled)
    assert counts[-1] < rules.most
    last_work = max(sample.at for sample in seen if sample.lag["only"])
    shrank = next(s.at for s in seen if s.at > last_work and s.replicas["only"] < rules.most)
    assert shrank - last_work >= rules.calm_s - 60


def test_keda_is_told_what_the_manifests_say() -> None:
    """Every stage of a chunk; the downloader also goes by what waits for a slot."""
    found = keda.scalings()
    assert set(found) == set(STAGES)
    assert [name for name, each in found.items() if each.pending_threshold] == ["downloader"]
    rules = found["downloader"]
    assert wanted(rules, 0, 0) == rules.least
    assert wanted(rules, rules.lag_threshold * 3, 0) == 3
    assert wanted(rules, 10**6, 0) == rules.most
    assert keda.slots() >= rules.most * Plan((), {}).in_flight


def test_a_chart_is_a_picture_of_its_points() -> None:
    """Well-formed, one line a series, names as text."""
    rng = random.Random(1)
    points = [(float(x), rng.random() * 40) for x in range(50)]
    root = ET.fromstring(charts.lines("a < b", "minutes", "chunks", {"one": points, "two": points}))
    lines = [e for e in root.iter() if e.tag.endswith("polyline")]
    assert [len(line.attrib["points"].split()) for line in lines] == [50, 50]
    assert {"a < b", "one", "two"} <= {e.text for e in root.iter()}
