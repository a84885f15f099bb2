"""Under which licences a dataset's images are: its `LICENSES.csv`, counted as it streams."""

import codecs
import csv
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.common.documents import DatasetIndex
from pixcrawler.common.events import Value

FILE: Final = "LICENSES.csv"
REMEMBERED_ROUNDS = 100
"""Rounds of which the answer is remembered; it never changes."""
MOST = 500
"""Licences that are listed: there are some twenty, but a title may say anything."""


class LicenseCount(Value):
    """How many images are under a licence; both texts are empty where the source names none.

    Attributes:
        license: An SPDX id where there is one, else what the source calls it.
        license_url: Where its text is; where sources write it in several ways, the most common.
        images: How many.
    """

    license: str
    license_url: str
    images: int


class _Named(NamedTuple):
    license: str
    url: str


class Licenses:
    """Counts licences.

    Args:
        blobs: Where the datasets are.
    """

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._known: OrderedDict[tuple[str, int], tuple[LicenseCount, ...]] = OrderedDict()

    async def of(self, index: DatasetIndex) -> tuple[LicenseCount, ...]:
        """The licences of a dataset, the most common first.

        Raises:
            BlobNotFound: the dataset is gone.
        """
        key = (index.job_id, index.round)
        if key not in self._known:
            self._known[key] = await self._count(index)
            if len(self._known) > REMEMBERED_ROUNDS:
                self._known.popitem(last=False)
        return self._known[key]

    async def _count(self, index: DatasetIndex) -> tuple[LicenseCount, ...]:
        counted: Counter[_Named] = Counter()
        for file in index.files:
            if file.path == FILE:
                async for row in _rows(self._blobs.stream(file.object)):
                    counted[_Named(row.get("license", ""), row.get("license_url", ""))] += 1
        return _merged(counted)


def _merged(counted: Counter[_Named]) -> tuple[LicenseCount, ...]:
    """One entry a licence; those without a name are told apart by their addresses."""
    images: Counter[str] = Counter()
    urls: dict[str, str] = {}
    for name, number in counted.most_common():
        label = name.license or name.url
        images[label] += number
        urls.setdefault(label, name.url)
    return tuple(
        LicenseCount(
            license="" if label == urls[label] else label, license_url=urls[label], images=number
        )
        for label, number in images.most_common(MOST)
    )


async def _rows(pieces: AsyncIterator[bytes]) -> AsyncIterator[dict[str, str]]:
    """The rows of a CSV file that arrives in pieces; a field may hold line ends and commas."""
    header: list[str] | None = None
    async for record in _records(pieces):
        for fields in csv.reader([record]):
            if header is None:
                header = fields
            else:
                yield dict(zip(header, fields, strict=False))


async def _records(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Lines that are whole: those whose quotes are closed."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    rest = ""
    async for piece in pieces:
        *lines, last = (rest + decoder.decode(piece)).split("\n")
        rest, begun = "", ""
        for line in lines:
            begun = f"{begun}\n{line}" if begun else line
            if begun.count('"') % 2 == 0:
                yield begun
                begun = ""
        rest = f"{begun}\n{last}" if begun else last
    if rest:
        yield rest
