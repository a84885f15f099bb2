"""Claims make a job's images unique and its number exact, however many chunks run at once.

One transaction a chunk, serialised per job by the job's lock, in READ COMMITTED. The chunk that has
decided once (`chunk_claims`, also when it claimed nothing) reads its claims back ever after.
Claims of a failed chunk do not count, and whoever keeps an equal image takes them over.

The number of statements does not depend on the size of the chunk or of the job.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import ARRAY, BigInteger, Integer, LargeBinary, Text, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pixcrawler.common.db import locks
from pixcrawler.common.db.engine import transaction
from pixcrawler.common.errors import Stopped
from pixcrawler.common.ids import parse_chunk_id
from pixcrawler.common.outcomes import Outcome
from pixcrawler.validator.near import NOBODY, Gathering, Hashes, hashes, nearest


@dataclass(frozen=True, slots=True)
class Image:
    """A good image of a chunk that asks to be kept. `phash`: 64 bits; `sha256`: 32 bytes."""

    position: int
    url: str
    sha256: bytes
    phash: int


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of a good image; `duplicate_of` is the URL of the one that is kept instead."""

    outcome: Outcome
    duplicate_of: str = ""


KEPT, SURPLUS = Ruling(Outcome.KEPT), Ruling(Outcome.SURPLUS)


@dataclass(frozen=True, slots=True)
class Matches:
    """Claims of other chunks that are equal or near to images of this one, by position: URLs.

    Equal is also what is kept from the same URL: a host that encodes anew at each request would
    otherwise have its image kept twice, and a URL has one outcome.
    """

    equal: Mapping[int, str] = field(default_factory=dict)
    near: Mapping[int, str] = field(default_factory=dict)

    def ruling(self, image: Image) -> Ruling | None:
        """What they make of the image; None if it is like none of them."""
        if image.position in self.equal:
            return Ruling(Outcome.DUPLICATE, self.equal[image.position])
        if image.position in self.near:
            return Ruling(Outcome.NEAR_DUPLICATE, self.near[image.position])
        return None


async def claim(
    engine: AsyncEngine, chunk: str, images: Sequence[Image], *, near: int | None
) -> Mapping[int, Ruling]:
    """Claim for a chunk what of it is kept; the same images always get the same kept ones.

    Args:
        engine: The database.
        chunk: Whose images they are.
        images: Its good images in candidate order, no two with equal bytes.
        near: Bits that near-duplicates may differ in; None if they do not matter.

    Returns:
        The ruling on each image, by position.

    Raises:
        Stopped: the chunk has failed or is unknown, or its job is not wanted any more.
    """
    job_id = parse_chunk_id(chunk).job_id
    async with transaction(engine, "claim") as connection:
        await locks.job_lock(connection, job_id)
        state = await _state(connection, job_id, chunk)
        seen = _Sight(connection, job_id, chunk, images, near)
        if state.decided:
            return await _decided_before(seen)
        rulings, kept = await _decide(seen, state.max_images)
        if kept:
            await _take(connection, job_id, chunk, kept)
        await connection.execute(_MARK, {"job": job_id, "chunk": chunk})
    return rulings


# --- the two ways to a ruling -------------------------------------------------------------------


async def _decide(seen: "_Sight", max_images: int) -> tuple[Mapping[int, Ruling], list[Image]]:
    """For the first time: against the live claims of the job, in candidate order."""
    crowd = await seen.crowd()
    others = await seen.matches(crowd.live, live=True)
    return await asyncio.to_thread(
        rule, seen.images, others, near=seen.near, room=max_images - crowd.live_count
    )


def rule(
    images: Sequence[Image], others: Matches, *, near: int | None, room: int
) -> tuple[Mapping[int, Ruling], list[Image]]:
    """Keep each image that is like no claim of others and like none kept before it.

    Args:
        images: In candidate order.
        others: What of the job's live claims is like them.
        near: Bits that near-duplicates may differ in; None if they do not matter.
        room: How many more the job wants.

    Returns:
        The ruling on each image by position, and the kept ones.
    """
    rulings: dict[int, Ruling] = {}
    kept: list[Image] = []
    gathering = Gathering(len(images))
    for image in images:
        found = others.ruling(image)
        if found is None and near is not None:
            alike = gathering.nearest(image.phash, near)
            if alike != NOBODY:
                found = Ruling(Outcome.NEAR_DUPLICATE, kept[alike].url)
        if found is None and len(kept) < room:
            found = KEPT
            kept.append(image)
            gathering.join(image.phash)
        rulings[image.position] = found or SURPLUS
    return rulings, kept


async def _decided_before(seen: "_Sight") -> Mapping[int, Ruling]:
    """Again, after the transaction that decided was committed: exactly its claims are kept.

    What the others were dropped for is still there: claims are never removed while the job is. A
    claim that was released meanwhile counts only where no live one explains the image, and an image
    that is like none at all was too many.
    """
    own = await seen.own()
    crowd = await seen.crowd()
    live = await seen.matches(crowd.live, live=True)
    dead = await seen.matches(crowd.dead, live=False)
    kept = [image for image in seen.images if image.sha256 in own]
    among = await seen.nearest(hashes([image.phash for image in kept]))
    rulings: dict[int, Ruling] = {}
    for place, image in enumerate(seen.images):
        if image.sha256 in own:
            rulings[image.position] = KEPT
            continue
        alike = int(among[place])
        within = Ruling(Outcome.NEAR_DUPLICATE, kept[alike].url) if alike != NOBODY else None
        rulings[image.position] = live.ruling(image) or within or dead.ruling(image) or SURPLUS
    return rulings


# --- what the database says -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _State:
    max_images: int
    decided: bool


@dataclass(frozen=True, slots=True)
class _Crowd:
    """Perceptual hashes of the claims of the job's other chunks."""

    live: Hashes
    dead: Hashes
    live_count: int


async def _state(connection: AsyncConnection, job_id: str, chunk: str) -> _State:
    """What is true after the lock was taken.

    Raises:
        Stopped: the chunk may not claim.
    """
    found = await connection.execute(_STATE, {"job": job_id, "chunk": chunk})
    row = found.one_or_none()
    if row is None or row.unwanted:
        raise Stopped(f"job {job_id} is not wanted any more")
    if row.status is None or row.status == "failed":
        raise Stopped(f"chunk {chunk} is {row.status or 'unknown'}")
    return _State(row.max_images, row.decided)


class _Sight:
    """The job's claims as one chunk's images see them, within one transaction."""

    def __init__(
        self,
        connection: AsyncConnection,
        job_id: str,
        chunk: str,
        images: Sequence[Image],
        near: int | None,
    ) -> None:
        self._connection = connection
        self._names = {"job": job_id, "chunk": chunk}
        self.images = images
        self.near = near

    async def own(self) -> frozenset[bytes]:
        """Digests that the chunk itself has claimed."""
        found = await self._connection.execute(_OWN, self._names)
        return frozenset(bytes(digest) for digest in found.scalars())

    async def crowd(self) -> _Crowd:
        """The hashes of all others, packed by the database: a column of numbers costs more."""
        row = (await self._connection.execute(_CROWD, self._names)).one()
        return _Crowd(_unpacked(row.live), _unpacked(row.dead), row.live_count)

    async def matches(self, crowd: Hashes, *, live: bool) -> Matches:
        """Which of the others' claims, live or released, are equal or near to which image."""
        index = await self.nearest(crowd)
        near = {
            image.position: int(crowd[place])
            for image, place in zip(self.images, index, strict=True)
            if place != NOBODY
        }
        digests = [image.sha256 for image in self.images]
        values = {
            **self._names,
            "failed": not live,
            "digests": digests,
            "urls": [image.url for image in self.images],
            "hashes": [_signed(value) for value in sorted(set(near.values()))],
        }
        rows = (await self._connection.execute(_ALIKE, values)).all()
        by_digest = {bytes(row.sha256): row.url for row in rows if row.equal}
        by_hash = {row.phash: row.url for row in reversed(rows)}
        kept_urls = {row.url for row in rows}
        return Matches(
            equal={
                image.position: by_digest.get(image.sha256, image.url)
                for image in self.images
                if image.sha256 in by_digest or image.url in kept_urls
            },
            # Only a deleted job's claims vanish between the two statements.
            near={
                position: by_hash[_signed(value)]
                for position, value in near.items()
                if _signed(value) in by_hash
            },
        )

    async def nearest(self, crowd: Hashes) -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
        """For each image the place of the nearest in a crowd."""
        if self.near is None or not len(crowd) or not self.images:
            return np.full(len(self.images), NOBODY, dtype=np.intp)
        own = hashes([image.phash for image in self.images])
        return await asyncio.to_thread(nearest, crowd, own, self.near)


async def erase_deleted(engine: AsyncEngine) -> int:
    """Remove what deleted jobs have claimed; how many claims there were.

    Made again and again while the jobs' tombstones stand: a chunk that was just deciding may have
    claimed after the job was deleted.
    """
    async with transaction(engine, "erase_claims") as connection:
        erased = await connection.execute(_ERASE)
        await connection.execute(_ERASE_MARKS)
    return erased.rowcount


async def _take(
    connection: AsyncConnection, job_id: str, chunk: str, kept: Sequence[Image]
) -> None:
    """Claim images: new rows, or rows of failed chunks taken over."""
    taken = await connection.execute(
        _CLAIM,
        {
            "job": job_id,
            "chunk": chunk,
            "digests": [image.sha256 for image in kept],
            "hashes": [_signed(image.phash) for image in kept],
            "urls": [image.url for image in kept],
            "positions": [image.position for image in kept],
        },
    )
    if taken.rowcount != len(kept):
        raise RuntimeError(f"claimed {taken.rowcount} of {len(kept)} images of {chunk}")


def _signed(value: int) -> int:
    """64 bits as PostgreSQL's bigint has them."""
    return value - (1 << 64) if value >> 63 else value


def _unpacked(packed: bytes | None) -> Hashes:
    return np.frombuffer(packed or b"", dtype=">u8").astype(np.uint64)


_STATE = text("""
    SELECT j.max_images,
           j.cancelled_at IS NOT NULL OR j.deleted_at IS NOT NULL AS unwanted,
           c.status,
           m.chunk_id IS NOT NULL AS decided
      FROM crawl_jobs j
      LEFT JOIN job_chunks c ON c.chunk_id = :chunk
      LEFT JOIN chunk_claims m ON m.chunk_id = :chunk
     WHERE j.job_id = :job
""")

_OWN = text("SELECT sha256 FROM image_claims WHERE job_id = :job AND chunk_id = :chunk")

_CROWD = text("""
    SELECT string_agg(int8send(i.phash), ''::bytea) FILTER (WHERE f.chunk_id IS NULL) AS live,
           string_agg(int8send(i.phash), ''::bytea) FILTER (WHERE f.chunk_id IS NOT NULL) AS dead,
           count(*) FILTER (WHERE f.chunk_id IS NULL) AS live_count
      FROM image_claims i
      LEFT JOIN job_chunks f ON f.chunk_id = i.chunk_id AND f.status = 'failed'
     WHERE i.job_id = :job AND i.chunk_id <> :chunk
""")

_ALIKE = text("""
    SELECT i.sha256, i.phash, i.url, i.sha256 = ANY(:digests) AS equal
      FROM image_claims i
      LEFT JOIN job_chunks f ON f.chunk_id = i.chunk_id AND f.status = 'failed'
     WHERE i.job_id = :job AND i.chunk_id <> :chunk
       AND (f.chunk_id IS NOT NULL) = :failed
       AND (i.sha256 = ANY(:digests) OR i.phash = ANY(:hashes) OR i.url = ANY(:urls))
     ORDER BY i.chunk_id, i.position
""").bindparams(
    bindparam("digests", type_=ARRAY(LargeBinary)),
    bindparam("hashes", type_=ARRAY(BigInteger)),
    bindparam("urls", type_=ARRAY(Text)),
)

_CLAIM = text("""
    INSERT INTO image_claims AS i (job_id, sha256, phash, url, chunk_id, position)
    SELECT :job, n.sha256, n.phash, n.url, :chunk, n.position
      FROM unnest(:digests, :hashes, :urls, :positions) AS n (sha256, phash, url, position)
        ON CONFLICT (job_id, sha256) DO UPDATE
       SET phash = excluded.phash, url = excluded.url,
           chunk_id = excluded.chunk_id, position = excluded.position
     WHERE EXISTS (
           SELECT FROM job_chunks f WHERE f.chunk_id = i.chunk_id AND f.status = 'failed')
""").bindparams(
    bindparam("job", type_=Text),
    bindparam("chunk", type_=Text),
    bindparam("digests", type_=ARRAY(LargeBinary)),
    bindparam("hashes", type_=ARRAY(BigInteger)),
    bindparam("urls", type_=ARRAY(Text)),
    bindparam("positions", type_=ARRAY(Integer)),
)

_MARK = text("INSERT INTO chunk_claims (chunk_id, job_id) VALUES (:chunk, :job)")

_ERASE = text("""
    DELETE FROM image_claims i USING crawl_jobs j
     WHERE j.job_id = i.job_id AND j.deleted_at IS NOT NULL
""")

_ERASE_MARKS = text("""
    DELETE FROM chunk_claims m USING crawl_jobs j
     WHERE j.job_id = m.job_id AND j.deleted_at IS NOT NULL
""")
