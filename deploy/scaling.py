"""How many replicas of a stage, from what a chunk was measured to take.

The figures are those of `bench/pipeline.py` (1,150 images through the whole pipeline on 2 cores,
226 images a second; CPU by process): seconds that a replica with one core is busy with a chunk of
500. Of the downloader that is the smaller part: real hosts answer slowly and are asked politely.
What a chunk takes there depends on them and was not measured on the real web; a minute is assumed,
which a replica spends on several chunks at once.

KEDA divides the lag by the threshold to get the replicas, so a threshold is the number of records
that one replica works off within `WAIT_S`.
"""

from dataclasses import dataclass

from pixcrawler.common import topics
from pixcrawler.common.limits import Limits

WAIT_S = 60.0
"""How long a record may wait for its stage while it is scaled out."""

MAX_REPLICAS = 12
"""Of any stage: more than partitions would be idle."""


@dataclass(frozen=True)
class Pace:
    """What one replica of a stage does.

    Attributes:
        stage: Whose.
        topic: The topic of its work.
        group: Its consumer group.
        record_s: Seconds that it takes for a record, other records at the same time counted in.
        least: Replicas at least.
        most: Replicas at most.
        in_hand: Records that a replica has in hand: a chunk in hand holds a slot.
    """

    stage: str
    topic: str
    group: str
    record_s: float
    least: int
    most: int
    in_hand: int = Limits.in_flight

    @property
    def threshold(self) -> int:
        """Records of lag a replica."""
        return max(1, round(WAIT_S / self.record_s))


PACES = (
    # Assumed, not measured: see above.
    Pace("downloader", topics.CHUNK_PLANNED, "downloader", 60 / Limits.in_flight, 2, MAX_REPLICAS),
    # 2.0 ms an image; two threads, one core asked for.
    Pace("validator", topics.CHUNK_DOWNLOADED, "validator", 1.0, 2, MAX_REPLICAS),
    # 0.8 ms an image, and as much again for the store.
    Pace("uploader", topics.CHUNK_VALIDATED, "uploader", 0.8, 2, 6),
    # A transaction or two: with 3,000 waiting chunks an admission takes 80 ms.
    Pace("planner", topics.CHUNK_UPLOADED, "planner", 0.1, 2, 3),
    # It merges thousands of events a second; one a millisecond is careful.
    Pace("tracker", topics.TRACKER_EVENTS, topics.TABLE_GROUP, 0.001, 2, 6),
)
CHUNK_STAGES = ("downloader", "validator", "uploader")
"""Where a chunk that holds a slot may be."""
