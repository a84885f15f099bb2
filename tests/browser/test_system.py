"""The page in front of a whole system: one job on the miniature web, from the form to its files."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, expect

from pixcrawler.miniweb import names, plans, site
from pixcrawler.miniweb.site import Site
from tests.browser.conftest import browser_path
from tests.browser.tab import Tab
from tests.e2e.system import STAGES, Json, System, running

FINISH_MS = 120_000
LOADED = """(number) => number ===
    [...document.querySelectorAll(".wall img")].filter((image) => image.naturalWidth).length"""


@pytest.fixture(scope="module")
def web() -> Iterator[Site]:
    """Every kind of page once, some photographs."""
    browser_path()
    with site.running(plans.small_plan(names.private_names()), seed=7) as started:
        yield started


@pytest.fixture(scope="module")
def system(web: Site) -> Iterator[System]:
    """The system that crawls it."""
    with running(web.env, dict.fromkeys(STAGES, 1)) as started:
        yield started


async def shown_number(page: Page, name: str) -> int:
    """The number of an outcome, as the table of outcomes has it."""
    row = page.locator("table.outcomes tbody tr").filter(has=page.get_by_text(name, exact=True))
    return int((await row.locator("td").first.inner_text()).replace(",", ""))


async def test_a_job_from_the_form_to_its_files(
    system: System, web: Site, tab: Tab, tmp_path: Path
) -> None:
    """What is watched live ends as the API says: numbers, pictures, reasons, licences, files."""
    page = tab.page
    await page.goto(f"{system.api.url}/#key={system.key}")
    await page.get_by_role("link", name="New job").first.click()
    await page.get_by_label("Keywords").fill("\n".join(web.keywords))
    await page.get_by_label("Images", exact=True).fill(str(web.supply))
    await page.get_by_role("button", name="Start the job").click()
    await expect(page.locator(".state")).to_have_text("live")
    status = page.locator("main h1 .badge")
    await expect(status).to_have_text("running", timeout=FINISH_MS)
    await expect(status).to_have_text("completed", timeout=FINISH_MS)
    job_id = urlsplit(page.url).fragment.split("/")[2]
    progress = system.progress(job_id)
    assert progress["images"]["valid"] == web.supply
    await _overview(tab, progress["images"])
    await _images(tab, web.supply)
    await _dropped(tab, sum(progress["images"]["dropped"].values()))
    await _chunks(tab, progress["total_chunks"])
    await _files(tab, system.api.get(f"/v1/jobs/{job_id}/dataset")["files"], tmp_path)
    await page.get_by_role("link", name="All jobs").click()
    row = page.get_by_role("row").filter(has_text="completed")
    await expect(row).to_contain_text(f"{web.supply} (100.0 %)")
    await tab.looks_right("done")


async def _overview(tab: Tab, images: Json) -> None:
    """Every outcome has its number, licences add up to what is kept."""
    page, kept = tab.page, images["valid"]
    await expect(page.get_by_text(f"{kept} of {kept} (100.0 %)")).to_be_visible()
    assert await shown_number(page, "kept") == kept
    for name, number in images["dropped"].items():
        assert await shown_number(page, name) == number
    await expect(page.locator(".codes")).to_contain_text("HTTP: ")
    licences = page.get_by_role("table", name="Licences of the kept images").locator("tbody tr")
    counted = [int(text) for text in await licences.locator("td:nth-child(2)").all_inner_texts()]
    assert sum(counted) == kept
    await tab.looks_right("finished")


async def _images(tab: Tab, kept: int) -> None:
    """Every kept image is there, as a picture where a browser shows its format."""
    page = tab.page
    await page.get_by_role("link", name="Images", exact=True).click()
    tiles = page.locator(".wall li")
    await expect(tiles.first).to_be_visible()
    if kept > await tiles.count():
        await page.get_by_role("button", name="Show more").click()
    await expect(tiles).to_have_count(kept)
    for number in range(kept):
        await tiles.nth(number).scroll_into_view_if_needed()
    pictures = await page.locator(".wall img").count()
    assert pictures > kept / 2
    await page.wait_for_function(LOADED, arg=pictures)
    await tab.looks_right("images")


async def _dropped(tab: Tab, number: int) -> None:
    """Every URL that was dropped is listed, page by page."""
    page = tab.page
    await page.get_by_role("link", name="Dropped").click()
    rows = page.locator("table.dropped tbody tr")
    more = page.get_by_role("button", name="Show more")
    await expect(rows.first).to_be_visible()
    while await more.count():
        before = await rows.count()
        await more.click()
        await expect(rows.nth(before)).to_be_visible()
    await expect(rows).to_have_count(number)
    await tab.looks_right("reasons")


async def _chunks(tab: Tab, number: int) -> None:
    """Every chunk is there, with the stages of its attempts."""
    page = tab.page
    await page.get_by_role("link", name="Chunks").click()
    rows = page.locator("table.chunks tbody tr")
    await expect(rows).to_have_count(number)
    await rows.first.locator("summary").click()
    await expect(rows.first.locator(".attempts")).to_contain_text("downloader")
    await tab.looks_right("chunks")


async def _files(tab: Tab, files: list[Json], folder: Path) -> None:
    """Every file is there, and an archive downloads as it was stored."""
    page = tab.page
    await page.get_by_role("link", name="Files").click()
    await expect(page.locator("table tbody tr")).to_have_count(len(files))
    await tab.looks_right("files")
    archive = next(file for file in files if file["path"].endswith(".zip"))
    async with page.expect_download() as started:
        await page.get_by_role("link", name=archive["path"]).click()
    download = await started.value
    assert download.suggested_filename == archive["path"]
    await download.save_as(folder / "archive")
    content = (folder / "archive").read_bytes()
    assert hashlib.sha256(content).hexdigest() == archive["sha256"]
