"""Chunks of an uploaded list, with a real database, blob store and web."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, insert, update

from pixcrawler.common import names
from pixcrawler.common.db.tables import crawl_jobs, url_lists
from pixcrawler.common.errors import GiveUp
from pixcrawler.common.events import Slice
from pixcrawler.common.ids import new_list_id
from pixcrawler.common.url_lists import BlockWriter, ListedRow, Marks, dump_row
from tests.integration.downloader.test_handler import Bench, bench, listed
from tests.integration.downloader.web import serving


async def give(one: Bench, rows: Sequence[ListedRow], repeated: Sequence[int] = ()) -> str:
    """The job a list, as the api would have stored it."""
    list_id, marks = new_list_id(), Marks()
    data, index = io.BytesIO(), io.BytesIO()
    writer = BlockWriter(data)
    for row in rows:
        writer.add(dump_row(row))
    writer.close()
    for place in repeated:
        marks.set(place)
    writer.write_index(index, bytes(marks.bits))
    await one.blobs.create(names.list_rows(list_id), data.getvalue())
    await one.blobs.create(names.list_rows_index(list_id), index.getvalue())
    about = {"owner": "tests", "format": "csv", "columns": {}, "rejected_rows": [], "bytes": 1}
    counts = {"rows": len(rows), "repeated": len(repeated), "rejected": 0}
    async with one.engine.begin() as connection:
        await connection.execute(insert(url_lists).values(list_id=list_id, **about, **counts))
        await connection.execute(
            update(crawl_jobs)
            .where(crawl_jobs.c.job_id == one.job)
            .values(url_list_id=list_id, urls=None)
        )
    return list_id


def stretch(offset: int, limit: int) -> Slice:
    return Slice(source="urls", keyword="", offset=offset, limit=limit)


async def test_what_a_list_says_comes_along(module_database: str, tmp_path: Path) -> None:
    """Captions, creators and licences, these by their identifier; repetitions are passed over."""
    async with serving() as site, bench(module_database, tmp_path) as one:
        urls = listed(site, 3)
        cc = "https://creativecommons.org/licenses/by-sa/4.0/"
        rows = [
            ListedRow(urls[0], "a red panda", "Ann", "CC BY 4.0", "", "http://page/"),
            ListedRow(urls[1], "", "", cc),
            ListedRow(urls[0], "again"),
            ListedRow(urls[2], "", "", "all rights reserved"),
        ]
        await give(one, rows, repeated=[2])
        answer = await one.run(stretch(0, 4))
        found = await one.candidates()
    assert (answer.candidates, answer.downloaded) == (3, 3)
    assert [(c.url, c.title, c.creator, c.license, c.license_url) for c in found.items] == [
        (urls[0], "a red panda", "Ann", "CC-BY-4.0", ""),
        (urls[1], "", "", "CC-BY-SA-4.0", cc),
        (urls[2], "", "", "all rights reserved", ""),
    ]
    assert found.items[0].landing_url == "http://page/"
    assert found.head.exhausted


@pytest.mark.parametrize(("offset", "exhausted"), [(0, False), (490, False), (1180, True)])
async def test_a_stretch_of_a_list(
    module_database: str, tmp_path: Path, offset: int, *, exhausted: bool
) -> None:
    """Wherever it begins, over the borders of blocks; its end is the end of the search."""
    async with serving() as site, bench(module_database, tmp_path) as one:
        pages = listed(site, 20)
        rows = [ListedRow(f"{pages[n % 20]}?{n}") for n in range(1200)]
        for row in rows[offset : offset + 20]:
            site.page(row.url.removeprefix(site.url("")), b"\xff\xd8\xff")
        await give(one, rows)
        await one.run(stretch(offset, 20))
        found = await one.candidates()
    assert [c.url for c in found.items] == [row.url for row in rows[offset : offset + 20]]
    assert bool(found.head.exhausted) == exhausted


async def test_a_list_that_is_gone(module_database: str, tmp_path: Path) -> None:
    """The chunk is given up, with the reason; asking again would not help."""
    async with serving() as site, bench(module_database, tmp_path) as one:
        list_id = await give(one, [ListedRow(url) for url in listed(site, 3)])
        await one.blobs.delete_prefix(names.list_prefix(list_id))
        for _ in range(2):
            with pytest.raises(GiveUp, match="was deleted") as caught:
                await one.run(stretch(0, 3))
            assert (caught.value.error, caught.value.retriable) == ("list_deleted", False)
            async with one.engine.begin() as connection:
                await connection.execute(
                    update(url_lists)
                    .where(url_lists.c.list_id == list_id)
                    .values(deleted_at=func.now())
                )
