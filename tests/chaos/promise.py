"""The promise, held against a job that is over.

Whatever was killed, paused, repeated or reordered: every URL ends with one outcome, the one that
the truth says; exactly the number is kept; of every group of equal images one; what was decided has
never changed. And nothing is left: no staging, no slot, no lag, no event, no dead letter, no chunk.
`violations` makes every check and gives a sentence for each that fails.
"""

import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pixcrawler.client.errors import ApiError, CommandError
from pixcrawler.common.errors import PixCrawlerError
from tests.chaos.orders import Order, Wish
from tests.chaos.witness import Witness
from tests.e2e import checks
from tests.e2e.system import System
from tests.e2e.waiting import DEADLINE_S, until

TABLES = ("job_chunks", "job_rounds", "image_claims", "chunk_claims", "job_progress")
FOLDERS = ("jobs", "staging", "datasets")


@dataclass(frozen=True, slots=True)
class Over:
    """A job that is over.

    Attributes:
        system: Where it ran.
        witness: Who has looked all the time.
        job_id: Its id.
        order: What it was asked to be.
        quiet: The archives of a quiet run of its like, by index of the chunk.
        folder: Where its dataset may be fetched to.
        deadline_s: What may take a moment has this long.
        last: Of several jobs: it is looked at what they share, too.
    """

    system: System
    witness: Witness
    job_id: str
    order: Order
    quiet: Mapping[int, str]
    folder: Path
    deadline_s: float = DEADLINE_S
    last: bool = True


def as_the_truth_says(over: Over) -> None:
    """One outcome for every URL, the right one; the exact number; one of each group; the index."""
    folder = over.folder / over.job_id
    checks.as_the_truth_says(
        over.system, over.job_id, over.order.truth, folder, requested=_requested(over)
    )


def nothing_changed(over: Over) -> None:
    """Every object that is written once has the bytes that it had when it appeared."""
    said = over.witness.changed(over.job_id)
    assert not said, said


def archives_are_the_index(over: Over) -> None:
    """The archives in the store are those of the index, neither more nor fewer, and all were seen.

    (One that belongs to a failed chunk is swept, after a moment.)
    """
    indexed = over.system.archives(over.job_id)

    def stored() -> dict[int, str]:
        over.witness.look()
        names = set(over.system.names(f"datasets/{over.job_id}/chunk_"))
        seen = over.witness.archives(over.job_id)
        return {_index(name): seen.get(name, "never seen") for name in names}

    until(
        "the archives are those of the index",
        lambda: stored() == indexed,
        deadline_s=over.deadline_s,
        about=lambda: {"stored": stored(), "index": indexed},
    )


def as_in_a_quiet_run(over: Over) -> None:
    """Duplicates within chunks, more asked for than there is: the same archives as in quiet."""
    if over.order.wish is Wish.QUIET:
        assert over.quiet, "there was no quiet run"
        assert over.system.archives(over.job_id) == dict(over.quiet)


def numbers_add_up(over: Over) -> None:
    """Progress, chunks, outcomes and claims tell the same; one `job.finished` a round."""
    checks.adds_up(over.system, over.job_id)
    kept = over.system.progress(over.job_id)["images"]["valid"]
    assert _live_claims(over) == kept, f"{_live_claims(over)} images are claimed, {kept} kept"
    _shown_as_stored(over)


def nothing_stuck(over: Over) -> None:
    """No chunk waits or works, and no round is open."""
    rows = over.system.rows(
        "SELECT chunk_index, status FROM job_chunks "
        "WHERE job_id = $1 AND status IN ('pending', 'processing')",
        over.job_id,
    )
    assert not rows, [tuple(row) for row in rows]
    (row,) = over.system.rows(
        "SELECT round, (SELECT max(r.round) FROM job_rounds r WHERE r.job_id = j.job_id "
        "AND closed_at IS NOT NULL) FROM crawl_jobs j WHERE job_id = $1",
        over.job_id,
    )
    assert row[0] == row[1], f"round {row[0]} is open, {row[1]} was closed last"


def nothing_left(over: Over) -> None:
    """No staging; and no slot, no lag, no event that waits, no dead letter of anybody's."""
    check = checks.nothing_left if over.last else checks.no_staging
    check(over.system, over.job_id, deadline_s=over.deadline_s)


def witness_looked(over: Over) -> None:
    """The witness has not been blind."""
    assert not over.witness.errors, over.witness.errors[:3]


def cancelled(over: Over) -> None:
    """What was uploaded is there, with an index; every other chunk says `cancelled`."""
    system, job_id = over.system, over.job_id
    assert system.job(job_id)["status"] in {"cancelled", "completed", "incomplete"}
    chunks = [chunk for chunk in system.chunks(job_id) if not chunk["superseded"]]
    lost = {chunk["error_message"] for chunk in chunks if chunk["status"] == "failed"}
    assert lost <= {"cancelled"}, lost
    system.fetch(job_id, over.folder / job_id)


def erased(over: Over) -> None:
    """A deleted job: 404, and soon no row of it, and no object."""
    system, job_id = over.system, over.job_id
    assert system.missing(job_id), "it is there"

    def left() -> dict[str, int]:
        found = {table: system.count(table, job_id) for table in TABLES}
        found |= {folder: len(system.names(f"{folder}/{job_id}/")) for folder in FOLDERS}
        return {name: number for name, number in found.items() if number}

    until("nothing of it is left", lambda: not left(), deadline_s=over.deadline_s, about=left)


Check = Callable[[Over], None]

OVER: tuple[Check, ...] = (
    nothing_stuck,
    as_the_truth_says,
    nothing_changed,
    archives_are_the_index,
    as_in_a_quiet_run,
    numbers_add_up,
    nothing_left,
    witness_looked,
)
CANCELLED: tuple[Check, ...] = (
    nothing_stuck,
    cancelled,
    nothing_changed,
    archives_are_the_index,
    numbers_add_up,
    nothing_left,
    witness_looked,
)
ERASED: tuple[Check, ...] = (erased, nothing_left, witness_looked)
BY_WISH: Mapping[Wish, tuple[Check, ...]] = {Wish.CANCELLED: CANCELLED, Wish.DELETED: ERASED}


def violations(over: Over) -> list[str]:
    """What is not as was promised: the check's name, and what it found."""
    said = []
    for check in BY_WISH.get(over.order.wish, OVER):
        try:
            check(over)
        except (AssertionError, ApiError, CommandError, PixCrawlerError) as error:
            said.append(f"{check.__name__}: {_words(error)}")
    return said


def _words(error: Exception) -> str:
    """What it says, and where; pytest's explanations are not there in the long run."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{str(error) or repr(error)} ({Path(place.filename).name}: {place.line})"


def _requested(over: Over) -> int | None:
    """Images asked for, where they are fewer than there are.

    (Extending has no key that would make it safe to repeat: who loses the answer asks again.)
    """
    order = over.order
    if order.number is None or order.wish is not Wish.EXTENDED:
        return order.number
    asked = int(over.system.job(over.job_id)["max_images"])
    assert asked > order.number, f"{asked} images are asked for, {order.number} were before"
    assert (asked - order.number) % order.more == 0, f"{asked} is not {order.number} and more"
    return asked


def _index(archive: str) -> int:
    return int(archive.rpartition("-")[2].partition(".")[0])


def _live_claims(over: Over) -> int:
    """Images claimed by chunks that have not failed."""
    (row,) = over.system.rows(
        "SELECT count(*) FROM image_claims i JOIN job_chunks c USING (chunk_id) "
        "WHERE i.job_id = $1 AND c.status = 'completed'",
        over.job_id,
    )
    return int(row[0])


def _shown_as_stored(over: Over) -> None:
    """`job_progress` and `job_chunks`, as they are in the database, count the same."""
    (row,) = over.system.rows("SELECT progress FROM job_progress WHERE job_id = $1", over.job_id)
    shown = json.loads(row[0])
    rows = over.system.rows(
        "SELECT status, count(*) FROM job_chunks c WHERE job_id = $1 "
        "AND NOT EXISTS (SELECT 1 FROM job_chunks r WHERE r.retry_of = c.chunk_id) "
        "GROUP BY status",
        over.job_id,
    )
    stored = {str(row[0]): int(row[1]) for row in rows}
    counted = {"completed": shown["completed_chunks"], "failed": shown["failed_chunks"]}
    assert {k: v for k, v in counted.items() if v} == stored, (counted, stored)
