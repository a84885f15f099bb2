"""What there is of jobs: rows, claims, objects, records on their way, and what is shown."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.model.rules import JobRules
from tests.model.world import Record, World

CAPACITY = 2
WIDTH = 2
"""Candidates in a chunk."""
FACTOR = 5
RETRIES = 2
TAKEBACKS = 3

Chunk = tuple[int, int]
"""A job and the chunk's index in it."""
Stretch = tuple[int, int]
"""Candidates of a job, from one up to another."""


@dataclass(slots=True)
class Job:
    """A row of `crawl_jobs`, and the requests of its rounds after the first."""

    wanted_images: int
    round: int = 0
    cancelled: bool = False
    deleted: bool = False
    requests: list[tuple[str, Chunk | None]] = field(default_factory=list)

    @property
    def wanted(self) -> bool:
        return not (self.cancelled or self.deleted)


@dataclass(slots=True)
class Row:
    """A row of `job_chunks`. `origin`: first, more, again (for what it lost), retry."""

    stretch: Stretch
    origin: str
    retry_of: Chunk | None = None
    status: str = "pending"
    attempt: int = 0
    retries: int = 0
    takebacks: int = 0
    kept: int = 0

    @property
    def open(self) -> bool:
        return self.status in {"pending", "processing"}


class Facts(NamedTuple):
    """What `job.planned` carries."""

    round: int
    closed: int
    total: int
    completed: frozenset[int]
    failed: frozenset[int]
    superseded: frozenset[int]
    status: str = ""
    kept: int = 0
    wanted: int = 0


@dataclass(slots=True)
class Book:
    """What `job_rounds` says: requests applied, the last round closed, the facts told last."""

    applied: int = 0
    closed: int = 0
    facts: Facts | None = None


class Result(NamedTuple):
    """How a chunk ended."""

    completed: bool
    kept: int = 0


class Index(NamedTuple):
    """`dataset.json` of a round."""

    facts: Facts
    archives: tuple[int, ...]


@dataclass(slots=True)
class Known:
    """What the tracker knows of a job: sets and greatest values, which only grow."""

    facts: Facts | None = None
    finished: Facts | None = None
    superseded: frozenset[int] = frozenset()
    uploaded: frozenset[int] = frozenset()
    counted: int = 0
    progress: dict[int, int] = field(default_factory=dict)
    deleted: bool = False

    def copy(self) -> "Known":
        """As it is now."""
        return Known(
            self.facts,
            self.finished,
            self.superseded,
            self.uploaded,
            self.counted,
            dict(self.progress),
            self.deleted,
        )


class Shown(NamedTuple):
    """A row of `job_progress`: revision, whether it is final, and (chunks, completed, failed)."""

    revision: Any
    final: Facts | None
    counts: tuple[int, int, int]


READERS: dict[str, tuple[str, ...]] = {
    "created": ("planner", "tracker"),
    "cancelled": ("planner", "tracker"),
    "planned": ("stages",),
    "uploaded": ("planner", "tracker"),
    "failed": ("planner",),
    "progress": ("tracker",),
    "facts": ("uploader", "tracker"),
    "finished": ("tracker",),
    "silent": ("planner",),
}


class JobState(World):
    """Two jobs, everything that is stored of them, and what people will want of them."""

    def __init__(
        self, seed: int, rules: JobRules, *, chaos: int | None = None, traced: bool = False
    ) -> None:
        super().__init__(seed, chaos=0, traced=traced)
        self.rules = rules
        self.chaos = self.pick((0, 6, 14, 14, 20)) if chaos is None else chaos
        self.jobs: dict[int, Job] = {}
        self.supply: dict[int, list[int]] = {}
        self.rows: dict[int, dict[int, Row]] = {}
        self.books: dict[int, Book] = {}
        self.claims: dict[int, dict[int, Chunk]] = {}
        self.decided: set[Chunk] = set()
        self.outbox: list[Record] = []
        self.held: set[int] = set()
        self.table: dict[int, Known] = {}
        self.changelog: dict[int, Known] = {}
        self.older: dict[int, Known] | None = None
        self.uncommitted: list[Record] = []
        self.unshown: set[int] = set()
        self.shown: dict[int, Shown] = {}
        self.wishes: list[tuple[str, int]] = []
        self.flaky = self.pick((0, 3, 6, 12, 20))
        self.tracker_trouble = self.pick((0, 0, 6, 14))
        self.slots = 0
        self.idle = 0
        self.lost = 0
        self.over = False
        self.forgotten: set[int] = set()
        self.finished: dict[tuple[int, int], Facts] = {}
        self.last_finished: dict[int, Facts] = {}
        self.cut_short: set[int] = set()
        self.hands_at_cancel: dict[int, int] = {}
        self.created_since: dict[int, int] = {}
        for job in range(2):
            self._imagine(job)
        self.rng.shuffle(self.wishes)
        self.wishes.sort(key=lambda wish: wish[0] == "start" and self.chance() < 0.85)

    def _imagine(self, job: int) -> None:
        """What a job can find, and what will be asked of it."""
        chance, pick = self.chance, self.pick
        self.supply[job] = [
            int(chance() * 10) if chance() < 0.5 else 100 * job + 20 + place
            for place in range(2 + int(chance() * 11))
        ]
        self.jobs[job] = Job(2 + int(chance() * 4))
        self.rows[job] = {}
        self.wishes.append(("start", job))
        self.wishes += [(pick(("extend", "retry", "retry")), job) for _ in range(int(chance() * 3))]
        end = chance()
        if end < 0.25 or end > 0.95:
            self.wishes.append(("cancel", job))
        if end > 0.7:
            self.wishes.append(("delete", job))

    # ---- what everybody asks

    def unwanted(self, job: int) -> bool:
        """Cancelled, deleted or unknown."""
        found = self.jobs.get(job)
        return found is None or not found.wanted

    def erased(self, job: int) -> bool:
        """Deleted or unknown."""
        found = self.jobs.get(job)
        return found is None or found.deleted

    def failed(self, chunk: Chunk) -> bool:
        """Whether a chunk's row says that it failed."""
        row = self.rows.get(chunk[0], {}).get(chunk[1])
        return row is not None and row.status == "failed"

    def result(self, chunk: Chunk) -> Result | None:
        """How a chunk ended."""
        found: Result | None = self.objects.get(("result", *chunk))
        return found

    def busy(self) -> list[tuple[Chunk, Row]]:
        """The slots."""
        return [
            ((job, index), row)
            for job, rows in self.rows.items()
            for index, row in rows.items()
            if row.status == "processing"
        ]

    def is_open(self, job: int) -> bool:
        """Whether a round of the job is to be closed yet."""
        book = self.books.get(job)
        closed = book.closed if book else 0
        if not self.rules.rounds_counted:
            return closed == 0 and self.jobs[job].round > 0
        return closed < self.jobs[job].round

    # ---- objects and records

    def create(self, kind: str, job: int, *more: Any) -> Any:
        """Create an object whose value comes last, or adopt what is there."""
        name, value = (kind, job, *more[:-1]), more[-1]
        if name not in self.objects:
            self.objects[name] = value
            self.tell("create", *name, value)
            failed = kind == "result" and not value.completed
            if job in self.hands_at_cancel and kind != "index" and not failed:
                self.created_since[job] = self.created_since.get(job, 0) + 1
        return self.objects[name]

    def publish(self, kind: str, subject: Any, detail: Any = None) -> None:
        """An event, to all of its readers."""
        records = [Record(reader, kind, subject, detail) for reader in READERS[kind]]
        self.bag += records
        if kind != "silent":
            self.history += records

    def leave(self, kind: str, subject: Any, detail: Any = None) -> None:
        """An event leaves a transaction."""
        if self.rules.outbox:
            self.outbox.append(Record("", kind, subject, detail))
        elif self.chaos > 0 and self.chance() < 0.15:
            self.chaos -= 1
            self.tell("DIES between commit and publishing", kind, subject)
        else:
            self.publish(kind, subject, detail)

    def relay(self) -> None:
        """The outbox's oldest goes out; a relay that dies before it marks it sends it again."""
        _, kind, subject, detail = self.outbox[0]
        self.publish(kind, subject, detail)
        if self.chaos > 0 and self.chance() < 0.15:
            self.chaos -= 1
            self.tell("RELAY dies between publishing and marking", kind, subject)
        else:
            self.outbox.pop(0)
