"""The bytes of a part."""

import io
import tarfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from pixcrawler.common.documents import PART_OUTCOMES, Fetched, part_member
from pixcrawler.common.outcomes import Outcome
from pixcrawler.downloader.parts import tar
from pixcrawler.downloader.spool import IN_MEMORY, Body, Spooler, Store

MIB = 1 << 20


async def body_of(spooler: Spooler, data: bytes, piece: int) -> Body:
    body = spooler.body()
    for at in range(0, len(data), piece):
        await body.write(data[at : at + piece])
    return body


async def packed(images: dict[int, bytes], order: list[int], memory: int, piece: int) -> bytes:
    """A part of ten candidates, of which some have bytes, added in this order."""
    spooler = Spooler(memory, Path("/tmp"))
    store = Store(spooler)
    for position in order:
        await store.add(position, await body_of(spooler, images[position], piece))
    outcomes = [
        Fetched(position=n, bytes=len(images[n]))
        if n in images
        else Fetched(position=n, outcome=Outcome.TIMEOUT)
        for n in range(10)
    ]
    data = b"".join([piece async for piece in tar(outcomes, store)])
    store.close()
    assert spooler.memory.left == memory
    spooler.close()
    return data


@settings(max_examples=40, deadline=None)
@given(data=st.data())
async def test_a_parts_bytes_depend_on_its_content_alone(data: st.DataObject) -> None:
    """Not on the order of arrival, on the pieces, or on whether bytes waited in memory or files."""
    sizes = st.sampled_from([0, 1, 511, 512, 513, 70_000, MIB + 1, 2 * MIB])
    wanted = data.draw(st.dictionaries(st.integers(0, 9), sizes, max_size=6))
    images = {n: bytes([n + 1]) * size for n, size in wanted.items()}
    made = [
        await packed(
            images,
            data.draw(st.permutations(list(images))),
            memory=data.draw(st.sampled_from([0, IN_MEMORY, 64 * MIB])),
            piece=data.draw(st.sampled_from([1000, 65_536, 300_000])),
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]
    with tarfile.open(fileobj=io.BytesIO(made[0])) as part:
        assert part.getnames() == [PART_OUTCOMES, *map(part_member, sorted(images))]
        for number, image in images.items():
            file = part.extractfile(part_member(number))
            assert file is not None
            assert file.read() == image
