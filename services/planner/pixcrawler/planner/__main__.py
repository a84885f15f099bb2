"""The planner's composition root: `python -m pixcrawler.planner`."""

from pixcrawler.common import service
from pixcrawler.common.outbox import Relay
from pixcrawler.common.periodic import Periodic
from pixcrawler.common.service import Runnable, Runtime
from pixcrawler.planner import admission, timer
from pixcrawler.planner.routes import routes
from pixcrawler.planner.settings import Settings
from pixcrawler.planner.signs import Signs
from pixcrawler.planner.tools import Tools, policy_from


def main() -> None:
    """Run the planner until it is told to stop."""
    service.main("planner", Settings, build)


async def build(settings: Settings, runtime: Runtime) -> list[Runnable]:
    """Wire the consumer loop, the outbox's relay, and the timers.

    Raises:
        SettingsError: not even one chunk fits the capacity.
    """
    policy = policy_from(settings)
    relay = Relay(runtime.engine, runtime.publisher)
    admitting = Periodic(
        "admission", lambda: admission.admit(tools), interval_s=settings.planner_tick_s
    )
    tools = Tools(
        engine=runtime.engine,
        blobs=runtime.blobs,
        policy=policy,
        source=runtime.source,
        published=relay.hint,
        released=admitting.hint,
    )
    signs = Signs(runtime.engine)
    reviewing = Periodic(
        "review", lambda: timer.review(tools), interval_s=settings.planner_review_s
    )
    runtime.steering.on_sources = reviewing.hint  # rounds may wait for one that is paused
    return [
        runtime.stage(routes(tools, signs), watch_jobs=False),
        relay,
        admitting,
        Periodic("deadlines", lambda: timer.tick(tools, signs), interval_s=settings.planner_tick_s),
        Periodic("gauges", lambda: timer.measure(tools), interval_s=timer.MEASURE_S),
        reviewing,
    ]


if __name__ == "__main__":
    main()
