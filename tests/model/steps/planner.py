"""The planner: ends, retries, takes back, splits, refills, closes, erases, admits."""

from collections.abc import Generator
from dataclasses import replace

from tests.model.steps.state import (
    CAPACITY,
    FACTOR,
    RETRIES,
    TAKEBACKS,
    WIDTH,
    Book,
    Chunk,
    Facts,
    JobState,
    Result,
    Row,
    Stretch,
)
from tests.model.world import Record, Steps, Work

Rows = dict[int, Row]
Ended = tuple[Chunk, Result]


def planner(world: JobState, record: Record) -> Steps:
    """What the planner does with a record: it makes it look, and what it finds decides."""
    subject = record.subject
    if record.kind in {"created", "cancelled"}:
        assert isinstance(subject, int)
        yield from look(world, subject, asked=record.kind == "created")
        return
    assert isinstance(subject, tuple)
    chunk: Chunk = subject
    if chunk[0] not in world.jobs:
        return
    row = world.rows[chunk[0]].get(chunk[1])
    ended: Ended | None = None
    if not world.rules.slot_is_the_row and record.kind in {"uploaded", "failed"}:
        world.slots = max(world.slots - 1, 0)
    if row is None:
        pass
    elif record.kind == "uploaded":
        result = world.result(chunk)
        ended = (chunk, result) if result is not None else None
    elif row.status == "processing" and row.attempt == record.detail[0]:
        result = world.result(chunk)
        if result is None:
            result = yield from _failed(world, record.kind, chunk, row, retriable=record.detail[1])
        ended = (chunk, result) if result is not None else None
    yield from look(world, chunk[0], ended)


def _failed(
    world: JobState, kind: str, chunk: Chunk, row: Row, *, retriable: bool
) -> Generator[None, None, Result | None]:
    """An attempt failed or was silent: again, or given up; the result if it ended."""
    if kind == "silent" and row.takebacks < TAKEBACKS:
        if world.unwanted(chunk[0]):
            return None
        row.takebacks += 1
        row.attempt += 1
        world.leave("planned", chunk, row.attempt)
        world.tell("take back", chunk, row.attempt)
        return None
    if kind == "failed" and retriable and row.retries < RETRIES:
        row.retries += 1
        row.status = "pending"
        world.tell("wait again", chunk)
        return None
    result: Result = world.create("result", *chunk, Result(False))
    yield
    return result


def end(world: JobState, chunk: Chunk, result: Result) -> None:
    """Mark a row as its result says; ended ones stay."""
    row = world.rows.get(chunk[0], {}).get(chunk[1])
    if row is not None and row.open:
        row.status = "completed" if result.completed else "failed"
        row.kept = result.kept
        world.tell("row", chunk, row.status)


def look(world: JobState, job: int, ended: Ended | None = None, *, asked: bool = False) -> Steps:
    """Whatever is next for a job, in one transaction that starts with its lock."""
    yield from _lock(world, job)
    if world.unwanted(job) and world.rules.given_up_when_unwanted:
        yield from _give_up_all(world, job, ended)
    if job not in world.jobs:
        return
    if world.rules.job_locked:
        if ended is not None:
            end(world, *ended)
        _decide(world, job, world.rows[job], asked=asked)
    else:
        yield from _look_without_lock(world, job, ended, asked=asked)


def _lock(world: JobState, job: int) -> Steps:
    """The job's lock; now and then a process is paused while it holds it.

    Whoever is paused has its transaction ended by the server, and begins again.
    """
    while job in world.held:
        yield
    if world.chaos > 0 and world.chance() < 0.02:
        world.chaos -= 1
        world.tell("PAUSE in a transaction that holds the lock of", job)
        world.held.add(job)
        while job in world.held:
            yield


def _give_up_all(world: JobState, job: int, ended: Ended | None) -> Steps:
    """Nobody wants the job any more: end its open chunks."""
    if ended is not None:
        end(world, *ended)
    for index, row in list(world.rows.get(job, {}).items()):
        if row.open and job in world.jobs:
            result = world.create("result", job, index, Result(False))
            yield
            end(world, (job, index), result)


def _look_without_lock(world: JobState, job: int, ended: Ended | None, *, asked: bool) -> Steps:
    """Rows as they were before others wrote theirs."""
    before = {index: replace(row) for index, row in world.rows[job].items()}
    if ended is not None and (mine := before.get(ended[0][1])) is not None and mine.open:
        mine.status, mine.kept = ("completed" if ended[1].completed else "failed"), ended[1].kept
    yield
    if ended is not None:
        end(world, *ended)
    yield
    if job in world.jobs:
        _decide(world, job, before, asked=asked)


def _insert(
    world: JobState, job: int, stretch: Stretch, origin: str, of: Chunk | None = None
) -> None:
    """A new chunk, unless it is the retry of one that has its retry."""
    rows = world.rows[job]
    if of and world.rules.retried_once and any(row.retry_of == of for row in rows.values()):
        return
    rows[len(rows)] = Row(stretch, origin, of)
    world.tell("insert", (job, len(rows) - 1), stretch, origin)


def _decide(world: JobState, job: int, rows: Rows, *, asked: bool) -> None:
    """One transaction's look at these rows, the job being known."""
    state = world.jobs[job]
    if state.deleted and world.rules.deleted_is_silent:
        if not any(row.open for row in rows.values()):
            erase(world, job)
    elif state.round:
        _go_on(world, job, rows, asked=asked)


def _go_on(world: JobState, job: int, rows: Rows, *, asked: bool) -> None:
    """Apply requests; then wait for open chunks, or refill, or close."""
    book = world.books.setdefault(job, Book())
    live = world.jobs[job].wanted
    before = len(world.rows[job])
    if live and (not rows or (asked and not world.rules.split_once and not book.closed)):
        _split(world, job)
    if live and (asked or world.rules.requests_applied):
        _apply(world, job, book)
    if len(world.rows[job]) > before or any(row.open for row in rows.values()):
        say(world, job, book)
        return
    if (not rows and not world.rules.empty_rounds_close) or _is_over(world, job, book):
        return
    if live and refill(world, job, rows):
        say(world, job, book)
        return
    _close(world, job, book, rows)


def _is_over(world: JobState, job: int, book: Book) -> bool:
    """Whether the latest round is closed."""
    if not world.rules.rounds_counted and book.closed:
        return True
    return book.closed == world.jobs[job].round and world.rules.closed_once


def _split(world: JobState, job: int) -> None:
    """As many candidates as images were asked for."""
    count = min(world.jobs[job].wanted_images, len(world.supply[job]))
    for first in range(0, count, WIDTH):
        _insert(world, job, (first, min(first + WIDTH, count)), "first")


def _apply(world: JobState, job: int, book: Book) -> None:
    """The requests that were not applied yet; an extension needs nothing, the refill sees it."""
    requests = world.jobs[job].requests
    for what, chunk in requests[book.applied :]:
        if what == "retry" and chunk is not None and world.failed(chunk):
            row = world.rows[job][chunk[1]]
            if world.rules.retry_is_new_chunk:
                _insert(world, job, row.stretch, "retry", chunk)
            else:
                row.status = "pending"
    book.applied = len(requests)


def refill(world: JobState, job: int, rows: Rows) -> bool:
    """More chunks where images are missing; False if there are none to be had."""
    wanted, supply = world.jobs[job].wanted_images, world.supply[job]
    kept = sum(row.kept for row in rows.values() if row.status == "completed")
    if kept >= wanted:
        return False
    retried = {row.retry_of for row in rows.values()}
    spent = sum(
        row.stretch[1] - row.stretch[0] for i, row in rows.items() if (job, i) not in retried
    )
    if spent + WIDTH > FACTOR * wanted:
        world.cut_short.add(job)
        return False
    cursor = max((row.stretch[1] for row in rows.values()), default=0)
    if cursor < len(supply):
        _insert(world, job, (cursor, min(cursor + WIDTH, len(supply))), "more")
        return True
    claims = world.claims.get(job, {})
    lost = {image for image in supply if image not in claims or world.failed(claims[image])}
    for row in list(rows.values()):
        gone = row.status == "completed" and lost & set(supply[slice(*row.stretch)])
        if gone and world.rules.slices_run_again:
            _insert(world, job, row.stretch, "again")
            return True
    return False


def _close(world: JobState, job: int, book: Book, rows: Rows) -> None:
    """The round is over, once and for ever."""
    state = world.jobs[job]
    kept = sum(row.kept for row in rows.values() if row.status == "completed")
    status = "incomplete" if kept else "failed"
    status = "completed" if kept >= state.wanted_images else status
    book.closed = state.round
    say(world, job, book, "cancelled" if not state.wanted else status)
    world.tell("CLOSE", job, book.facts)


def say(world: JobState, job: int, book: Book, status: str = "") -> None:
    """Keep and tell the facts, if they have changed."""
    rows, state = world.rows[job], world.jobs[job]
    told = Facts(
        round=state.round,
        closed=book.closed,
        total=len(rows),
        completed=frozenset(i for i, row in rows.items() if row.status == "completed"),
        failed=frozenset(i for i, row in rows.items() if row.status == "failed"),
        superseded=frozenset(row.retry_of[1] for row in rows.values() if row.retry_of),
        status=status,
        kept=sum(row.kept for row in rows.values() if row.status == "completed"),
        wanted=state.wanted_images,
    )
    if told != book.facts:
        book.facts = told
        world.leave("facts", job, told)


def erase(world: JobState, job: int) -> None:
    """The planner's and the validator's rows of a deleted job; the uploader has its objects."""
    book = world.books.setdefault(job, Book())
    if book.closed == -1 and not world.rules.erased_again:
        return
    world.books[job] = Book(closed=-1)
    world.rows[job] = {}
    world.claims.pop(job, None)
    world.decided = {chunk for chunk in world.decided if chunk[0] != job}
    for name in [name for name in world.objects if name[1] == job]:
        del world.objects[name]


# ---- admission and the timers


def admit(world: JobState) -> Steps:
    """Give a slot to a chunk that waits, if there is one."""
    used = len(world.busy()) if world.rules.slot_is_the_row else world.slots
    if not world.rules.admission_locked:
        yield
    waiting = [
        ((job, index), row)
        for job, rows in world.rows.items()
        if not world.unwanted(job)
        for index, row in rows.items()
        if row.status == "pending"
    ]
    if used < CAPACITY and waiting:
        chunk, row = world.pick(waiting)
        result = world.result(chunk)
        if result is not None and world.rules.admission_reads_result:
            yield from look(world, chunk[0], (chunk, result))
            return
        if result is not None:
            world.breaks("a chunk that has ended gets no slot")
        row.status = "processing"
        row.attempt += 1
        world.slots += 1
        world.leave("planned", chunk, row.attempt)
        world.tell("admit", chunk, row.attempt)
    if len(world.busy()) > CAPACITY:
        world.breaks("no more chunks are in work than there are slots")


def timer(world: JobState, job: int) -> bool:
    """Every half minute: look at open jobs, sweep, repeat; whether there was anything."""
    state = world.jobs.get(job)
    if state is None:
        if world.rules.unknown_jobs_swept:
            for name in [name for name in world.objects if name[1] == job]:
                del world.objects[name]
        return False
    if state.deleted:
        return _erase_again(world, job)
    if world.rules.stray_archives_swept:
        _sweep_archives(world, job)
    looked = world.rules.timer_looks and world.is_open(job)
    if looked:
        world.running.append(Work(None, look(world, job)))
    return repeat(world, job) or looked


def _erase_again(world: JobState, job: int) -> bool:
    """What a deleted job has left, until nothing of it is there or shown."""
    shown = job in world.shown
    if shown:
        world.leave("cancelled", job, True)
    left = world.rows[job] or job in world.claims or any(n[1] == job for n in world.objects)
    erased = world.books.get(job, Book()).closed == -1
    if not left or (erased and not world.rules.erased_again):
        return shown
    world.running.append(Work(None, look(world, job)))
    return True


def _sweep_archives(world: JobState, job: int) -> None:
    for name in [name for name in world.objects if name[0] == "archive" and name[1] == job]:
        result = world.result((job, name[2]))
        if result is not None and not result.completed:
            del world.objects[name]


def repeat(world: JobState, job: int) -> bool:
    """Facts again, unless what is shown agrees."""
    book = world.books.get(job)
    if book is None or book.facts is None:
        return False
    if world.rules.repeated_until_shown:
        shown = world.shown.get(job)
        agrees = shown is not None and shown.final is not None and shown.final.closed == book.closed
        agrees = agrees and book.closed == world.jobs[job].round
    else:
        agrees = (job, book.closed) in world.finished
    if not agrees:
        world.leave("facts", job, book.facts)
    return not agrees
