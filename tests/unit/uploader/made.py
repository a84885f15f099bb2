"""Chunks as the stages before the uploader leave them: candidates, parts and verdicts."""

import hashlib
import io
import random
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image

from pixcrawler.common import names
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.documents import (
    PART_OUTCOMES,
    Candidate,
    Candidates,
    CandidatesHead,
    Fetched,
    Stream,
    Verdict,
    Verdicts,
    VerdictsHead,
    dump_lines,
    part_member,
)
from pixcrawler.common.events import ImageTotals
from pixcrawler.common.outcomes import VALID, Outcome

EXHAUSTED = (Stream(source="commons", keyword="red panda"),)


def picture(seed: int, form: str = "jpeg", side: int = 24) -> bytes:
    """A small image that PIL can open; another seed gives other bytes."""
    pixels = random.Random(seed).randbytes(side * side * 3)
    out = io.BytesIO()
    Image.frombytes("RGB", (side, side), pixels).save(out, form.upper())
    return out.getvalue()


@dataclass(frozen=True)
class Made:
    """What the stages before left of one chunk; `bytes_of` has every stored candidate's bytes."""

    candidates: Candidates
    verdicts: Verdicts
    fetched: tuple[Fetched, ...]
    bytes_of: Mapping[int, bytes]

    @property
    def chunk(self) -> str:
        """Its id."""
        return self.candidates.head.chunk_id

    def kept(self) -> list[Verdict]:
        """The verdicts of what is kept."""
        return [verdict for verdict in self.verdicts.items if verdict.outcome is Outcome.KEPT]

    async def read(self, position: int) -> AsyncIterator[bytes]:
        """The bytes at a position, at once."""
        yield self.bytes_of[position]


def make_chunk(
    chunk: str,
    kept: Sequence[bytes],
    *,
    form: str = "jpeg",
    dropped: Sequence[Outcome] = (),
    url: str = "https://example.org/{chunk}/{position}.jpg",
) -> Made:
    """A chunk that keeps these images and then drops candidates for these reasons.

    A dropped candidate has bytes where its outcome is that of a valid image.
    """
    outcomes = [*[Outcome.KEPT] * len(kept), *dropped]
    stored = {
        position: kept[position] if position < len(kept) else b"other %d" % position
        for position, outcome in enumerate(outcomes)
        if outcome in VALID
    }
    items = tuple(_candidate(chunk, position, url) for position in range(len(outcomes)))
    return Made(
        candidates=Candidates(
            head=CandidatesHead(chunk_id=chunk, count=len(items), exhausted=EXHAUSTED), items=items
        ),
        verdicts=_verdicts(chunk, items, outcomes, stored, form),
        fetched=tuple(
            Fetched(position=position, bytes=len(stored[position]), http_status=200)
            if position in stored
            else Fetched(position=position, outcome=outcome, http_status=404)
            for position, outcome in enumerate(outcomes)
        ),
        bytes_of=stored,
    )


def _candidate(chunk: str, position: int, url: str) -> Candidate:
    return Candidate(
        position=position,
        url=url.format(chunk=chunk, position=position),
        source="commons",
        keyword="red panda",
        title=f"Panda №{position}" if position % 2 else "",
        creator='Ana, "the" photographer' if position % 3 else "",
        license="CC-BY-4.0" if position % 2 else "CC0-1.0",
        license_url="https://creativecommons.org/licenses/by/4.0/" if position % 2 else "",
        landing_url=f"https://example.org/page/{position}",
    )


def _verdicts(
    chunk: str,
    items: Sequence[Candidate],
    outcomes: Sequence[Outcome],
    stored: Mapping[int, bytes],
    form: str,
) -> Verdicts:
    verdicts = tuple(
        Verdict(
            position=item.position,
            url=item.url,
            outcome=outcome,
            http_status=200 if item.position in stored else 404,
            bytes=len(stored.get(item.position, b"")),
            sha256=_sha256(stored[item.position]) if item.position in stored else "",
            phash=f"{item.position:016x}" if item.position in stored else "",
            width=24,
            height=24,
            format=form if outcome is Outcome.KEPT else "",
            duplicate_of=items[0].url if outcome is Outcome.DUPLICATE else "",
        )
        for item, outcome in zip(items, outcomes, strict=True)
    )
    dropped = [outcome.value for outcome in outcomes if outcome is not Outcome.KEPT]
    images = ImageTotals(
        candidates=len(items),
        downloaded=len(stored),
        valid=outcomes.count(Outcome.KEPT),
        dropped={name: dropped.count(name) for name in sorted(set(dropped))},
        bytes=sum(v.bytes for v in verdicts if v.outcome is Outcome.KEPT),
    )
    return Verdicts(
        head=VerdictsHead(chunk_id=chunk, images=images, valid_images=len(stored)), items=verdicts
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def part_tar(made: Made, number: int) -> bytes:
    """A part as the downloader writes it."""
    positions = range(number * names.PART_SIZE, (number + 1) * names.PART_SIZE)
    lines = dump_lines([item for item in made.fetched if item.position in positions])
    members = [(part_member(p), data) for p, data in made.bytes_of.items() if p in positions]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in [(PART_OUTCOMES, lines), *members]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def part_numbers(made: Made) -> range:
    """The numbers of its parts."""
    return range((len(made.fetched) + names.PART_SIZE - 1) // names.PART_SIZE)


async def store_chunk(blobs: BlobStore, made: Made, *, verdicts: bool = True) -> None:
    """Put everything of a chunk where the uploader finds it."""
    await blobs.create(names.candidates(made.chunk), made.candidates.dump())
    for number in part_numbers(made):
        await blobs.create(names.part(made.chunk, number), part_tar(made, number))
    if verdicts:
        await blobs.create(names.verdicts(made.chunk), made.verdicts.dump())
