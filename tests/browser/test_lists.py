"""A file of URLs in the form for a new job: an api on a real database, which reads it for real."""

import asyncio
import gzip
import re
from pathlib import Path

from playwright.async_api import Page, Route, expect

from tests.browser.conftest import NETWORK, Served
from tests.browser.tab import Tab

GOOD = "".join(f"https://example.org/{n}.jpg,caption {n}\n" for n in range(30))
BAD = "".join(f"ftp://example.org/{n}.jpg,no\n" for n in range(130))
CSV = f"image_link,alt\n{GOOD}{BAD}https://example.org/0.jpg,again\n<img src=x>,markup\n"

DROP = """([name, text]) => {
    const carried = new DataTransfer();
    carried.items.add(new File([text], name));
    const at = document.querySelector("#keywords");
    const event = { bubbles: true, cancelable: true, dataTransfer: carried };
    for (const kind of ["dragenter", "dragover", "drop"])
        at.dispatchEvent(new DragEvent(kind, event));
}"""


async def form(served: Served, tab: Tab) -> Page:
    """The form, with a key that may write."""
    await tab.page.goto(served.link)
    await tab.page.get_by_role("link", name="New job").first.click()
    await expect(tab.page.get_by_label("Keywords")).to_be_focused()
    return tab.page


async def lists(served: Served) -> int:
    """How many lists the API has."""
    return len((await served.world.get("/v1/url-lists"))["items"])


async def test_a_file_becomes_a_job(served: Served, tab: Tab, tmp_path: Path) -> None:
    """What was taken and what was left out is shown before it starts, and told to who hears it."""
    page = await form(served, tab)
    (tmp_path / "mine.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    await page.get_by_label("My own list of URLs").press("Space")
    async with page.expect_request("**/v1/url-lists?*") as sent:
        await page.get_by_label("A file of URLs").set_input_files(tmp_path / "mine.csv.gz")
    assert (await sent.value).headers["idempotency-key"]
    told = "31 URLs in mine.csv.gz, 1 of them listed before; 131 rows left out."
    await expect(page.get_by_text(told).first).to_be_visible()
    await expect(page.locator("#spoken")).to_have_text(told)
    await expect(page.get_by_text("URLs from “image_link”, captions from “alt”")).to_be_visible()
    await expect(page.get_by_label("Images", exact=True)).to_have_value("30")
    await expect(page.get_by_label("Openverse")).not_to_be_checked()
    await expect(page.get_by_label("Or the URLs themselves")).to_be_hidden()
    await page.get_by_text("131 rows were left out").press("Enter")
    rows = page.get_by_role("region", name="Rows that were left out").locator("li")
    await expect(rows).to_have_count(20)
    await expect(rows.first).to_have_text(
        "Line 32 not an http or https URL: ftp://example.org/0.jpg"
    )
    await tab.looks_right("list-taken")
    more = page.get_by_role("button", name="Show more of them")
    await more.press("Enter")
    await expect(rows).to_have_count(100)
    await more.press("Enter")
    await expect(rows).to_have_count(131)
    await expect(rows.last).to_have_text("Line 163 not an http or https URL: <img src=x>")
    await expect(more).to_have_count(0)
    await page.get_by_role("button", name="Start the job").press("Enter")
    await expect(page).to_have_url(re.compile(r"#/jobs/[0-9a-f-]{36}$"))
    (job,) = (await served.world.get("/v1/jobs"))["items"]
    (listed,) = (await served.world.get("/v1/url-lists"))["items"]
    assert (job["sources"], job["max_images"], job["url_list_id"]) == (["urls"], 30, listed["id"])


async def test_a_file_is_dropped_anywhere(served: Served, tab: Tab) -> None:
    """It is taken wherever it falls; another takes its place; nothing that is unused stays."""
    page = await form(served, tab)
    await page.get_by_label("Keywords").fill("red panda")
    await page.get_by_label("Images", exact=True).fill("7")
    await page.evaluate(DROP, ["one.txt", "https://example.org/1.jpg\n"])
    await expect(page.get_by_text("1 URL in one.txt.").first).to_be_visible()
    await expect(page.get_by_label("My own list of URLs")).to_be_checked()
    await expect(page.get_by_label("Openverse")).to_be_checked()  # there is a keyword for it
    await expect(page.get_by_label("Images", exact=True)).to_have_value("7")
    async with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        await page.evaluate(DROP, ["two.txt", "https://example.org/1.jpg\nhttps://b.org/2.jpg\n"])
    await expect(page.get_by_text("2 URLs in two.txt.").first).to_be_visible()
    assert await lists(served) == 1
    async with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        await page.get_by_role("button", name="Remove the file").press("Enter")
    await expect(page.get_by_label("A file of URLs")).to_be_focused()
    await expect(page.get_by_label("Or the URLs themselves")).to_be_visible()
    assert await lists(served) == 0
    await page.evaluate(DROP, ["three.txt", "https://example.org/1.jpg\n"])
    await expect(page.get_by_text("1 URL in three.txt.").first).to_be_visible()
    async with page.expect_response(lambda answer: answer.request.method == "DELETE"):
        await page.get_by_role("link", name="Back").click()
    assert await lists(served) == 0


async def test_a_file_that_is_refused(served: Served, tab: Tab) -> None:
    """The reason stands at the field; unknown columns are named and the file is read again."""
    page = await form(served, tab)
    tab.expect(NETWORK.pattern)
    await page.evaluate(DROP, ["picture.csv", "GIF89a and so on"])
    error = page.locator("#list-error")
    await expect(error).to_contain_text("picture.csv is no list of URLs but a GIF image")
    await expect(page.get_by_label("A file of URLs")).to_be_focused()
    await page.evaluate(DROP, ["odd.csv", "where,what\nhttps://example.org/1.jpg,a cat\n"])
    await expect(error).to_contain_text("no column that is known to hold URLs")
    await tab.looks_right("list-refused")
    await page.get_by_label("Column of URLs").fill("where")
    await page.get_by_label("Column of captions").fill("what")
    await page.get_by_role("button", name="Read the file again").press("Enter")
    await expect(page.get_by_text("URLs from “where”, captions from “what”")).to_be_visible()
    await expect(error).to_be_empty()


async def test_a_file_on_its_way(served: Served, tab: Tab) -> None:
    """A job waits for its list; an upload can be stopped, and a lost one says so."""
    page = await form(served, tab)
    tab.expect("ERR_")
    on_its_way, routes = asyncio.Event(), list[Route]()

    async def hold(route: Route) -> None:
        routes.append(route)
        on_its_way.set()

    await page.route("**/v1/url-lists?*", hold)
    await page.evaluate(DROP, ["slow.txt", "https://example.org/1.jpg\n"])
    await on_its_way.wait()
    await expect(page.get_by_role("progressbar", name="Upload of the list")).to_be_visible()
    await tab.looks_right("list-moving")
    await page.get_by_role("button", name="Start the job").click()
    await expect(page.locator("#list-error")).to_contain_text("still being read")
    await page.get_by_role("button", name="Stop").press("Enter")
    await expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    on_its_way.clear()
    await page.evaluate(DROP, ["slow.txt", "https://example.org/1.jpg\n"])
    await on_its_way.wait()
    await routes[-1].abort()
    await expect(page.locator("#list-error")).to_contain_text("slow.txt could not be sent")
    assert await lists(served) == 0
