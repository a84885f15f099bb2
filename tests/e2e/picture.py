"""`python -m tests.e2e.picture docs/dashboard.svg`: the dashboard of a system that works, drawn.

It runs jobs for a minute and a half, with a search that is away for a while, and asks
a Prometheus that watches all of it what Grafana would ask.
"""

import sys
import time
from pathlib import Path

from deploy.drawing import drawn
from deploy.panels import INTERVAL
from pixcrawler.miniweb import names, plans, site
from tests import prometheus
from tests.e2e.system import STAGES, running
from tests.e2e.test_operating import addresses
from tests.e2e.waiting import until
from tests.scratch import reachable_folder

LASTS_S = 90.0


def main(target: Path) -> None:
    """Run, ask, draw."""
    plan = plans.demo_plan(names.private_names())
    with reachable_folder() as folder, site.running(plan, seed=5) as web:
        told = {**web.env, "PIXCRAWLER_BREAKER_FAILURES": "2"}
        with (
            running(told, {**dict.fromkeys(STAGES, 1), "downloader": 2}) as system,
            prometheus.watching(
                addresses(system),
                Path(folder) / "prometheus",
                rules=prometheus.scaled_rules(prometheus.RULES, 60),
            ) as watcher,
        ):
            system.wait_healthy()
            began = time.time()
            jobs = [
                system.create(keywords=[web.keywords[0]], max_images=120),
                system.create_from([*web.truth][:300], priority=8),
            ]
            web.set_mood("commons", "away")
            jobs.append(system.create(keywords=[web.keywords[1]], max_images=60))
            until("half a minute", lambda: time.time() - began > 30)
            web.set_mood("commons", "well")
            jobs.append(system.create_from([*web.truth][300:600]))
            for job in jobs:
                system.finish(job)
            until("it has been watched", lambda: time.time() - began > LASTS_S)
            ended = time.time()
            picture = drawn(
                lambda query: [
                    (each.labels, each.samples)
                    for each in watcher.range(query.expr.replace(INTERVAL, "10s"), began)
                ],
                began,
                ended,
            )
    target.write_text(picture, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
