"""Claims on a real database: a job's images are unique and their number is exact."""

import asyncio
import random
import time
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.roles import ensure_roles, service_url
from pixcrawler.common.errors import Stopped
from pixcrawler.common.ids import chunk_id, new_job_id
from pixcrawler.common.outcomes import Outcome
from pixcrawler.validator.claims import Image, Ruling, claim, erase_deleted
from tests.integration.validator.ledger import Ledger, image, kept, outcomes

CHUNKS = 20
FAR = 24
"""Bits between images of different groups, at least."""


def centres(count: int, seed: int = 1) -> list[int]:
    """Hashes far from each other."""
    chance = random.Random(seed)
    found: list[int] = []
    while len(found) < count:
        value = chance.getrandbits(64)
        if all((value ^ other).bit_count() >= FAR for other in found):
            found.append(value)
    return found


def flipped(value: int, bits: int, chance: random.Random) -> int:
    """The hash with so many bits changed."""
    for bit in chance.sample(range(64), bits):
        value ^= 1 << bit
    return value


def group_of(one: Image) -> str:
    """Which group an image belongs to, from its URL."""
    return one.url.rsplit("/", 1)[1].split("-")[0]


def overlapping_chunks(groups: int, each: int) -> list[list[Image]]:
    """Chunks that draw from the same groups; members are equal or within 3 bits of the centre."""
    chance = random.Random(2)
    hashes = centres(groups)
    chunks = []
    for _ in range(CHUNKS):
        images: dict[bytes, Image] = {}
        while len(images) < each:
            group, member = chance.randrange(groups), chance.randrange(4)
            phash = flipped(hashes[group], 3 * (member > 0), random.Random(f"{group}-{member}"))
            one = image(len(images), f"{group}-{member}", phash)
            images.setdefault(one.sha256, one)
        chunks.append(
            [Image(place, it.url, it.sha256, it.phash) for place, it in enumerate(images.values())]
        )
    return chunks


async def claim_all(ledger: Ledger, chunks: Sequence[Sequence[Image]]) -> list[dict[int, Ruling]]:
    """All chunks at the same time, each twice as if its event had come twice."""
    claims = [ledger.claim(index, images) for index, images in enumerate(chunks)]
    again = [ledger.claim(index, images) for index, images in enumerate(chunks)]
    results = [dict(rulings) for rulings in await asyncio.gather(*claims, *again)]
    half = len(chunks)
    for first, second in zip(results[:half], results[half:], strict=True):
        assert kept(first) == kept(second)
    return results[:half]


async def test_of_every_group_exactly_one_is_kept_however_many_chunks_run_at_once(
    engine: AsyncEngine,
) -> None:
    """20 chunks at once, twice each, with 60 groups of equal and near-equal images among them."""
    ledger = await Ledger.open(engine, chunks=CHUNKS, max_images=1000)
    chunks = overlapping_chunks(60, 40)
    results = await claim_all(ledger, chunks)
    winners = [
        group_of(chunk[place])
        for chunk, rulings in zip(chunks, results, strict=True)
        for place in kept(rulings)
    ]
    present = {group_of(one) for chunk in chunks for one in chunk}
    assert sorted(winners) == sorted(present)
    live = await ledger.live()
    assert len(live) == len(winners)
    by_url = {url: (digest, phash) for digest, phash, url, _ in live}
    for chunk, rulings in zip(chunks, results, strict=True):
        for one in chunk:
            ruling = rulings[one.position]
            if ruling.outcome is Outcome.DUPLICATE:
                assert by_url[ruling.duplicate_of][0] == one.sha256
            elif ruling.outcome is Outcome.NEAR_DUPLICATE:
                assert (by_url[ruling.duplicate_of][1] ^ one.phash).bit_count() <= 6
            else:
                assert ruling.outcome is Outcome.KEPT


async def test_the_number_is_exact_however_many_chunks_run_at_once(engine: AsyncEngine) -> None:
    """20 chunks at once with 800 different images between them, 137 wanted: 137 kept."""
    ledger = await Ledger.open(engine, chunks=CHUNKS, max_images=137)
    hashes = centres(CHUNKS * 10, seed=3)
    chunks = [
        [image(place, f"{index}x{place}-0", hashes[index * 10 + place]) for place in range(10)]
        for index in range(CHUNKS)
    ]
    results = await claim_all(ledger, chunks)
    assert sum(len(kept(rulings)) for rulings in results) == 137
    assert len(await ledger.live()) == 137
    others = [
        it for rulings in results for it in rulings.values() if it.outcome is not Outcome.KEPT
    ]
    assert {str(ruling.outcome) for ruling in others} == {"surplus"}
    assert await ledger.marks() == CHUNKS


async def test_kept_images_of_random_jobs_are_pairwise_different(engine: AsyncEngine) -> None:
    """Any mixture, near-duplicates in chains included: no two kept are equal or near."""
    chance = random.Random(4)
    for _ in range(5):
        ledger = await Ledger.open(engine, chunks=6, max_images=chance.randrange(5, 60))
        seeds = centres(6, seed=chance.randrange(1000))
        chunks = []
        for index in range(6):
            picked = {
                name: image(0, name, flipped(seeds[number % 6], number % 7, random.Random(name)))
                for number in chance.sample(range(80), 25)
                for name in [f"{number}-c"]
            }
            chunks.append(
                [
                    Image(place, f"{it.url}?{index}", it.sha256, it.phash)
                    for place, it in enumerate(picked.values())
                ]
            )
        await claim_all(ledger, chunks)
        live = await ledger.live()
        assert all((a[1] ^ b[1]).bit_count() > 6 for a, b in combinations(live, 2))


async def test_a_replay_changes_nothing(engine: AsyncEngine) -> None:
    """After a crash between claim and verdicts, with others having claimed since: the same."""
    ledger = await Ledger.open(engine, chunks=3, max_images=4)
    a, b, c, d, e = centres(5)
    near_a = a ^ 0b111
    first = [
        image(0, "near-a", near_a),
        image(1, "a", a),
        image(2, "b", b),
        image(3, "c", c),
    ]
    await ledger.claim(0, [image(0, "c", c)])
    before = await ledger.claim(1, first)
    assert [before[place].outcome for place in range(4)] == [
        Outcome.KEPT,
        Outcome.NEAR_DUPLICATE,
        Outcome.KEPT,
        Outcome.DUPLICATE,
    ]
    await ledger.claim(2, [image(0, "d", d), image(1, "e", e)])
    assert await ledger.claim(1, first) == before
    await ledger.change(max_images=100)
    assert await ledger.claim(1, first) == before
    assert len(await ledger.live()) == 4


async def test_a_replay_explains_by_a_released_claim_what_it_was_dropped_for(
    engine: AsyncEngine,
) -> None:
    """The chunk that held the image has failed since: still its duplicate, and still not kept."""
    ledger = await Ledger.open(engine, chunks=2, max_images=10)
    a, b = centres(2)
    await ledger.claim(0, [image(0, "a", a), image(1, "b", b)])
    asked = [image(0, "a", a), image(1, "near-b", b ^ 1)]
    before = await ledger.claim(1, asked)
    await ledger.fail(0)
    assert await ledger.claim(1, asked) == before
    assert outcomes(before) == {"duplicate": 1, "near_duplicate": 1}


async def test_a_chunk_that_claimed_nothing_claims_nothing_later(engine: AsyncEngine) -> None:
    """The mark is set also for an empty claim: room that appears later is not for it."""
    ledger = await Ledger.open(engine, chunks=2, max_images=1)
    a, b = centres(2)
    await ledger.claim(0, [image(0, "a", a)])
    assert outcomes(await ledger.claim(1, [image(0, "b", b)])) == {"surplus": 1}
    assert outcomes(await ledger.claim(1, [])) == {}
    await ledger.change(max_images=50)
    await ledger.fail(0)
    assert outcomes(await ledger.claim(1, [image(0, "b", b)])) == {"surplus": 1}
    assert await ledger.live() == []
    assert await ledger.marks() == 2


async def test_claims_of_a_failed_chunk_do_not_count_and_are_taken_over(
    engine: AsyncEngine,
) -> None:
    """Equal and near images are kept by the next chunk, which gets the row; so does the number."""
    ledger = await Ledger.open(engine, chunks=2, max_images=3)
    a, b, c = centres(3)
    lost = [image(0, "a", a), image(1, "b", b), image(2, "c", c)]
    await ledger.claim(0, lost)
    await ledger.fail(0)
    again = [image(0, "c", c), image(1, "near-a", a ^ 1), image(2, "b", b), image(3, "a", a)]
    rulings = await ledger.claim(1, again)
    assert kept(rulings) == [0, 1, 2]
    assert rulings[3].duplicate_of == again[1].url
    live = await ledger.live()
    assert {chunk for *_, chunk in live} == {ledger.chunk(1)}
    assert {url for *_, url, _ in live} == {one.url for one in again[:3]}


async def test_a_chunk_fails_while_others_claim(engine: AsyncEngine) -> None:
    """20 chunks with the same images, then half of them fail, then their retries claim: exact."""
    ledger = await Ledger.open(engine, chunks=CHUNKS, max_images=30)
    hashes = centres(40)
    same = [image(place, f"{place}-0", phash) for place, phash in enumerate(hashes)]
    await asyncio.gather(*(ledger.claim(index, same) for index in range(CHUNKS)))
    holder = {chunk for *_, chunk in await ledger.live()}
    assert len(holder) == 1
    for index in range(CHUNKS):
        if ledger.chunk(index) in holder:
            await ledger.fail(index)
    await ledger.add_chunks(range(CHUNKS, 2 * CHUNKS))
    await asyncio.gather(*(ledger.claim(index, same) for index in range(CHUNKS, 2 * CHUNKS)))
    assert len(await ledger.live()) == 30


async def test_who_may_not_claim(engine: AsyncEngine) -> None:
    """A failed or unknown chunk; a job that is cancelled, deleted or unknown."""
    a = [image(0, "a", 1)]
    failed = await Ledger.open(engine, chunks=2, max_images=5)
    await failed.fail(0)
    cancelled = await Ledger.open(engine, chunks=1, max_images=5)
    await cancelled.cancel()
    deleted = await Ledger.open(engine, chunks=1, max_images=5)
    await deleted.delete()
    for chunk in (
        failed.chunk(0),
        failed.chunk(7),
        cancelled.chunk(0),
        deleted.chunk(0),
        chunk_id(new_job_id(), 0),
    ):
        with pytest.raises(Stopped):
            await claim(engine, chunk, a, near=6)
    for ledger in (failed, cancelled, deleted):
        assert await ledger.live() == []
        assert await ledger.marks() == 0


async def test_a_failed_chunk_may_not_even_read_its_claims_back(engine: AsyncEngine) -> None:
    """They are released: whoever was late must not write verdicts that keep them."""
    ledger = await Ledger.open(engine, chunks=1, max_images=5)
    await ledger.claim(0, [image(0, "a", 1)])
    await ledger.fail(0)
    with pytest.raises(Stopped):
        await ledger.claim(0, [image(0, "a", 1)])


async def test_without_near_duplicates_only_equal_bytes_count(engine: AsyncEngine) -> None:
    """Equal hashes, different bytes: both kept when the comparison is off, one when it is exact."""
    off = await Ledger.open(engine, chunks=2, max_images=5)
    await off.claim(0, [image(0, "a", 7), image(1, "b", 7)], near=None)
    assert outcomes(await off.claim(1, [image(0, "a", 7), image(1, "c", 7)], near=None)) == {
        "duplicate": 1,
        "kept": 1,
    }
    zero = await Ledger.open(engine, chunks=1, max_images=5)
    rulings = await zero.claim(0, [image(0, "a", 7), image(1, "b", 7), image(2, "c", 6)], near=0)
    assert outcomes(rulings) == {"kept": 2, "near_duplicate": 1}


async def test_the_number_of_statements_does_not_depend_on_the_size(engine: AsyncEngine) -> None:
    """Two chunks of 2 and of 500 images, first and again: as many statements each."""
    counts = []
    for size in (2, 500):
        chance = random.Random(size)
        ledger = await Ledger.open(engine, chunks=2, max_images=10_000)
        asked = [image(place, f"{place}-{size}", chance.getrandbits(64)) for place in range(size)]
        await ledger.claim(0, asked[: size // 2])
        for _ in range(2):
            statements: list[str] = []

            def note(*arguments: object, seen: list[str] = statements) -> None:
                seen.append(str(arguments[2]))

            event.listen(engine.sync_engine, "before_cursor_execute", note)
            try:
                await ledger.claim(1, asked)
            finally:
                event.remove(engine.sync_engine, "before_cursor_execute", note)
            counts.append(len(statements))
            assert "pg_advisory_xact_lock" in statements[0]
            assert sum("advisory" in statement for statement in statements) == 1
    assert counts[:2] == counts[2:]
    assert max(counts) <= 7


async def test_exact_against_100_000_claims(engine: AsyncEngine) -> None:
    """A chunk of 500 against a job of 100,000: exactly what brute force says.

    (Measured on two cores: 0.35 to 0.5 s a chunk, most of it in the database.)
    """
    chance = np.random.default_rng(6)
    crowd = chance.integers(0, 2**64, size=100_000, dtype=np.uint64)
    ledger = await Ledger.open(engine, chunks=2, max_images=200_000)
    await ledger.fill(0, crowd.tobytes())
    bits = random.Random(7)
    asked = [
        image(
            place,
            f"{place}-q",
            flipped(int(crowd[place * 101]), place % 10, bits)
            if place % 2
            else bits.getrandbits(64),
        )
        for place in range(500)
    ]
    started = time.perf_counter()
    rulings = await ledger.claim(1, asked)
    elapsed = time.perf_counter() - started
    kept_hashes: list[int] = []
    for one in asked:
        near = int(np.bitwise_count(crowd ^ np.uint64(one.phash)).min()) <= 6
        near = near or any((one.phash ^ other).bit_count() <= 6 for other in kept_hashes)
        assert rulings[one.position].outcome is (Outcome.NEAR_DUPLICATE if near else Outcome.KEPT)
        if not near:
            kept_hashes.append(one.phash)
    assert elapsed < 5


async def test_the_validators_role_suffices(module_database: str, engine: AsyncEngine) -> None:
    """Its own tables and reading the others is all that claiming and erasing needs."""
    await ensure_roles(module_database, {"validator": "secret"})
    role = connect(service_url(module_database, "validator", "secret"), pool_size=2)
    try:
        ledger = await Ledger.open(engine, chunks=1, max_images=5)
        asked = [image(0, "a", 2**64 - 1), image(1, "b", 0)]
        rulings = await claim(role, ledger.chunk(0), asked, near=6)
        assert outcomes(rulings) == {"kept": 2}
        assert {phash for _, phash, *_ in await ledger.live()} == {0, 2**64 - 1}
        await ledger.delete()
        assert await erase_deleted(role) >= 2
        assert await ledger.live() == []
        assert await ledger.marks() == 0
        assert await erase_deleted(role) == 0
    finally:
        await role.dispose()


async def test_only_deleted_jobs_are_erased(engine: AsyncEngine) -> None:
    """A cancelled job keeps its claims; a deleted one loses them, also those that come late."""
    kept_job = await Ledger.open(engine, chunks=1, max_images=5)
    await kept_job.claim(0, [image(0, "a", 1)])
    await kept_job.cancel()
    gone = await Ledger.open(engine, chunks=1, max_images=5)
    await gone.claim(0, [image(0, "a", 1)])
    await gone.delete()
    await erase_deleted(engine)
    await gone.fill(0, bytes(8))
    await erase_deleted(engine)
    assert len(await kept_job.live()) == 1
    assert await gone.live() == []
