"""Chaos for as long as one likes: `python -m tests.chaos [--seconds N] [--seed N]`.

System after system, each of another shape, and in each of them round after round. The first
violation ends it: exit code 1, and a folder with all that is needed to look into it.
"""

import argparse
import json
import logging
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from tests import pooler
from tests.chaos import arena, rounds
from tests.chaos.arena import Arena, Shape
from tests.chaos.orders import Webs
from tests.chaos.rounds import Round
from tests.chaos.scene import Tally
from tests.chaos.witness import Witness
from tests.e2e.records import EVENTS

NIGHT_S = 8 * 3600
ROUND_S = 60.0
ROUNDS = 8
"""In one system; then another, since what replays repeat grows with every round."""

SHAPES = (
    Shape(),
    Shape(brokers=3),
    Shape(local=False, deadline_s=20),
    Shape(deadline_s=20, replicas=3),
    Shape(local=False, brokers=3, pooler=pooler.is_there()),
    Shape(pooler=pooler.is_there()),
)
"""Short deadlines: attempts that were given up come back to life; long ones: nothing may get lost
that would not be missed."""

TABLES = ("crawl_jobs", "job_requests", "job_chunks", "job_rounds", "job_progress", "outbox")


class Run:
    """One run.

    Args:
        seed: What everything follows from.
        seconds: No round begins later.
        folder: Where evidence goes.
        shapes: Of the systems, in turn.
        rounds: In one system.
        only: The one round of a system's that is run, if it is given.
    """

    def __init__(
        self,
        seed: int,
        seconds: float,
        folder: Path,
        shapes: tuple[Shape, ...],
        *,
        rounds: int = ROUNDS,
        only: int | None = None,
    ) -> None:
        self._seed = seed
        self._folder = folder
        self._shapes = shapes
        self._rounds = rounds
        self._only = only
        self._ends = time.monotonic() + seconds
        self._began = time.monotonic()
        self._tally = Tally()
        self._quiet: dict[int, str] = {}

    def run(self) -> bool:
        """Until the time is over; whether everything was as promised."""
        with arena.webs() as webs:
            for number, shape in enumerate(self._turns()):
                if not self._system(shape, webs, number):
                    return False
                if self._only is not None or time.monotonic() >= self._ends:
                    break
        return True

    def _turns(self) -> Iterator[Shape]:
        while True:
            yield from self._shapes

    def _system(self, shape: Shape, webs: Webs, system_number: int) -> bool:
        """The rounds of one system."""
        say(f"system {system_number + 1}: {shape}")
        with ExitStack() as stack:
            place = stack.enter_context(arena.opened(shape, webs))
            say(f"  blob store: {place.store.how}")
            if not self._quiet:
                self._quiet = place.system.archives(rounds.quiet_run(place).job_id)
            witness = stack.enter_context(Witness(place.system))
            numbers = range(system_number * self._rounds, (system_number + 1) * self._rounds)
            for number in numbers if self._only is None else (self._only,):
                if not self._round(place, witness, number):
                    return False
                if time.monotonic() >= self._ends:
                    break
        return True

    def _round(self, place: Arena, witness: Witness, number: int) -> bool:
        """One round; the evidence where it was not as promised."""
        plan = rounds.plan(self._seed, number, ROUND_S, place)
        say(f"  {plan}")
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            one = Round(place, plan, witness, self._quiet, Path(folder), self._tally, say=say)
            try:
                broken = one.run()
            except BaseException as error:
                self._keep(one, [f"{type(error).__name__}: {error}"])
                raise
        self._tally.add("rounds")
        if broken:
            self._keep(one, broken)
            say("".join(f"\n  VIOLATED {sentence[:2000]}" for sentence in broken))
            say(f"  seed {self._seed}, round {number}, {place.shape}")
        self._tell(broken)
        return not broken

    def _tell(self, broken: list[str]) -> None:
        """The running tally."""
        count = self._tally
        lost = sum("as_the_truth_says" in s or "does not end" in s for s in broken)
        double = sum("adds_up" in s or "add_up" in s for s in broken)
        changed = sum("nothing_changed" in s or "quiet_run" in s for s in broken)
        rest = ", ".join(f"{name} {number}" for name, number in count.items())
        say(
            f"after {time.monotonic() - self._began:.0f} s: kills {count['kills']}, "
            f"jobs {count['jobs']}, lost {lost}, double {double}, archives changed {changed}, "
            f"other violations {len(broken) - lost - double - changed}\n  ({rest})"
        )

    def _keep(self, one: Round, broken: list[str]) -> None:
        """What is needed to look into it: schedule, logs, records, rows, objects."""
        system = one.arena.system
        folder = self._folder / f"{self._seed}-{one.plan.number}"
        folder.mkdir(parents=True, exist_ok=True)
        struck = one.storm.struck if one.storm else []
        missed = one.storm.missed if one.storm else []
        lines = [str(one.arena.shape), str(one.plan), "", "what happened, in that order:"]
        lines += [f"  {blow}" for blow in struck]
        lines += [f"  missed {blow}: {why}" for blow, why in missed]
        lines += ["", "jobs:", *(f"  {job}"[:200] for job in one.jobs), "", *broken, ""]
        (folder / "violations.txt").write_text("\n".join(lines))
        shutil.copytree(system.data_dir / "logs", folder / "logs", dirs_exist_ok=True)
        with suppress(Exception):
            for job in one.jobs:
                for name, content in system.objects(f"jobs/{job.job_id}").items():
                    target = folder / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content)
        with suppress(Exception), (folder / "records.jsonl").open("w") as records:
            for record in system.read(EVENTS):
                text = (record.value or b"null").decode()
                place = (record.topic, record.partition, record.offset, record.event_id)
                records.write(json.dumps([*place, text]) + "\n")
        with suppress(Exception), (folder / "rows.txt").open("w") as rows:
            for table in TABLES:
                rows.writelines(f"{table} {row}\n" for row in system.rows(f"SELECT * FROM {table}"))
        say(f"  evidence: {folder}")


def say(text: str) -> None:
    """For people, at once."""
    print(text, flush=True)  # noqa: T201 - a program


def main() -> None:
    """Read the command line, and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=NIGHT_S, help="how long (%(default)s)")
    parser.add_argument("--seed", type=int, help="of the schedules; a random one if not given")
    parser.add_argument("--evidence", type=Path, default=Path("chaos-evidence"))
    parser.add_argument("--shape", type=int, choices=range(1, len(SHAPES) + 1), help="this only")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="in a system (%(default)s)")
    parser.add_argument("--only", type=int, help="this round only, in a system of --shape")
    told = parser.parse_args()
    for library in ("aiokafka", "asyncio"):  # a broker that is away is no news here
        logging.getLogger(library).setLevel(logging.CRITICAL)
    seed = random.SystemRandom().randrange(10**6) if told.seed is None else told.seed
    say(f"chaos for {told.seconds:g} s, seed {seed}")
    # What was mounted is unmounted, and who was stopped goes on, also where somebody ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    shapes = SHAPES if told.shape is None else (replace(SHAPES[told.shape - 1]),)
    run = Run(
        seed, told.seconds, told.evidence.absolute(), shapes, rounds=told.rounds, only=told.only
    )
    sys.exit(0 if run.run() else 1)


if __name__ == "__main__":
    main()
