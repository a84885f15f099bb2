"""What a chunk's candidates are: resolved once, in order, and pinned in the blob store.

A search that answers differently tomorrow changes nothing: whoever finds `candidates.jsonl` adopts
it. So a source that does not answer pins nothing by itself: the chunk waits for it, within bounds.
Only where others have answered the chunk goes on without it, and its head says so.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.context import Context, decide
from pixcrawler.common.controls import SOURCE_PAUSED
from pixcrawler.common.documents import (
    Candidate,
    Candidates,
    CandidatesHead,
    Stream,
    Unanswered,
)
from pixcrawler.common.errors import BlobNotFound, GiveUp
from pixcrawler.common.events import ImageTotals, Slice
from pixcrawler.downloader.concurrency import all_of
from pixcrawler.downloader.progress import pulse
from pixcrawler.downloader.sources import Away, Paused, SearchPage, Source

Sources = Mapping[str, Source]
_Answer = SearchPage | Away | GiveUp
"""A page, or why a search could not be asked."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
"""What no database or UTF-8 can hold: NUL, and halves of characters that a service cut through."""


async def pinned(
    chunk: str, slices: Sequence[Slice], sources: Sources, context: Context, blobs: BlobStore
) -> Candidates:
    """The chunk's candidates: as they were pinned, else as the sources give them now.

    Raises:
        Retry: a source does not answer now.
        GiveUp: a source is unknown, or refuses.
        Stopped: the job is no longer wanted.
    """
    name = names.candidates(chunk)
    try:
        return await _read(blobs, name)
    except BlobNotFound:
        pass
    async with pulse(lambda: context.report(0, sum(part.limit for part in slices), ImageTotals())):
        candidates = await resolve(chunk, slices, sources)
    data = await asyncio.to_thread(candidates.dump)
    if await decide(context, blobs, name, data):
        return candidates
    return await _read(blobs, name)


async def _read(blobs: BlobStore, name: str) -> Candidates:
    return await asyncio.to_thread(Candidates.parse, await blobs.read(name))


async def resolve(chunk: str, slices: Sequence[Slice], sources: Sources) -> Candidates:
    """Ask the sources for these slices; the slices take turns, and the first of a URL counts.

    Where some answer and others cannot be asked, it goes on with those that answer, and names the
    rest: as soon as asking again is known to be useless. Where none answers, one that rests is
    waited for once. Where all are paused, this attempt ends, and the planner has the chunk wait.

    Raises:
        Retry: none answers; or it is too early to go on without one.
        GiveUp: a source is unknown; or none answers, and waiting did not help; or all are paused.
    """
    for part in slices:
        if part.source not in sources:
            raise GiveUp(
                f"no source is called {part.source!r}", error="unknown_source", retriable=False
            )
    answers = await _ask(slices, sources)
    if answers and all(isinstance(answer, Paused) for answer in answers):
        raise GiveUp(_why(answers), error=SOURCE_PAUSED, retriable=True)
    rests = [answer.rest_s for answer in answers if isinstance(answer, Away) and answer.rest_s]
    if rests and not _any_page(answers):
        await asyncio.sleep(min(rests))
        answers = await _ask(slices, sources)
        if not _any_page(answers):
            raise GiveUp(_why(answers), error="source_unavailable", retriable=True)
    _raise_if_unsettled(answers)
    return _candidates(chunk, slices, answers)


async def _ask(slices: Sequence[Slice], sources: Sources) -> Sequence[_Answer]:
    return await all_of(_search(sources[part.source], part) for part in slices)


async def _search(source: Source, part: Slice) -> _Answer:
    """A page, or why there is none."""
    try:
        return await source.search(part.keyword, part.offset, part.limit)
    except Away as away:
        return away
    except GiveUp as refusal:
        if not refusal.retriable:
            raise
        return refusal


def _raise_if_unsettled(answers: Sequence[_Answer]) -> None:
    """Raise where nothing was answered, or what was not may be answered soon."""
    silent = [answer for answer in answers if not isinstance(answer, SearchPage)]
    away = [answer for answer in silent if isinstance(answer, Away)]
    if silent and not _any_page(answers):
        if away:
            raise Away(_why(answers))
        raise silent[0]
    for answer in away:
        if not answer.final:
            raise answer


def _any_page(answers: Iterable[_Answer]) -> bool:
    return any(isinstance(answer, SearchPage) for answer in answers)


def _why(answers: Iterable[_Answer]) -> str:
    reasons = (str(answer) for answer in answers if not isinstance(answer, SearchPage))
    return "; ".join(dict.fromkeys(reasons))


def _candidates(chunk: str, slices: Sequence[Slice], answers: Sequence[_Answer]) -> Candidates:
    asked = list(zip(slices, answers, strict=True))
    given = [(part, answer) for part, answer in asked if isinstance(answer, SearchPage)]
    items = tuple(_in_turns([part for part, _ in given], [page for _, page in given]))
    ended = (
        Stream(source=part.source, keyword=part.keyword) for part, page in given if page.exhausted
    )
    head = CandidatesHead(
        chunk_id=chunk,
        count=len(items),
        exhausted=tuple(dict.fromkeys(ended)),
        unanswered=tuple(
            Unanswered(**part.model_dump(), reason=str(answer))
            for part, answer in asked
            if not isinstance(answer, SearchPage)
        ),
    )
    return Candidates(head=head, items=items)


def _in_turns(slices: Sequence[Slice], pages: Sequence[SearchPage]) -> Iterable[Candidate]:
    seen: set[str] = set()
    for row in zip_longest(*(page.candidates for page in pages)):
        for part, result in zip(slices, row, strict=True):
            if result is None:
                continue
            about = {name: _storable(value) for name, value in result._asdict().items()}
            if about["url"] in seen:
                continue
            yield Candidate(position=len(seen), source=part.source, keyword=part.keyword, **about)
            seen.add(about["url"])


def _storable(value: str) -> str:
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
