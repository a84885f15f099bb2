"""What became of every candidate URL, read from what the stages decided.

A chunk's candidates, verdicts and result say what became of its URLs. Over a job, one row stands
for each URL: the kept one, else that of the last completed chunk, else of the last that has not
ended, else of the last failed one.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from pydantic import ConfigDict

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.chunks import result_of
from pixcrawler.common.documents import (
    Candidate,
    Candidates,
    ChunkResult,
    Files,
    Verdict,
    Verdicts,
)
from pixcrawler.common.errors import BlobNotFound
from pixcrawler.common.events import ImageTotals, Value
from pixcrawler.common.ids import parse_chunk_id
from pixcrawler.common.outcomes import Outcome

CANCELLED = "cancelled"
"""`ChunkResult.error` of a chunk that was given up because its job was cancelled."""


class OutcomeRow(Value):
    """One candidate URL and what became of it: a row of `outcomes.parquet`.

    Unknown text is empty, unknown numbers are 0.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    url: str
    """The candidate."""
    outcome: Outcome
    """What became of it; every candidate has exactly one."""
    detail: str = ""
    """Why, for people."""
    source: str = ""
    """Where it was found."""
    keyword: str = ""
    """What was looked for."""
    chunk_id: str
    """Which chunk had it."""
    http_status: int = 0
    """Of the last answer."""
    final_url: str = ""
    """After redirects."""
    bytes: int = 0
    """How many came."""
    sha256: str = ""
    """Of the bytes, in hex."""
    phash: str = ""
    """The perceptual hash, 16 hex digits."""
    duplicate_of: str = ""
    """The URL of the one that was kept instead."""
    elapsed_ms: int = 0
    """From the first try to the end of the last, in milliseconds."""


class ChunkObjects(NamedTuple):
    """What a chunk has decided so far; None for what is not there."""

    chunk_id: str
    candidates: Candidates | None
    verdicts: Verdicts | None
    result: ChunkResult | None
    files: Files | None = None


async def read_objects(blobs: BlobStore, chunk: str, *, files: bool = False) -> ChunkObjects:
    """What is there of a chunk.

    Args:
        blobs: Where it is.
        chunk: Which one.
        files: Whether its images may have been changed, so that it has files of its own.
    """
    result = await result_of(blobs, chunk)
    try:
        candidates = Candidates.parse(await blobs.read(names.candidates(chunk)))
        verdicts = Verdicts.parse(await blobs.read(names.verdicts(chunk)))
    except BlobNotFound as missing:
        if missing.name == names.candidates(chunk):
            return ChunkObjects(chunk, None, None, result)
        return ChunkObjects(chunk, candidates, None, result)
    return ChunkObjects(
        chunk, candidates, verdicts, result, await files_of(blobs, chunk) if files else None
    )


async def files_of(blobs: BlobStore, chunk: str) -> Files | None:
    """The files of a chunk's kept images, if that was decided."""
    try:
        return Files.parse(await blobs.read(names.files(chunk)))
    except BlobNotFound:
        return None


def outcomes_of_chunk(objects: ChunkObjects) -> tuple[OutcomeRow, ...]:
    """The rows of a chunk's candidates that have an outcome, in candidate order.

    The verdicts of a failed chunk stand, only what they keep has failed with it. Candidates without
    a verdict have none before the chunk has ended; then they were cancelled, or failed with it.
    """
    _, candidates, verdicts, result, _ = objects
    if candidates is None:
        return ()
    failed = result is not None and result.status == "failed"
    judged = {verdict.position: verdict for verdict in verdicts.items} if verdicts else {}
    rows = []
    for candidate in candidates.items:
        verdict = judged.get(candidate.position)
        if verdict is not None:
            rows.append(_judged(candidate, verdict, objects.chunk_id, result if failed else None))
        elif result is not None and failed:
            rows.append(_unjudged(candidate, objects.chunk_id, result))
    return tuple(rows)


def _judged(
    candidate: Candidate, verdict: Verdict, chunk: str, failure: ChunkResult | None
) -> OutcomeRow:
    lost = failure is not None and verdict.outcome is Outcome.KEPT
    return OutcomeRow(
        url=candidate.url,
        outcome=Outcome.FAILED if lost else verdict.outcome,
        detail=_reason(failure) if failure is not None and lost else verdict.detail,
        source=candidate.source,
        keyword=candidate.keyword,
        chunk_id=chunk,
        http_status=verdict.http_status,
        final_url=verdict.final_url,
        bytes=verdict.bytes,
        sha256=verdict.sha256,
        phash=verdict.phash,
        duplicate_of=verdict.duplicate_of,
        elapsed_ms=verdict.elapsed_ms,
    )


def _unjudged(candidate: Candidate, chunk: str, failure: ChunkResult) -> OutcomeRow:
    return OutcomeRow(
        url=candidate.url,
        outcome=Outcome.CANCELLED if failure.error == CANCELLED else Outcome.FAILED,
        detail=_reason(failure),
        source=candidate.source,
        keyword=candidate.keyword,
        chunk_id=chunk,
    )


def _reason(failure: ChunkResult) -> str:
    return failure.message or failure.error


class Standing:
    """Which row stands for each URL of a job, in 150 bytes a URL.

    Show it every chunk once (`add`, in any order), then ask which of a chunk's rows stand (`rows`).

    Args:
        below: What was worked out before, over other chunks; it counts, and is not changed.
    """

    def __init__(self, below: "Standing | None" = None) -> None:
        self._best: dict[bytes, int] = {}
        self._below = below

    def add(self, objects: ChunkObjects, rows: Iterable[OutcomeRow]) -> None:
        """Let a chunk's rows compete."""
        index = parse_chunk_id(objects.chunk_id).index
        for place, row in enumerate(rows):
            key, rank = _url_key(row.url), _rank(objects.result, row, index, place)
            if rank > self._best.get(key, -1):
                self._best[key] = rank

    def rows(self, objects: ChunkObjects, rows: Iterable[OutcomeRow]) -> Iterator[OutcomeRow]:
        """Those of the chunk's rows that stand for their URL."""
        index = parse_chunk_id(objects.chunk_id).index
        for place, row in enumerate(rows):
            if self._best_of(_url_key(row.url)) == _rank(objects.result, row, index, place):
                yield row

    def _best_of(self, key: bytes) -> int:
        lower = -1 if self._below is None else self._below._best_of(key)  # noqa: SLF001 - our own
        return max(self._best.get(key, -1), lower)


def merge(chunks: Iterable[ChunkObjects]) -> list[OutcomeRow]:
    """One row per URL over these chunks, by chunk and candidate; all of it in memory."""
    read = [(objects, outcomes_of_chunk(objects)) for objects in chunks]
    read.sort(key=lambda item: parse_chunk_id(item[0].chunk_id).index)
    standing = Standing()
    for objects, rows in read:
        standing.add(objects, rows)
    return [row for objects, rows in read for row in standing.rows(objects, rows)]


def _url_key(url: str) -> bytes:
    return hashlib.blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).digest()


_KEPT, _COMPLETED, _OPEN, _FAILED = 3, 2, 1, 0
_CHUNKS, _CANDIDATES = 1 << 40, 1 << 24  # more than any job has chunks, or a chunk candidates


def _rank(result: ChunkResult | None, row: OutcomeRow, index: int, place: int) -> int:
    """Greater stands. The place only makes ranks unique: a URL is once in a chunk."""
    if row.outcome is Outcome.KEPT:
        kind = _KEPT
    elif result is None:
        kind = _OPEN
    else:
        kind = _COMPLETED if result.status == "completed" else _FAILED
    return (kind * _CHUNKS + index) * _CANDIDATES + place


class Counted(Protocol):
    """As much of a row as is counted."""

    @property
    def outcome(self) -> Outcome:
        """What became of the URL."""
        ...

    @property
    def bytes(self) -> int:
        """The size of what was stored."""
        ...

    @property
    def sha256(self) -> str:
        """Empty where no bytes were judged."""
        ...


def totals(rows: Iterable[Counted]) -> ImageTotals:
    """What became of these URLs, in numbers: `downloaded` counts those whose bytes were judged."""
    dropped: Counter[str] = Counter()
    candidates = downloaded = valid = size = 0
    for row in rows:
        candidates += 1
        downloaded += bool(row.sha256)
        if row.outcome is Outcome.KEPT:
            valid += 1
            size += row.bytes
        else:
            dropped[row.outcome.value] += 1
    return ImageTotals(
        candidates=candidates,
        downloaded=downloaded,
        valid=valid,
        dropped=dict(sorted(dropped.items())),
        bytes=size,
    )
