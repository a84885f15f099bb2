"""The chunks of one job: candidates, parts, claims, verdicts, archive, result.

Downloader, validator and uploader stop between any two effects. The planner is small here: it
retries, takes back, gives up, asks for more and closes. Every chunk has candidates that other
chunks have too, the web answers otherwise each time, fetches and uploads fail.

Which image is kept is decided by the validator's own `rule`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from pixcrawler.common.outcomes import Outcome
from pixcrawler.validator.claims import Image, Matches, rule
from tests.model.rules import ChunkRules
from tests.model.world import Name, Record, Steps, World

PART = 2
"""Candidates in a part."""
CANDIDATES = 4
"""Candidates in a chunk."""
WANTED = 6
"""Images asked for: two chunks give them if nothing fails and nothing is a duplicate."""
CHUNKS = 14
"""Chunks at most: more than any schedule's bad luck can use up."""
RETRIES = 2
TAKEBACKS = 5


class Seen(NamedTuple):
    """What became of a candidate: the image behind it, None if it could not be fetched."""

    position: int
    image: int | None


class Verdicts(NamedTuple):
    """URL, image and outcome of every candidate, and the images that are kept, in order."""

    outcomes: tuple[tuple[str, int | None, str], ...]
    kept: tuple[int, ...]


class Result(NamedTuple):
    """How a chunk ended."""

    completed: bool
    kept: int = 0


@dataclass(slots=True)
class Row:
    """A row of `job_chunks`; `failures` are attempts that failed in truth."""

    open: bool = True
    completed: bool = False
    attempt: int = 1
    retries: int = 0
    takebacks: int = 0
    kept: int = 0
    failures: int = 0

    @property
    def failed(self) -> bool:
        return not (self.open or self.completed)


READERS = {
    "planned": "downloader",
    "downloaded": "validator",
    "validated": "uploader",
    "uploaded": "planner",
    "failed": "planner",
    "silent": "planner",
}


class ChunkWorld(World):
    """One schedule of one job's chunks."""

    def __init__(
        self, seed: int, rules: ChunkRules, *, chaos: int | None = None, traced: bool = False
    ) -> None:
        super().__init__(seed, chaos=0, traced=traced)
        self.chaos = self.pick((0, 4, 10, 10, 16)) if chaos is None else chaos
        self.rules = rules
        self.rows: dict[int, Row] = {}
        self.claims: dict[int, int] = {}
        self.decided: set[int] = set()
        self.closed: int | None = None
        self.flaky = self.pick((0, 4, 12)) if self.chaos else 0
        self.refusals = self.pick((0, 2, 5)) if self.chaos else 0
        self.doomed: int | None = self.pick((None, None, 0)) if self.chaos else None
        self.silences = 3
        self.sleepy = self.pick((None, "downloader", "validator", "uploader", "validator"))
        self.first_bytes: dict[Name, Any] = {}
        self.told: dict[str, set[str]] = {}
        self.over = False
        self.supply: dict[int, list[int]] = {}
        shared, overlap = self.pick((2, 4, 8)), self.pick((0.7, 1.0))
        for chunk in range(2):
            self.supply[chunk] = [
                int(self.chance() * shared) if self.chance() < overlap else 100 + chunk * 10 + i
                for i in range(CANDIDATES)
            ]
            self.plan(chunk)

    # ---- the world outside

    def search(self, chunk: int) -> tuple[tuple[str, int], ...]:
        """What a search answers now: URLs and the images behind them."""
        images = self.supply.setdefault(chunk, [200 + chunk * 10 + i for i in range(CANDIDATES)])
        urls = [(f"{chunk}.{place}", image) for place, image in enumerate(images)]
        if self.chance() < 0.3:
            urls.reverse()
        return tuple(urls)

    def truth(self, url: str) -> int:
        """The image that a URL shows."""
        chunk, _, place = url.partition(".")
        return self.supply[int(chunk)][int(place)]

    def fetch(self, image: int) -> int | None:
        """The web's answer now."""
        if self.flaky and self.chance() < 0.25:
            self.flaky -= 1
            return None
        return image

    # ---- objects and records

    def name(self, kind: str, chunk: int, attempt: int, *more: int) -> Name:
        """An object's name."""
        if self.rules.no_attempt_in_names or kind == "result":
            return (kind, chunk, *more)
        return (kind, chunk, *more, f"attempt {attempt}")

    def create(self, name: Name, value: Any) -> Any:
        """Create an object, or adopt what is there."""
        if self.over:
            self.breaks("a replay after the end creates nothing")
        if self.rules.write_once and name in self.objects:
            return self.objects[name]
        self.tell("create", name, value)
        self.objects[name] = value
        if name[0] != "part" and self.first_bytes.setdefault(name, value) != value:
            self.breaks("what is decided never changes")
        return value

    def publish(self, kind: str, chunk: int, detail: Any) -> None:
        """An event."""
        record = Record(READERS[kind], kind, chunk, detail)
        self.bag.append(record)
        if kind != "silent":
            self.history.append(record)

    def plan(self, chunk: int) -> None:
        """A chunk's row, and its first attempt."""
        self.rows[chunk] = Row()
        self.tell("plan", chunk)
        self.publish("planned", chunk, 1)

    def result(self, chunk: int) -> Result | None:
        found: Result | None = self.objects.get(("result", chunk))
        return found

    def work_on(self, record: Record) -> Steps:
        chunk, detail = record.subject, record.detail
        assert isinstance(chunk, int)
        match record.reader:
            case "downloader":
                return self.downloader(chunk, detail)
            case "validator":
                return self.validator(chunk, detail)
            case "uploader":
                return self.uploader(chunk, detail)
            case _:
                return self.planner(record.kind, chunk, detail)

    # ---- the stages

    def ended(self, chunk: int) -> bool:
        """Whether a stage has nothing to do any more."""
        return self.rules.look_for_result and ("result", chunk) in self.objects

    def complain(
        self, chunk: int, attempt: int, *, missing: bool = False, retriable: bool = True
    ) -> None:
        """An attempt failed."""
        if missing:
            ended = ("result", chunk) in self.objects
            self.breaks(
                "nobody complains of a chunk that has ended" if ended else "no input is missing"
            )
        self.rows[chunk].failures += 1
        self.publish("failed", chunk, (attempt, retriable))

    def missed(self, chunk: int, attempt: int) -> None:
        """An input is not there."""
        if not (self.rules.look_once_more and ("result", chunk) in self.objects):
            self.complain(chunk, attempt, missing=True)

    def downloader(self, chunk: int, attempt: int) -> Steps:
        if self.ended(chunk):
            return
        if not self.rules.effect_before_event:
            self.publish("downloaded", chunk, attempt)
        yield
        name = self.name("candidates", chunk, attempt)
        candidates = self.objects.get(name) if self.rules.candidates_pinned else None
        if candidates is None:
            candidates = self.search(chunk)
            yield
            candidates = (
                self.create(name, candidates) if self.rules.candidates_pinned else candidates
            )
            if not self.rules.candidates_pinned:
                self.objects[name] = candidates
        for number in range(CANDIDATES // PART):
            part = self.name("part", chunk, attempt, number)
            if part in self.objects:
                if self.rules.look_at_own:
                    continue
                self.breaks("nothing is fetched that is stored already")
            yield
            stretch = range(number * PART, (number + 1) * PART)
            got = tuple(Seen(at, self.fetch(candidates[at][1])) for at in stretch)
            yield
            self.create(part, got)
        if self.rules.effect_before_event:
            yield
            self.publish("downloaded", chunk, attempt)

    def parts(self, chunk: int, attempt: int) -> list[Seen] | None:
        """What was fetched; None if some of it is missing."""
        found: list[Seen] = []
        for number in range(CANDIDATES // PART):
            part = self.objects.get(self.name("part", chunk, attempt, number))
            if part is None:
                return None
            found += part
        return found

    def validator(self, chunk: int, attempt: int) -> Steps:
        if self.ended(chunk):
            return
        name = self.name("verdicts", chunk, attempt)
        verdicts = self.objects.get(name)
        if verdicts is None or not self.rules.look_at_own:
            yield
            candidates = self.objects.get(self.name("candidates", chunk, attempt))
            seen = self.parts(chunk, attempt)
            if candidates is None or seen is None:
                self.missed(chunk, attempt)
                return
            yield
            first: dict[int, int] = {}
            for at, image in seen:
                if image is not None:
                    first.setdefault(image, at)
            if self.rules.claims_before_verdicts:
                kept = yield from self.claim(chunk, first)
                if kept is None:
                    return
            else:
                kept = self.judge(chunk, first)
            yield
            verdicts = self.create(name, _verdicts(candidates, seen, first, kept))
            if not self.rules.claims_before_verdicts:
                yield
                self.claims.update(dict.fromkeys(kept, chunk))
        for url, _, outcome in verdicts.outcomes:
            self.told.setdefault(url, set()).add(outcome)
        yield
        self.publish("validated", chunk, attempt)

    def dead(self, chunk: int) -> bool:
        """Whether a chunk's claims do not count."""
        row = self.rows.get(chunk)
        return self.rules.claims_released and row is not None and row.failed

    def judge(self, chunk: int, first: dict[int, int]) -> list[int]:
        """The images that the validator's rule keeps, against the live claims."""
        live = {i: c for i, c in self.claims.items() if not self.dead(c)}
        images = [Image(at, f"{chunk}.{at}", i.to_bytes(2), i) for i, at in first.items()]
        others = Matches(equal={at: str(live[i]) for i, at in first.items() if i in live})
        room = WANTED - len(live) if self.rules.claims_bounded else CANDIDATES
        _, kept = rule(images, others, near=None, room=room)
        return [image.phash for image in kept]

    def claim(self, chunk: int, first: dict[int, int]) -> Any:
        """The transaction of a chunk's claims: the kept images, None if it may not claim."""
        if self.rows[chunk].failed:
            return None
        mine = [i for i, c in self.claims.items() if c == chunk]
        before = chunk in self.decided if self.rules.empty_claims_marked else bool(mine)
        if before and self.rules.claims_read_back:
            return mine
        kept = self.judge(chunk, first)
        if not self.rules.claims_locked:
            yield
        self.claims.update(dict.fromkeys(kept, chunk))
        self.decided.add(chunk)
        self.tell("claim", chunk, kept)
        return kept

    def uploader(self, chunk: int, attempt: int) -> Steps:
        result = self.result(chunk) if self.rules.look_for_result else None
        if result is None:
            verdicts = self.objects.get(self.name("verdicts", chunk, attempt))
            seen = self.parts(chunk, attempt)
            yield
            if verdicts is None or seen is None:
                self.missed(chunk, attempt)
                result = self.result(chunk)
                if result is None or not self.rules.look_once_more:
                    return
            else:
                if chunk == self.doomed or (self.refusals and self.chance() < 0.3):
                    self.refusals -= 1
                    self.complain(chunk, attempt, retriable=chunk != self.doomed)
                    return
                yield from self.pack(chunk, attempt, verdicts, seen)
                result = self.create(("result", chunk), Result(True, len(verdicts.kept)))
                yield
        if not result.completed:
            self.unpack(chunk)
            return
        self.publish("uploaded", chunk, attempt)
        yield
        self.clean(chunk)

    def pack(self, chunk: int, attempt: int, verdicts: Verdicts, seen: list[Seen]) -> Steps:
        """The archive of what is kept."""
        there = {image for _, image in seen}
        if not set(verdicts.kept) <= there:
            self.breaks("what is kept is in the archive")
        if verdicts.kept:
            self.create(self.name("archive", chunk, attempt), verdicts.kept)
            yield

    def unpack(self, chunk: int) -> None:
        """A failed chunk has no archive."""
        for name in [n for n in self.objects if n[0] == "archive" and n[1] == chunk]:
            del self.objects[name]

    def clean(self, chunk: int) -> None:
        """Staging of an ended chunk is not needed."""
        for name in [n for n in self.objects if n[0] == "part" and n[1] == chunk]:
            del self.objects[name]

    # ---- the planner

    def planner(self, kind: str, chunk: int, detail: Any) -> Steps:
        row = self.rows[chunk]
        if kind == "uploaded":
            yield from self.heard_uploaded(chunk, row)
        elif row.open and (not self.rules.failed_names_attempt or row.attempt == detail[0]):
            if self.rules.planner_reads_result and (result := self.result(chunk)) is not None:
                self.end(chunk, result)
            elif kind == "silent" and self.rules.takeback_is_no_retry:
                if row.takebacks < TAKEBACKS:
                    row.takebacks += 1
                    self.plan_again(chunk, row)
                else:
                    yield from self.give_up(chunk)
            elif detail[1] and row.retries < RETRIES:
                row.retries += 1
                self.plan_again(chunk, row)
            else:
                if detail[1] and row.failures <= RETRIES:
                    self.breaks("a chunk is given up after as many failures as are allowed")
                yield from self.give_up(chunk)
        self.look()

    def heard_uploaded(self, chunk: int, row: Row) -> Steps:
        if self.rules.uploaded_reads_result:
            result = self.result(chunk)
            yield
            if result is not None:
                self.end(chunk, result)
        else:
            row.open, row.completed = False, True

    def plan_again(self, chunk: int, row: Row) -> None:
        """Another attempt, in the same slot."""
        if ("result", chunk) in self.objects:
            self.breaks("a chunk that has ended is not planned again")
        row.attempt += 1
        self.tell("plan again", chunk, row.attempt)
        self.publish("planned", chunk, row.attempt)

    def give_up(self, chunk: int) -> Steps:
        """The one object that ends a chunk, then its row."""
        if not self.rules.result_before_row:
            self.end(chunk, Result(False))
            yield
        if not self.rules.result_ends_chunk:
            self.end(chunk, Result(False))
            return
        result = self.create(("result", chunk), Result(False))
        yield
        self.end(chunk, result)

    def end(self, chunk: int, result: Result) -> None:
        """Mark the row, unless it is."""
        row = self.rows[chunk]
        if row.open:
            row.open, row.completed, row.kept = False, result.completed, result.kept
            self.tell("row", chunk, result)

    def look(self) -> None:
        """Everything has ended: more chunks, or the end of the round."""
        if self.closed is None and not any(row.open for row in self.rows.values()):
            kept = sum(row.kept for row in self.rows.values() if row.completed)
            if kept < WANTED and len(self.rows) < CHUNKS:
                self.plan(len(self.rows))
            else:
                self.closed = kept
                self.tell("CLOSED with", kept)

    # ---- chance and time

    def disturb(self) -> None:
        self.chaos -= 1
        luck = self.chance()
        if luck < 0.2:
            self.crash()
        elif luck < 0.35:
            self.nap()
        elif luck < 0.5:
            self.wake()
        elif luck < 0.65:
            self.twice()
        elif luck < 0.8:
            self.again()
        elif self.silences:
            self.silences -= 1
            self.silent()

    def nap(self) -> None:
        """A process is paused: one of the sleepy stage, if any is at work."""
        sleepy = [w for w in self.running if w.record and w.record.reader == self.sleepy]
        self.pause(self.pick(sleepy) if sleepy else None)

    def lose(self, work: Any) -> None:
        if self.rules.commit_after_effect:
            super().lose(work)
        else:
            self.tell("CRASH, committed before", work.record)

    def silent(self) -> None:
        """A chunk in work was not heard of for its deadline."""
        if alive := [chunk for chunk, row in self.rows.items() if row.open]:
            chunk = self.pick(alive)
            self.tell("SILENT", chunk)
            self.publish("silent", chunk, (self.rows[chunk].attempt, True))

    def other(self) -> bool:
        return False

    def rest(self) -> bool:
        if self.chaos > 0:
            self.disturb()
            return True
        if self.limbo:
            self.reassign()
            return True
        if self.closed is None:
            # No record is under way, and yet somebody waits: only its deadline can help.
            self.breaks("no record is lost")
            if self.silences > -20:
                self.silences -= 1
                self.silent()
                return True
            return False
        if self.asleep:
            self.wake()
            return True
        if self.rules.sweep_by_state:
            for chunk in {n[1] for n in self.objects if n[0] in {"part", "archive"}}:
                result = self.result(chunk)
                if result is not None:
                    self.clean(chunk)
                    if not result.completed:
                        self.unpack(chunk)
        return False


def _verdicts(
    candidates: Any, seen: list[Seen], first: dict[int, int], kept: list[int]
) -> Verdicts:
    """The outcome of every candidate, by its URL."""
    outcomes = []
    for at, image in seen:
        if image is None:
            outcome = "http_error"
        elif image in kept and first[image] == at:
            outcome = Outcome.KEPT.value
        else:
            outcome = "duplicate or surplus"
        outcomes.append((candidates[at][0], image, outcome))
    return Verdicts(tuple(outcomes), tuple(i for i in first if i in kept))
