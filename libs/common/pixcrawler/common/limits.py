"""How much a consumer loop holds, how patient it is, and how long it takes to stop."""

from dataclasses import dataclass, replace

GRACE_S = 30.0
"""From SIGTERM to SIGKILL: what standalone mode gives, as Kubernetes does by default
(`terminationGracePeriodSeconds`). `DRAIN_S` and `STOP_MARGIN_S` have to fit in."""
DRAIN_S = 20.0
"""Of it, what work in hand has to finish."""
STOP_MARGIN_S = 8.0
"""Of it, what remains to cancel what did not finish, commit, leave the group and let go of
everything. When it is over, the process ends whatever it does: nothing that matters is lost, since
what is not committed is delivered again."""


@dataclass(frozen=True)
class Limits:
    """The limits of one stage.

    Attributes:
        in_flight: Pieces of work at a time; memory and the waste of a crash grow with it.
        retry_tries: Tries of a handler that says `Retry`, then the attempt has failed.
        error_tries: Tries of a handler that fails in a way nobody foresaw.
        first_wait_s: The first backoff; each further one is twice as long, with jitter.
        max_wait_s: The longest backoff.
        outage_s: How long an attempt waits for broker, database or blob store to come back; shorter
            than a chunk's deadline, or the planner takes the chunk back first.
        poison_run: Dead letters in a row, then the stage stops: it is the code that is wrong, not
            the records.
        poison_ratio: Likewise, share of dead letters among the last `poison_window` records.
        poison_window: Records that the ratio looks at.
        watch_s: How often the database is asked whether the jobs in hand are still wanted.
        in_flight_bytes: Bytes of records in hand; above it nothing more is taken.
        joined: Records that may wait for work that is in hand already, such as repetitions.
        backlog_s: How often the log is asked how much waits in it, and since when.
        repeat_s: A dead letter of the same fact is written once within so many seconds.
    """

    in_flight: int = 4
    retry_tries: int = 6
    error_tries: int = 3
    first_wait_s: float = 0.25
    max_wait_s: float = 15.0
    outage_s: float = 600.0
    poison_run: int = 20
    poison_ratio: float = 0.5
    poison_window: int = 100
    watch_s: float = 1.0
    in_flight_bytes: int = 32 * 1024 * 1024
    joined: int = 1000
    backlog_s: float = 15.0
    repeat_s: float = 86_400.0

    def with_in_flight(self, in_flight: int) -> "Limits":
        """The same with another number of pieces of work at a time."""
        return replace(self, in_flight=in_flight)
