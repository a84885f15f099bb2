"""Through PgBouncer as it is shipped: a job, the pooler's death, and what PostgreSQL is asked."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pixcrawler.miniweb import site
from pixcrawler.miniweb.plans import Plan
from pixcrawler.miniweb.site import Site
from tests.e2e import checks, statements
from tests.e2e.statements import Asking
from tests.e2e.system import SERVICES, STAGES, Json, System, mixed, running
from tests.e2e.waiting import until
from tests.pooler import Pooler

REPLICAS = 2
FEW, MANY = 20, 200
"""Images of a chunk."""
PART = 50
"""Candidates of a part, an object before which a stage asks whether the job is still wanted."""
POOL = 5
"""Connections of one process at most (`pixcrawler.common.db.engine.connect`)."""
IDLE_S = 6.0
"""Longer than anything takes that services do by the clock in these tests."""
ROUNDS = 2
"""Chunks of each size; the fewest times count that something was asked, because a chunk that falls
in badly with the clock asks more."""


@pytest.fixture(scope="module")
def photographs() -> Iterator[Site]:
    """As many as the larger chunk has."""
    with site.running(Plan((("photo", MANY),)), seed=12) as web:
        yield web


@pytest.fixture(scope="module")
def pooled(photographs: Site) -> Iterator[System]:
    """A system whose services reach the database through a pooler; a chunk holds any job."""
    told = {**photographs.env, "PIXCRAWLER_RESOURCE_CHUNK_SIZE_IMAGES": str(MANY)}
    with running(told, dict.fromkeys(STAGES, REPLICAS), pooler=True) as system:
        system.wait_healthy()
        yield system


def pooler_of(system: System) -> Pooler:
    """What stands between."""
    assert system.pooler is not None
    return system.pooler


def test_nobody_goes_past_it(pooled: System) -> None:
    """Every service's connections to a database are to the pooler's port."""
    [server] = [each for each in pooled.components() if each.service == "postgres"]
    past = int(server.address.rpartition(":")[2])
    ports = {
        service: {
            connection.raddr.port
            for pid in pooled.pids(service)
            for connection in psutil.Process(pid).net_connections("tcp")
            if connection.raddr and connection.raddr.port in {past, pooler_of(pooled).port}
        }
        for service in SERVICES
    }
    assert ports == {name: {pooler_of(pooled).port} for name in SERVICES}


def test_the_pooler_dies_in_the_middle_of_a_job(
    pooled: System, photographs: Site, tmp_path: Path
) -> None:
    """All transactions in hand break, nobody can begin one: once it is back the job ends whole."""
    job = pooled.create_from(mixed(photographs.truth))
    pooler = pooler_of(pooled)
    until("a chunk is at work", lambda: pooled.names(f"staging/{job}/"))
    pooler.child.send_signal(signal.SIGKILL)
    until("it is gone", lambda: not pooler.child.running)
    pooler.spawn()
    assert pooled.finish(job)["status"] == "completed"
    checks.all_well(pooled, job, photographs.truth, tmp_path)


def test_statements_and_connections_are_bounded(pooled: System, photographs: Site) -> None:
    """A chunk of ten times the images asks nothing more often, but once for each part and, in each
    replica, once for each second that it takes longer; and no role has more connections than its
    processes' pools, and the pooler's, allow."""
    pooled.wait_healthy()
    seen: Counter[str] = Counter()
    rounds: dict[int, list[Counter[Asking]]] = {FEW: [], MANY: []}
    longest_s = 0.0
    with statements.logged(pooled) as log:
        by_the_clock = _by_the_clock(log)
        for number in (FEW, *(FEW, MANY) * ROUNDS):  # the first warms up whoever has not worked yet
            began = time.monotonic()
            job = pooled.create_from(list(photographs.truth)[:number])

            def ended(job: str = job) -> Json | None:
                nonlocal seen
                seen |= statements.connections(pooled)
                shown = pooled.progress(job)
                return shown if shown["status"] == "completed" else None

            shown = until("the job is done", ended)
            assert shown is not None
            assert (shown["total_chunks"], shown["images"]["valid"]) == (1, number)
            checks.nothing_left(pooled, job)
            rounds[number].append(_of_services(log))
            longest_s = max(longest_s, time.monotonic() - began)
    fewest = {
        number: {each: min(count[each] for count in counts) for each in set().union(*counts)}
        for number, counts in rounds.items()
    }
    more = {
        each: times - fewest[FEW].get(each, 0)
        for each, times in fewest[MANY].items()
        if each not in by_the_clock
    }
    assert sum(fewest[FEW].values()) > 0
    limit = -(-MANY // PART) + REPLICAS * longest_s
    assert limit < (MANY - FEW) / 2, (
        "the machine is too slow to tell one an image from one a second"
    )
    assert max(more.values()) <= limit, more
    limits = {
        f"pixcrawler_{name}": min(
            POOL * (REPLICAS if name in STAGES else 1), pooler_of(pooled).pool
        )
        for name in SERVICES
    }
    assert set(seen) == set(limits)
    assert not seen - Counter(limits), (seen, limits)


def _of_services(log: statements.Log) -> Counter[Asking]:
    """What was asked since the last reading; but not by the api, which this test asks again and
    again, nor a transaction's frame."""
    return Counter(
        {
            (role, statement): number
            for (role, statement), number in log.read().items()
            if role != "pixcrawler_api" and _does(statement)
        }
    )


def _does(statement: str) -> bool:
    """Whether it is more than a transaction's frame, or what a new connection looks up."""
    return statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))


def _by_the_clock(log: statements.Log) -> set[Asking]:
    """What is asked within a span without work."""
    log.read()
    ends = time.monotonic() + IDLE_S
    until("the span is over", lambda: time.monotonic() >= ends)
    return set(_of_services(log))
