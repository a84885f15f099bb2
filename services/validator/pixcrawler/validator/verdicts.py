"""From what is known of each candidate to its one outcome. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version

from pixcrawler.common.documents import (
    Candidate,
    Candidates,
    Fetched,
    Verdict,
    Verdicts,
    VerdictsHead,
)
from pixcrawler.common.events import ImageTotals
from pixcrawler.common.outcomes import VALID, Outcome
from pixcrawler.validator.claims import Image, Ruling
from pixcrawler.validator.decision import Decision
from pixcrawler.validator.judging import Judged


def askers(candidates: Candidates, judged: Judged) -> tuple[Image, ...]:
    """The good images that ask to be kept, in candidate order: of equal bytes the first."""
    asking: dict[bytes, Image] = {}
    for candidate in candidates.items:
        decision = judged.decisions.get(candidate.position)
        if decision is None or decision.phash is None or decision.sha256 in asking:
            continue
        asking[decision.sha256] = Image(
            candidate.position, candidate.url, decision.sha256, decision.phash
        )
    return tuple(asking.values())


def assemble(
    candidates: Candidates, judged: Judged, asked: Iterable[Image], rulings: Mapping[int, Ruling]
) -> Verdicts:
    """The outcome of every candidate.

    Args:
        candidates: The chunk's candidates.
        judged: What is known of each.
        asked: The images that asked to be kept, of equal bytes the first.
        rulings: What became of those, by position.
    """
    firsts = {image.sha256: image for image in asked}
    items = tuple(_verdict(candidate, judged, firsts, rulings) for candidate in candidates.items)
    head = VerdictsHead(
        chunk_id=candidates.head.chunk_id,
        images=totals(items, judged),
        valid_images=sum(verdict.outcome in VALID for verdict in items),
        decided_with=libraries(),
    )
    return Verdicts(head=head, items=items)


@cache
def libraries() -> tuple[str, ...]:
    """What decides, with versions: another Pillow scales otherwise, which changes hashes."""
    names = ("Pillow", "ImageHash", "simplejpeg")
    return tuple(f"{name} {version(name)}" for name in names)


def totals(items: Iterable[Verdict], judged: Judged) -> ImageTotals:
    """The counts of a chunk."""
    kept = [verdict for verdict in items if verdict.outcome is Outcome.KEPT]
    dropped = Counter(str(verdict.outcome) for verdict in items)
    dropped.pop(str(Outcome.KEPT), None)
    return ImageTotals(
        candidates=len(judged.fetched),
        downloaded=len(judged.decisions),
        valid=len(kept),
        dropped=dict(sorted(dropped.items())),
        bytes=sum(verdict.bytes for verdict in kept),
    )


def so_far(judged: Judged) -> ImageTotals:
    """The counts while files are still being decided: nothing is kept before claims are made."""
    dropped = Counter(str(line.outcome) for line in judged.fetched.values() if line.outcome)
    dropped.update(str(it.outcome) for it in judged.decisions.values() if it.outcome)
    return ImageTotals(
        candidates=len(judged.fetched),
        downloaded=sum(line.outcome is None for line in judged.fetched.values()),
        dropped=dict(sorted(dropped.items())),
    )


def _verdict(
    candidate: Candidate,
    judged: Judged,
    firsts: Mapping[bytes, Image],
    rulings: Mapping[int, Ruling],
) -> Verdict:
    line = judged.fetched[candidate.position]
    decision = judged.decisions.get(candidate.position)
    if decision is None:
        return _told(candidate, line)
    ruling = _ruling(candidate.position, decision, firsts, rulings)
    header = decision.header
    return Verdict(
        position=candidate.position,
        url=candidate.url,
        outcome=ruling.outcome,
        detail=decision.detail,
        http_status=line.http_status,
        final_url=line.final_url,
        bytes=line.bytes,
        elapsed_ms=line.elapsed_ms,
        sha256=decision.sha256.hex(),
        phash="" if decision.phash is None else f"{decision.phash:016x}",
        width=header.width if header else 0,
        height=header.height if header else 0,
        format=header.format if header else "",
        duplicate_of=ruling.duplicate_of,
    )


def _told(candidate: Candidate, line: Fetched) -> Verdict:
    """Of a candidate that nothing was downloaded of: what the downloader said."""
    assert line.outcome is not None
    return Verdict(
        position=candidate.position,
        url=candidate.url,
        outcome=line.outcome,
        detail=line.detail,
        http_status=line.http_status,
        final_url=line.final_url,
        bytes=line.bytes,
        elapsed_ms=line.elapsed_ms,
    )


def _ruling(
    position: int,
    decision: Decision,
    firsts: Mapping[bytes, Image],
    rulings: Mapping[int, Ruling],
) -> Ruling:
    """Equal bytes share a ruling; only beside one that is kept are the others its duplicates."""
    if decision.outcome is not None:
        return Ruling(decision.outcome)
    first = firsts[decision.sha256]
    ruling = rulings[first.position]
    if ruling.outcome is Outcome.KEPT and position != first.position:
        return Ruling(Outcome.DUPLICATE, first.url)
    return ruling
