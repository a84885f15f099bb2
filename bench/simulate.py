"""How far it goes: the pipeline simulated, checked against a real run, then at a million an hour.

    python -m bench.simulate [--images 400] [--chunk-size 50] [--at-once 4] [--plots docs/scaling]

First a real job runs here twice: one chunk at a time, which gives the service times, then several
at a time, which the simulation has to foretell. Then it simulates a cluster under KEDA's rules,
with the figures of `deploy/scaling.py`. With `--without-run` only that.
"""

import argparse
import os
import statistics
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.simulation import charts, draws, keda, measure
from bench.simulation.model import Outcome, Plan, Work, simulate
from deploy.scaling import PACES

HOUR_S = 3600.0
CHUNK = 500
RATE = 1_000_000 / CHUNK / HOUR_S
"""Chunks a second for a million candidates an hour."""
SETTLED_S = 1800.0
"""From here on the cluster is looked at as one that has found its size."""
WIDER = 4
FETCH_S = (30, 60, 120, 240)
"""Seconds that a chunk waits for its hosts: assumed, since they are not ours."""

console = Console(highlight=False, width=110)


def main() -> None:
    """Measure, compare, simulate; write the plots where that is asked for."""
    options = _options()
    if not options.without_run:
        _check(options)
    outcomes = {fetch_s: million(cluster(fetch_s)) for fetch_s in FETCH_S}
    console.print("a million candidates an hour, deploy/k8s as it is:")
    _report(outcomes)
    console.print(f"with {WIDER} times the partitions, downloaders and slots:")
    _report({fetch_s: million(wider(cluster(fetch_s))) for fetch_s in FETCH_S})
    if options.plots is not None:
        _plot(outcomes[60], options.plots)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--chunk-size", type=int, default=50)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--plots", type=Path)
    parser.add_argument("--without-run", action="store_true")
    return parser.parse_args()


def _check(options: argparse.Namespace) -> None:
    """A real run, and what the simulation says of it."""
    measured = measure.measure(options.images, options.chunk_size, options.at_once, options.times)
    single, several = measured.single, measured.several
    cores = os.cpu_count() or 1
    foretold = [
        end_of(
            simulate(
                measure.plan_of(measured, options.at_once, cores),
                [0.0] * (single.chunks // measured.times),
                seed=n,
            )
        )
        for n in range(20)
    ]
    table = Table("stage", "seconds a chunk", "CPU seconds a chunk", box=None)
    for stage in measure.STAGES:
        spans = single.spans[stage]
        cpu = single.cpu[stage] / single.chunks
        table.add_row(stage, f"{statistics.mean(spans):.2f}", f"{cpu:.2f}")
    table.add_row("everything else", "", f"{single.cpu['rest'] / single.chunks:.2f}")
    console.print(f"{single.chunks} chunks of {options.chunk_size}, one at a time:")
    console.print(table)
    console.print(
        f"transactions: {single.transactions / single.chunks:.0f} a chunk, "
        f"and {measured.idle_transactions:.1f} a second without any work; "
        f"idle, all of it takes {sum(measured.idle_cpu.values()):.2f} cores"
    )
    said, was = statistics.mean(foretold), several.seconds / measured.times
    console.print(
        f"{options.at_once} at a time: foretold {said:.1f} s, was {was:.1f} s: "
        f"{100 * (said / was - 1):+.0f} % (mean of {measured.times}); "
        f"one at a time it was {single.seconds / measured.times:.1f} s"
    )
    console.print(f"others took {several.others_s / several.wall_s:.1f} of {cores} cores meanwhile")


def end_of(outcome: Outcome) -> float:
    """Seconds from the first admission to the end of the last chunk."""
    first = min(chunk.admitted for chunk in outcome.chunks)
    return max(chunk.ended for chunk in outcome.ended) - first


def cluster(fetch_s: float) -> Plan:
    """The cluster of `deploy/k8s` with its own limits, for chunks of 500.

    Args:
        fetch_s: Seconds that a chunk waits for its hosts.
    """
    paces = {pace.stage: pace for pace in PACES}
    # The downloader computes about as long as the validator does; its figure there is all waiting.
    cpu = {stage: paces[stage].record_s for stage in ("validator", "uploader")}
    works = (
        Work("downloader", draws.skewed(fetch_s), draws.always(cpu["validator"])),
        Work("validator", draws.always(0.1), draws.always(cpu["validator"])),
        Work("uploader", draws.always(cpu["uploader"] / 2), draws.always(cpu["uploader"] / 2)),
    )
    scaling = keda.scalings()
    return Plan(
        works,
        {stage: scaling[stage].least for stage in scaling},
        in_flight=paces["downloader"].in_hand,
        capacity=keda.slots(),
        scaling=scaling,
    )


def wider(plan: Plan) -> Plan:
    """The same with more of what runs out first."""
    most = plan.scaling["downloader"].most * WIDER
    downloader = replace(plan.scaling["downloader"], most=most)
    return replace(
        plan,
        partitions=plan.partitions * WIDER,
        capacity=plan.capacity * WIDER,
        scaling={**plan.scaling, "downloader": downloader},
    )


def million(plan: Plan, *, hours: float = 2.0, seed: int = 3) -> Outcome:
    """Jobs of four chunks, a million candidates an hour, into a cluster that was asleep."""
    until_s = hours * HOUR_S
    arrivals = draws.poisson(RATE, until_s, seed, at_once=4)
    return simulate(plan, arrivals, until_s=until_s, seed=seed)


def _report(outcomes: dict[int, Outcome]) -> None:
    table = Table(
        *("a chunk's hosts", "downloader", "validator", "uploader", "slots waited for"),
        *("a chunk, median", "95 %", "images an hour"),
        box=None,
    )
    for fetch_s, outcome in outcomes.items():
        settled = [sample for sample in outcome.samples if sample.at >= SETTLED_S]
        replicas = [
            f"{statistics.mean(s.replicas[stage] for s in settled):.1f}, "
            f"{max(s.replicas[stage] for s in outcome.samples)} at most"
            for stage in measure.STAGES
        ]
        ended = [c for c in outcome.ended if c.done.get("uploader") and c.asked >= SETTLED_S]
        times = sorted(chunk.ended - chunk.asked for chunk in ended)
        through = sum(c.done.get("uploader", 0.0) >= SETTLED_S for c in outcome.chunks)
        span_h = (outcome.samples[-1].at - SETTLED_S) / HOUR_S
        table.add_row(
            f"{fetch_s} s",
            *replicas,
            f"{statistics.mean(s.pending for s in settled):.0f} chunks",
            f"{statistics.median(times):.0f} s",
            f"{times[int(0.95 * len(times))]:.0f} s",
            f"{through * CHUNK / span_h:,.0f}",
        )
    console.print(table)


def _plot(outcome: Outcome, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    minutes = [sample.at / 60 for sample in outcome.samples]
    lag = {
        stage: list(zip(minutes, (s.lag[stage] for s in outcome.samples), strict=True))
        for stage in measure.STAGES
    }
    lag["waiting for a slot"] = list(
        zip(minutes, (s.pending for s in outcome.samples), strict=True)
    )
    replicas = {
        stage: list(zip(minutes, (s.replicas[stage] for s in outcome.samples), strict=True))
        for stage in measure.STAGES
    }
    for name, chart in {
        "lag": charts.lines(
            "Chunks in front of each stage, in hand included", "minutes", "chunks", lag
        ),
        "replicas": charts.lines("Replicas", "minutes", "replicas", replicas),
    }.items():
        (folder / f"{name}.svg").write_text(chart)


if __name__ == "__main__":
    main()
