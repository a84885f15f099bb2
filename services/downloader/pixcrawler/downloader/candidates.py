"""What a chunk's candidates are: resolved once, in order, and pinned in the blob store.

A search that answers differently tomorrow changes nothing: whoever finds `candidates.jsonl` adopts
it. A source that does not answer pins nothing.
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.context import Context, decide
from pixcrawler.common.documents import Candidate, Candidates, CandidatesHead, Stream
from pixcrawler.common.errors import BlobNotFound, GiveUp
from pixcrawler.common.events import ImageTotals, Slice
from pixcrawler.downloader.concurrency import all_of
from pixcrawler.downloader.progress import pulse
from pixcrawler.downloader.sources import SearchPage, Source

Sources = Mapping[str, Source]

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
    """Ask the sources for these slices; the slices take turns, and the first of a URL counts."""
    for part in slices:
        if part.source not in sources:
            raise GiveUp(
                f"no source is called {part.source!r}", error="unknown_source", retriable=False
            )
    pages = await all_of(
        sources[part.source].search(part.keyword, part.offset, part.limit) for part in slices
    )
    items = tuple(_in_turns(slices, pages))
    ended = (
        Stream(source=part.source, keyword=part.keyword)
        for part, page in zip(slices, pages, strict=True)
        if page.exhausted
    )
    head = CandidatesHead(chunk_id=chunk, count=len(items), exhausted=tuple(dict.fromkeys(ended)))
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
