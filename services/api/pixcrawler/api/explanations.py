"""Why a job is not done, in plain sentences: a pure function of what the database has about it.

The most important comes first: what is wrong before what takes its time, and that before what is
only to be known. Nothing here guesses: a sentence is there only where rows say so.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Literal

from pixcrawler.api.situations import Delayed, Held, Situation
from pixcrawler.api.views import TERMINAL, View
from pixcrawler.common.controls import STAGES, Control
from pixcrawler.common.events import JobStatus

Code = Literal[
    "not_started",
    "cancelling",
    "event_not_sent",
    "not_planned",
    "stage_paused",
    "source_paused",
    "chunk_overdue",
    "waits_after_failure",
    "waits_for_slot",
    "chunk_in_stage",
    "source_unanswered",
    "chunks_failed",
    "deciding",
    "dataset_pending",
    "progress_behind",
    "finished",
    "exhausted",
    "budget",
    "unavailable",
    "cancelled",
]

FIRST, LAST = STAGES[0], STAGES[-1]
EACH = 5
"""Chunks of one kind that have a sentence of their own."""
PATIENCE_S = 10.0
"""Seconds that an event or a table may take to show; longer is worth a sentence."""
QUIET_S = 60.0
"""Seconds without a sign of life after which it is said when the chunk is planned again. Stages
give one every 20 s at least."""

WHY = {
    "exhausted": "no search has more to give",
    "budget": "as many candidates were tried as its refill_factor allows",
    "unavailable": "no search that may have more could be asked",
}


class Reason(View):
    """One reason why a job is not done, or how it ended."""

    code: Code
    """For machines; new ones may come."""
    sentence: str
    """For people."""
    chunk_id: str | None = None
    """The chunk that it is about, if it is one."""
    stage: str | None = None
    """Likewise the stage that has it."""
    worker: str | None = None
    """Likewise the replica, as far as it has told."""
    since: datetime | None = None
    """Since when it is so."""
    until: datetime | None = None
    """When it changes by itself: the chunk is tried again, or taken back."""
    command: str | None = None
    """What shows more of it, or what to do."""


class Explanation(View):
    """Why a job is not done, or how it ended."""

    job_id: str
    """The job."""
    status: JobStatus
    """How it is."""
    as_of: datetime
    """When that was so, by the database's clock."""
    reasons: tuple[Reason, ...]
    """The most important first."""


def explain(told: Situation, *, capacity: int, dataset_is_there: bool = False) -> Explanation:
    """Why a job is not done, or how it ended.

    Args:
        told: What the database has about it.
        capacity: Slots of the cluster.
        dataset_is_there: Whether the dataset of its latest round is stored; asked only where
            `is_closing` says so.
    """
    job = told.job
    if job.round == 0:
        reasons = [_not_started(told)]
    elif job.finished_round >= job.round and job.status in TERMINAL:
        reasons = [_end(told), *_failed(told)]
    elif is_closing(told):
        reasons = [*_closed(told, dataset_is_there=dataset_is_there), *_failed(told)]
    else:
        reasons = list(_open(told, capacity))
    return Explanation(job_id=job.job_id, status=job.status, as_of=told.now, reasons=tuple(reasons))


def is_closing(told: Situation) -> bool:
    """Whether the planner has closed the latest round, and this is not shown yet."""
    job = told.job
    closed = told.closed_at is not None and told.book_round >= job.round
    return closed and job.finished_round < job.round


# ---- before and after


def _not_started(told: Situation) -> Reason:
    return Reason(
        code="not_started",
        sentence="Nobody has started it: it was made with start=false.",
        since=told.job.created_at,
        command=f"POST /v1/jobs/{told.job.job_id}/start",
    )


def _end(told: Situation) -> Reason:
    """How its latest round ended."""
    job = told.job
    ended = job.progress.finished_at if job.progress else None
    kept = told.facts.kept if told.facts else (job.progress.images.valid if job.progress else 0)
    asked = told.facts.requested if told.facts else job.max_images
    count = f"{kept} of {asked} images are kept"
    if job.status == "cancelled":
        sentence = f"It was cancelled; {count}, as far as they were packed before."
        return Reason(code="cancelled", sentence=sentence, since=ended)
    is_so = "has failed" if job.status == "failed" else f"is {job.status}"
    why = told.facts.reason if told.facts else ""
    if why not in WHY:
        return Reason(code="finished", sentence=f"It {is_so}: {count}.", since=ended)
    sentence = f"It {is_so}: {count}, and {WHY[why]}{_sources(told)}."
    command = f"pixcrawler jobs retry {job.job_id}" if why == "unavailable" else None
    code: Code = why  # type: ignore[assignment] # the keys of WHY are codes
    return Reason(code=code, sentence=sentence, since=ended, command=command)


def _sources(told: Situation) -> str:
    """Which searches could not be asked, in brackets."""
    reasons = dict.fromkeys(f"{owed.source}: {owed.reason}" for owed in told.owed if owed.reason)
    return f" ({'; '.join(reasons)})" if reasons else ""


def _closed(told: Situation, *, dataset_is_there: bool) -> Iterator[Reason]:
    """The round is closed, and its end is not shown yet."""
    facts = told.facts
    how = f" as {facts.status}" if facts else ""
    why = f" since {WHY[facts.reason]}" if facts and facts.reason in WHY else ""
    closed = f"Round {told.book_round} was closed{how}{why}"
    if dataset_is_there:
        yield Reason(
            code="progress_behind",
            sentence=f"{closed} and its dataset is stored, but the shown progress does not say so "
            f"yet: the tracker is behind, or has not heard of it.",
            since=told.closed_at,
            command="pixcrawler topics lag",
        )
        return
    yield from _unsent(told)
    yield from (_stage_paused(each) for each in told.stopped if each.name == LAST)
    yield Reason(
        code="dataset_pending",
        sentence=f"{closed}; its dataset is still to be written by the uploader.",
        stage="uploader",
        since=told.closed_at,
        command="pixcrawler topics lag",
    )


# ---- an open round


def _open(told: Situation, capacity: int) -> Iterator[Reason]:
    """Why an open round goes on, the most important first."""
    cancelled = told.job.cancelled
    if cancelled:
        yield Reason(
            code="cancelling",
            sentence="It was cancelled; the planner gives up its open chunks and closes the round.",
            since=told.asked_at,
            command="pixcrawler topics lag",
        )
    yield from _unsent(told)
    if not cancelled and told.book_round < told.job.round:
        yield _not_planned(told)
    if not cancelled:
        yield from _stopped(told)
    overdue = [one for one in told.held if one.deadline_at and one.deadline_at <= told.now]
    yield from _some(told, [_overdue(told, one) for one in overdue], len(overdue))
    yield from _some(told, [_delayed(told, d) for d in told.delayed], told.delayed_chunks)
    if told.line.place is not None:
        yield _waits(told, capacity)
    working = [one for one in told.held if not (one.deadline_at and one.deadline_at <= told.now)]
    more = told.job.chunks.processing - len(overdue)
    yield from _some(told, [_working(told, one) for one in working], more)
    yield from (
        Reason(
            code="source_unanswered",
            sentence=f"{owed.source} could not be asked{_for(owed.keyword)}: "
            f"{owed.reason or 'it did not say why'}. The job goes on with its other searches and "
            "asks this one again later.",
        )
        for owed in told.owed
    )
    yield from _failed(told)
    if not (cancelled or told.held or told.job.chunks.pending or _paused_sources(told)):
        yield from _deciding(told)
    yield from _behind(told)


def _unsent(told: Situation) -> Iterator[Reason]:
    """An event about the job has not left the outbox."""
    if told.unsent is None or _age(told, told.unsent) < PATIENCE_S:
        return
    yield Reason(
        code="event_not_sent",
        sentence=f"An event about it waits in the outbox {_long(told, told.unsent)}: Kafka does "
        "not acknowledge, or neither the api nor the planner relays.",
        since=told.unsent,
        command="pixcrawler topics lag",
    )


def _not_planned(told: Situation) -> Reason:
    asked = told.asked_at or told.job.created_at
    return Reason(
        code="not_planned",
        sentence=f"Round {told.job.round} was asked for {_span(_age(told, asked))} ago, and the "
        "planner has not taken it up yet.",
        stage="planner",
        since=asked,
        command="pixcrawler topics lag",
    )


def _stopped(told: Situation) -> Iterator[Reason]:
    """What operators have stopped that this job still has before it."""
    reached = [one.stage or FIRST for one in told.held]
    reached += [FIRST] if told.job.chunks.pending else []
    for control in told.stopped:
        later = control.kind == "stage" and STAGES[: STAGES.index(control.name) + 1]
        if later and not set(later).isdisjoint(reached):
            yield _stage_paused(control)
    for control in _paused_sources(told):
        yield Reason(
            code="source_paused",
            sentence=f"The source {control}: it is not asked. The job goes on with its other "
            "searches, and waits where there is none.",
            since=control.since,
            command=f"pixcrawler resume source {control.name}",
        )


def _stage_paused(control: Control) -> Reason:
    return Reason(
        code="stage_paused",
        sentence=f"The {control}: it takes nothing more, and what stands in front of it waits.",
        stage=control.name,
        since=control.since,
        command=f"pixcrawler resume stage {control.name}",
    )


def _paused_sources(told: Situation) -> list[Control]:
    wanted = told.job.sources
    return [each for each in told.stopped if each.kind == "source" and each.name in wanted]


def _overdue(told: Situation, chunk: Held) -> Reason:
    return _of(
        chunk,
        "chunk_overdue",
        f"Chunk {chunk.index} has given no sign of life {_long(told, chunk.last_seen_at)} in the "
        f"{chunk.stage or 'downloader'}{_on(chunk.worker)}; it was to be taken back at "
        f"{_at(chunk.deadline_at or told.now)}, so the planner is late or does not run.",
        command="pixcrawler topics lag",
    )


def _working(told: Situation, chunk: Held) -> Reason:
    who = _on(chunk.worker) or ", and no replica has told of it yet"
    silent = _age(told, chunk.last_seen_at)
    sentence = (
        f"Chunk {chunk.index} has been in the {chunk.stage or 'downloader'} "
        f"{_long(told, chunk.since)}{who}; last sign of life {_span(silent)} ago"
    )
    if chunk.takebacks:
        often = "once" if chunk.takebacks == 1 else f"{chunk.takebacks} times"
        sentence += f"; taken back {often} before"
    if silent >= QUIET_S and chunk.deadline_at:
        sentence += f"; without another it is taken back at {_at(chunk.deadline_at)}"
    quiet = silent >= QUIET_S or bool(chunk.takebacks)
    letters = f"pixcrawler dlq list {chunk.stage or 'downloader'} --state open"
    return _of(chunk, "chunk_in_stage", f"{sentence}.", command=letters if quiet else None)


def _of(chunk: Held, code: Code, sentence: str, *, command: str | None) -> Reason:
    return Reason(
        code=code,
        sentence=sentence,
        chunk_id=chunk.chunk_id,
        stage=chunk.stage or "downloader",
        worker=chunk.worker or None,
        since=chunk.since,
        until=chunk.deadline_at,
        command=command,
    )


def _delayed(told: Situation, chunk: Delayed) -> Reason:
    why = ": ".join(filter(None, (chunk.error, chunk.message))) or "it did not say why"
    left = _span((chunk.not_before - told.now).total_seconds())
    return Reason(
        code="waits_after_failure",
        sentence=f"Chunk {chunk.index} waits until {_at(chunk.not_before)} ({left} more): attempt "
        f"{chunk.attempt} failed in the {chunk.stage or 'downloader'}{_on(chunk.worker)}: {why}.",
        chunk_id=chunk.chunk_id,
        stage=chunk.stage or None,
        worker=chunk.worker or None,
        until=chunk.not_before,
        command=f"pixcrawler chunks {told.job.job_id}",
    )


def _waits(told: Situation, capacity: int) -> Reason:
    """Its chunks wait for slots: where in the line."""
    line = told.line
    many = f"{line.chunks} chunks wait" if line.chunks > 1 else "1 chunk waits"
    first = "the first of them is" if line.chunks > 1 else "it is"
    place = f"{first} {ordinal(line.place or 1)} in a line of {line.total}"
    taken = f"{line.active} of {capacity} slots are taken"
    if line.active < capacity:
        taken += ", so the planner lets the first of the line through at once, if it runs"
    return Reason(
        code="waits_for_slot",
        sentence=f"{many} for a slot: {place} (by priority, this job's is {told.job.priority}); "
        f"{taken}.",
        command="pixcrawler capacity",
    )


def _failed(told: Situation) -> Iterator[Reason]:
    number = told.job.chunks.failed
    if number and not told.job.cancelled:
        noun, last = (
            ("chunk has", "because") if number == 1 else ("chunks have", "the last because")
        )
        yield Reason(
            code="chunks_failed",
            sentence=f"{number} {noun} failed for good, {last}: {told.failure or 'unknown'}.",
            command=f"pixcrawler jobs retry {told.job.job_id}",
        )


def _deciding(told: Situation) -> Iterator[Reason]:
    """Nothing is open, yet the round is."""
    if told.book_round < told.job.round:
        return
    yield Reason(
        code="deciding",
        sentence="All its chunks have ended; the planner is about to plan more or to close the "
        "round.",
        stage="planner",
        since=told.ended_at,
        command="pixcrawler topics lag",
    )


def _behind(told: Situation) -> Iterator[Reason]:
    """What is shown is older than what is so."""
    counts, shown = told.job.chunks, told.job.progress
    ended = counts.completed + counts.failed
    known = shown.completed_chunks + shown.failed_chunks if shown else 0
    if ended <= known or told.ended_at is None or _age(told, told.ended_at) < PATIENCE_S:
        return
    yield Reason(
        code="progress_behind",
        sentence=f"The shown progress is behind: {known} chunks have ended there, {ended} in fact.",
        since=told.ended_at,
        command="pixcrawler topics lag",
    )


def _some(told: Situation, reasons: Sequence[Reason], number: int) -> Iterator[Reason]:
    """The first few; the others as a number."""
    yield from reasons[:EACH]
    left = number - min(len(reasons), EACH)
    if reasons and left > 0:
        yield Reason(
            code=reasons[0].code,
            sentence=f"The same goes for {left} more of its chunks.",
            command=f"pixcrawler chunks {told.job.job_id}",
        )


# ---- words


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    special = {1: "st", 2: "nd", 3: "rd"}
    teen = number % 100 in (11, 12, 13)
    return f"{number}{'th' if teen else special.get(number % 10, 'th')}"


def _age(told: Situation, moment: datetime) -> float:
    return max((told.now - moment).total_seconds(), 0.0)


def _long(told: Situation, moment: datetime) -> str:
    return f"for {_span(_age(told, moment))}"


def _span(seconds: float) -> str:
    """40 s, 12 min, 3 h 05 min."""
    minutes = int(seconds) // 60
    if seconds < 2 * 60:
        return f"{max(seconds, 0):.0f} s"
    return f"{minutes} min" if minutes < 2 * 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _at(moment: datetime) -> str:
    """To the second, UTC."""
    return (moment + timedelta(microseconds=500_000)).strftime("%Y-%m-%d %H:%M:%SZ")


def _on(worker: str) -> str:
    return f" on {worker}" if worker else ""


def _for(keyword: str) -> str:
    return f" for {keyword!r}" if keyword else ""
