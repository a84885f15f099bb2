"""The page in states that a whole system seldom shows: an api on a real database."""

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

from playwright.async_api import Route, expect
from sqlalchemy import insert, text

from pixcrawler.common import ids, names
from pixcrawler.common.db.tables import job_chunks, job_progress
from pixcrawler.common.documents import (
    Candidate,
    Candidates,
    CandidatesHead,
    ChunkResult,
    Verdict,
    Verdicts,
    VerdictsHead,
)
from pixcrawler.common.events import ImageTotals, ProgressImages, ProgressView
from pixcrawler.common.outcomes import Outcome
from tests.browser.conftest import NETWORK, Served
from tests.browser.tab import Tab
from tests.integration.api.conftest import World

KEY = "idempotency-key"
MARKUP = '<img src=x onerror="document.title=1"><b>bold</b>'


async def show(world: World, job_id: str, status: str, rest: int = 1, **fields: Any) -> None:
    """A job's progress, as the tracker would write it; a later one has a greater `rest`."""
    over = status not in {"pending", "running"}
    images = fields.pop("images", ProgressImages(requested=2500))
    view = ProgressView(
        job_id=job_id,
        status=status,
        images=images,
        started_at=world.clock(),
        finished_at=world.clock() if over else None,
        updated_at=world.clock(),
        **fields,
    )
    row = {"revision": [int(over), 1, int(over), 5, rest], "progress": view.model_dump(mode="json")}
    async with world.db.begin() as connection:
        await connection.execute(
            text("DELETE FROM job_progress WHERE job_id = :job_id"), {"job_id": job_id}
        )
        await connection.execute(insert(job_progress).values(job_id=job_id, **row))


async def test_signing_in_and_out(served: Served, tab: Tab) -> None:
    """Nothing is shown without a key; a wrong one is refused; signing out forgets it."""
    page = tab.page
    tab.expect(NETWORK.pattern)
    await page.goto(served.url)
    key = page.get_by_label("API key")
    await expect(key).to_be_focused()
    await tab.looks_right("sign-in")
    await key.fill("pxc_000000000000_" + "0" * 48)
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("not valid")
    await expect(key).to_be_focused()
    await key.fill(served.key)
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("No jobs yet")).to_be_visible()
    await page.reload()
    await expect(page.get_by_text("No jobs yet")).to_be_visible()
    await page.get_by_role("button", name="Sign out").click()
    await expect(key).to_be_visible()
    assert not await page.evaluate("() => localStorage.length + sessionStorage.length")
    await page.reload()
    await expect(key).to_be_visible()


async def test_a_link_signs_in(served: Served, tab: Tab) -> None:
    """The key of a link leaves the address before anything else, and is kept for this tab only."""
    page = tab.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(served.link)
    await expect(page.get_by_text("No jobs yet")).to_be_visible()
    assert page.url == f"{served.url}/#/"
    assert served.key not in "".join(asked)
    assert await page.evaluate("() => [localStorage.length, sessionStorage.length]") == [0, 1]


async def test_no_jobs_then_many(served: Served, tab: Tab) -> None:
    """An empty list says what to do; a job that is made meanwhile appears; more come on demand."""
    page = tab.page
    await page.goto(served.link)
    await expect(page.get_by_role("link", name="Start the first job")).to_be_visible()
    await tab.looks_right("empty")
    made = await served.world.job(name=MARKUP, keywords=["red panda", "<i>lighthouse</i>"])
    await show(
        served.world,
        made["job_id"],
        "running",
        progress=40.0,
        images=ProgressImages(requested=2500, candidates=2000, valid=1000),
    )
    row = page.get_by_role("row").filter(has_text="red panda")
    await expect(row).to_contain_text("1,000 (40.0 %)")
    await expect(row.get_by_role("link")).to_have_text(MARKUP)
    for number in range(25):
        await served.world.job(keywords=[f"keyword {number}"], max_images=10**6)
    await page.reload()
    await expect(page.locator("tbody tr")).to_have_count(25)
    await page.get_by_role("button", name="More jobs").click()
    await expect(page.locator("tbody tr")).to_have_count(26)
    await expect(page.get_by_role("button", name="More jobs")).to_have_count(0)
    await tab.looks_right("list")
    await page.get_by_label("Status").select_option("cancelled")
    await expect(page.get_by_text("No job has this status.")).to_be_visible()


async def test_starting_a_job(served: Served, tab: Tab) -> None:
    """By keyboard alone: what is wrong is said where it is; pressed twice it makes one job."""
    page = tab.page
    tab.expect(NETWORK.pattern)
    await page.goto(served.link)
    await page.get_by_role("link", name="New job").first.click()
    keywords = page.get_by_label("Keywords")
    await expect(keywords).to_be_focused()
    await tab.looks_right("new")
    number = page.get_by_label("Images", exact=True)
    await number.fill("2147483000")
    await number.press("Enter")
    await expect(keywords).to_be_focused()
    await expect(page.locator("#keywords-error")).to_have_text("Say what to look for.")
    await keywords.fill("red panda\n\n lighthouse ")
    await number.press("Enter")
    await expect(page.locator("#max_images-error")).to_contain_text("at most")
    await expect(number).to_be_focused()
    await expect(number).to_have_attribute("aria-invalid", "true")
    await page.get_by_text("Options").press("Enter")
    await page.get_by_label("Shortest side, in pixels").fill("256")
    await page.get_by_label("Near-duplicates").select_option("off")
    await expect(page.get_by_label("Resize to")).to_be_hidden()
    await expect(page.get_by_label("Quality")).to_be_hidden()
    await page.get_by_label("Size of the images").select_option("center_crop")
    await page.get_by_label("Resize to").fill("9999")
    await page.get_by_label("Format of the images").select_option("jpeg")
    await page.get_by_label("Quality").fill("80")
    await page.get_by_label("My own list of URLs").check()
    await page.get_by_label("Or the URLs themselves").fill("https://example.org/a.jpg\n")
    await tab.looks_right("new-wrong")
    await number.fill("700")
    await page.get_by_role("button", name="Start the job").click()
    await expect(page.locator("#image_size-error")).to_contain_text("8192")
    await expect(page.get_by_label("Resize to")).to_be_focused()
    await page.get_by_label("Resize to").fill("320")
    await page.get_by_role("button", name="Start the job").dblclick()
    await expect(page).to_have_url(re.compile(r"#/jobs/[0-9a-f-]{36}$"))
    await expect(page.get_by_role("heading", level=1)).to_contain_text("red panda, lighthouse")
    jobs = (await served.world.get("/v1/jobs"))["items"]
    assert len(jobs) == 1
    assert (jobs[0]["keywords"], jobs[0]["max_images"]) == (["red panda", "lighthouse"], 700)
    assert sorted(jobs[0]["sources"]) == ["commons", "openverse", "urls"]
    options = jobs[0]["options"]
    assert (options["min_size"], options["near_duplicates"]) == (256, None)
    assert (options["resize_mode"], options["image_size"]) == ("center_crop", 320)
    assert (options["image_format"], options["quality"], options["upright"]) == ("jpeg", 80, False)


async def test_a_key_that_may_only_read(served: Served, tab: Tab) -> None:
    """What a key may not do is answered with the reason, and nothing is lost."""
    page = tab.page
    tab.expect(NETWORK.pattern)
    headers = await served.world.key("reader", "read")
    await page.goto(f"{served.url}/#key={headers['Authorization'].removeprefix('Bearer ')}")
    await page.get_by_role("link", name="New job").first.click()
    await page.get_by_label("Keywords").fill("red panda")
    await page.get_by_role("button", name="Start the job").click()
    await expect(page.get_by_role("alert")).to_contain_text("scope write")
    await expect(page.get_by_label("Keywords")).to_have_value("red panda")


async def test_there_is_no_such_job(served: Served, tab: Tab) -> None:
    """Somebody else's job, or a deleted one, is not there, and the way on is shown."""
    tab.expect(NETWORK.pattern)
    await tab.page.goto(served.link)
    await tab.page.goto(f"{served.url}/#/jobs/{ids.new_job_id()}")
    await expect(tab.page.get_by_text("There is no such job")).to_be_visible()
    await tab.page.get_by_role("link", name="All jobs").click()
    await expect(tab.page.get_by_text("No jobs yet")).to_be_visible()


async def many_chunks(world: World, job_id: str, number: int) -> None:
    """So many chunks, in one statement: completed, failed, in progress, waiting."""
    statuses = ["completed"] * 1200 + ["failed"] * 3 + ["processing"] * 35
    rows = [
        {
            "chunk_id": ids.chunk_id(job_id, index),
            "job_id": job_id,
            "chunk_index": index,
            "status": statuses[index] if index < len(statuses) else "pending",
            "stage": "validator",
            "image_range": {"start": index * 500, "end": index * 500 + 499},
            "slices": [],
            "attempt": 2,
            "error_message": "the search did not answer <b>at all</b>"
            if 1200 <= index < 1203
            else None,
            "attempts": [
                {
                    "attempt": attempt,
                    "stage": "downloader",
                    "worker": "downloader-1",
                    "topic": "chunk.planned",
                    "partition": 3,
                    "offset": index,
                    "state": "failed" if attempt == 1 else "done",
                    "error": "blob_store" if attempt == 1 else None,
                    "message": "the store was away",
                }
                for attempt in (1, 2)
            ],
        }
        for index in range(number)
    ]
    async with world.db.begin() as connection:
        await connection.execute(insert(job_chunks), rows)


async def test_a_job_of_2000_chunks(served: Served, tab: Tab) -> None:
    """They are turned over page by page, found by status, and a failed one is tried again."""
    page, world = tab.page, served.world
    job_id = (await world.job(max_images=1_000_000))["job_id"]
    await many_chunks(world, job_id, 2000)
    await show(
        world,
        job_id,
        "running",
        progress=61.2,
        total_chunks=2000,
        pending_chunks=762,
        active_chunks=35,
        completed_chunks=1200,
        failed_chunks=3,
        eta_s=5400,
        images=ProgressImages(
            requested=1_000_000,
            candidates=900_000,
            downloaded=700_000,
            valid=612_000,
            bytes=10**11,
            dropped={"http_error": 20_000, "near_duplicate": 61_000, "corrupt": 500, "surplus": 2},
        ),
    )
    await page.goto(f"{served.link}")
    await page.goto(f"{served.url}/#/jobs/{job_id}")
    await expect(page.get_by_text("1,203 of 2,000, 3 failed")).to_be_visible()
    await expect(page.get_by_text("about 1 h 30 min")).to_be_visible()
    await expect(page.locator("tr").filter(has_text="near_duplicate")).to_contain_text("61,000")
    reason = "Chunk 1,200 failed: the search did not answer <b>at all</b>"
    await expect(page.get_by_text(reason)).to_be_visible()
    await tab.looks_right("large-overview")
    await page.get_by_role("link", name="Chunks").click()
    rows = page.locator("table.chunks tbody tr")
    await expect(rows).to_have_count(50)
    turn = page.get_by_role("button", name="Next")
    await turn.press("Enter")
    await expect(rows.first).to_contain_text("50")
    await expect(page.get_by_text("Chunks 50 to 99")).to_be_visible()
    await expect(turn).to_be_focused()
    await page.get_by_role("button", name="Previous").click()
    await expect(page.get_by_text("Chunks 0 to 49")).to_be_visible()
    await page.locator("#chunk-status").select_option("failed")
    await expect(rows).to_have_count(3)
    await expect(rows.first).to_contain_text("<b>at all</b>")
    await rows.first.locator("summary").click()
    await expect(rows.first).to_contain_text("blob_store: the store was away")
    await expect(rows.first).to_contain_text("chunk.planned[3] @ 1200")
    await tab.looks_right("large-chunks")
    async with page.expect_request("**/retry") as sent:
        await page.get_by_role("button", name="Retry chunk 1200").press("Enter")
    assert (await sent.value).headers[KEY]
    await expect(page.get_by_text("Round")).to_be_visible()
    await expect(page.get_by_role("region", name="Chunks", exact=True)).to_be_focused()
    assert [request[:2] for request in await world.requests(job_id)] == [(1, "start"), (2, "retry")]


async def test_a_look_does_not_overtake_a_turn(served: Served, tab: Tab) -> None:
    """A page that is long in coming is shown when it has come, though the job goes on meanwhile."""
    page, world = tab.page, served.world
    tab.expect(NETWORK.pattern)
    tab.expect("ERR_")
    job_id = (await world.job())["job_id"]
    await many_chunks(world, job_id, 120)
    await show(world, job_id, "running", total_chunks=120, completed_chunks=20)
    await page.clock.install()
    await page.goto(f"{served.link}")
    await page.goto(f"{served.url}/#/jobs/{job_id}/chunks")
    rows = page.locator("table.chunks tbody tr")
    await rows.first.locator("summary").click()
    asked, come = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        if not asked.is_set():  # the first one alone
            asked.set()
            await come.wait()
        await route.continue_()

    await page.route("**/chunks?*cursor=*", hold)
    await page.get_by_role("button", name="Next").click()
    await asked.wait()
    await page.clock.fast_forward(4000)
    await served.stop()  # when it is back, the page hears of what has changed meanwhile
    await show(world, job_id, "running", rest=2, total_chunks=120, completed_chunks=77)
    await served.start()
    await expect(page.get_by_text("120 chunks: 77 completed")).to_be_visible(timeout=20_000)
    come.set()
    await expect(page.get_by_text("Chunks 50 to 99")).to_be_visible()
    await expect(rows.first).to_contain_text("50")


async def decided(world: World, job_id: str) -> None:
    """A chunk whose candidates come from people who do not mean well."""
    chunk = (await world.plan(job_id, "completed"))[0]
    urls = {
        f"https://example.org/{MARKUP}": (Outcome.HTTP_ERROR, MARKUP),
        "javascript:document.title='run'": (Outcome.BLOCKED, "no http"),
        "https://example.org/" + "long" * 500: (Outcome.TIMEOUT, ""),
        **{f"https://example.org/{n}.jpg": (Outcome.CORRUPT, "") for n in range(120)},
    }
    candidates = tuple(
        Candidate(position=n, url=url, source="commons", keyword=MARKUP)
        for n, url in enumerate(urls)
    )
    verdicts = tuple(
        Verdict(position=n, url=url, outcome=outcome, detail=detail, http_status=404)
        for n, (url, (outcome, detail)) in enumerate(urls.items())
    )
    head = CandidatesHead(chunk_id=chunk, count=len(urls))
    await world.blobs.create(
        names.candidates(chunk), Candidates(head=head, items=candidates).dump()
    )
    judged = VerdictsHead(chunk_id=chunk, images=ImageTotals(), valid_images=0)
    await world.blobs.create(names.verdicts(chunk), Verdicts(head=judged, items=verdicts).dump())
    result = ChunkResult(chunk_id=chunk, status="completed")
    await world.blobs.create(names.result(chunk), result.model_dump_json().encode())


async def test_what_was_dropped(served: Served, tab: Tab) -> None:
    """Texts and addresses from others are text: nothing runs, and only http and https are links."""
    page, world = tab.page, served.world
    job_id = (await world.job(name=MARKUP))["job_id"]
    await decided(world, job_id)
    await show(
        world,
        job_id,
        "running",
        images=ProgressImages(
            requested=10,
            candidates=123,
            dropped={"http_error": 1, "blocked": 1, "timeout": 1, "corrupt": 120},
        ),
    )
    await page.goto(served.link)
    await page.goto(f"{served.url}/#/jobs/{job_id}/dropped")
    rows = page.locator("table.dropped tbody tr")
    await expect(rows.first).to_contain_text(f"HTTP 404: {MARKUP}")
    await expect(rows.nth(1)).to_contain_text("javascript:document.title='run'")
    assert await rows.nth(1).locator("a").count() == 0
    link = rows.nth(2).locator("a")
    assert (await link.get_attribute("rel"), await link.get_attribute("target")) == (
        "noopener noreferrer",
        "_blank",
    )
    assert await page.locator("main b:text-is('bold')").count() == 0
    await tab.looks_right("dropped")
    await page.get_by_label("Why").select_option("corrupt")
    await expect(rows).to_have_count(50)
    await page.get_by_role("button", name="Show more").click()
    await expect(rows).to_have_count(100)
    assert await page.title() == f"{MARKUP} · PixCrawler"


async def test_cancelling_asks_first(served: Served, tab: Tab) -> None:
    """Escape changes nothing and gives the focus back; the confirmation cancels."""
    page, world = tab.page, served.world
    job_id = (await world.job())["job_id"]
    await show(world, job_id, "running")
    await page.goto(served.link)
    await page.goto(f"{served.url}/#/jobs/{job_id}")
    button = page.get_by_role("button", name="Cancel", exact=True)
    await button.press("Enter")
    dialog = page.get_by_role("dialog", name="Cancel this job?")
    await expect(dialog.get_by_role("button", name="Back")).to_be_focused()
    await tab.looks_right("cancel")
    await page.keyboard.press("Escape")
    await expect(dialog).to_have_count(0)
    await expect(button).to_be_focused()
    assert len(await world.events(job_id)) == 1
    await button.press("Enter")
    async with page.expect_response(re.compile("/cancel$")) as answered:
        await dialog.get_by_role("button", name="Cancel the job").click()
    assert (await answered.value).request.headers[KEY]
    await expect(dialog).to_have_count(0)
    assert [event.topic for event in await world.events(job_id)] == ["job.created", "job.cancelled"]
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    await expect(page.get_by_text("No jobs yet")).to_be_visible()


class Held:
    """A request of the page that waits to be let through."""

    def __init__(self) -> None:
        self.come = asyncio.Event()
        self.let = asyncio.Event()

    async def __call__(self, route: Route) -> None:
        """Hold it."""
        self.come.set()
        await self.let.wait()
        await route.continue_()


async def test_what_is_pressed_while_something_is_done(served: Served, tab: Tab) -> None:
    """While a job is being cancelled it can be deleted: no press is passed over, and the question
    outlasts what is drawn again behind it."""
    page, world, held = tab.page, served.world, Held()
    tab.expect(NETWORK.pattern)  # there is no dataset here
    job_id = (await world.job())["job_id"]
    await show(world, job_id, "running")
    await page.goto(served.link)
    await page.goto(f"{served.url}/#/jobs/{job_id}")
    await page.route("**/cancel", held)
    button = page.get_by_role("button", name="Cancel", exact=True)
    await button.press("Enter")
    await page.get_by_role("button", name="Cancel the job").press("Enter")
    await held.come.wait()
    await expect(button).to_have_attribute("aria-disabled", "true")
    await expect(button).to_be_focused()
    await page.get_by_role("button", name="Delete").press("Enter")
    dialog = page.get_by_role("dialog", name="Delete this job?")
    await expect(dialog).to_be_visible()
    await show(world, job_id, "cancelled", rest=2)
    held.let.set()
    await expect(page.locator("main h1 .badge")).to_have_text("cancelled")
    await expect(dialog.get_by_role("button", name="Back")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(button).to_have_count(0)
    await expect(page.get_by_role("button", name="Delete")).to_be_focused()


async def test_a_press_outlasts_a_redraw(served: Served, tab: Tab) -> None:
    """What changes between the press of a button and its release takes the button from nobody."""
    page, world, held = tab.page, served.world, Held()
    tab.expect(NETWORK.pattern)  # there is no dataset here
    job_id = (await world.job())["job_id"]
    await show(world, job_id, "running")
    await page.goto(served.link)
    await page.goto(f"{served.url}/#/jobs/{job_id}")
    await expect(page.locator(".state")).to_have_text("live")
    await page.route("**/progress", held)
    await page.get_by_role("button", name="More images").click()
    await page.keyboard.press("Enter")
    await held.come.wait()
    await world.show(job_id, "completed", finished=2)
    cancel = page.get_by_role("button", name="Cancel", exact=True)
    box = await page.get_by_role("button", name="Delete").bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    await page.mouse.down()
    held.let.set()
    await expect(page.locator("main h1 .badge")).to_have_text("completed")
    await expect(cancel).to_be_visible()
    await page.mouse.up()
    await expect(page.get_by_role("dialog", name="Delete this job?")).to_be_visible()
    await expect(cancel).to_have_count(0)


async def test_extending(served: Served, tab: Tab) -> None:
    """More images: asked how many, then the job has a further round. Where the answer gets lost,
    asking again does it no second time; later it does."""
    page, world = tab.page, served.world
    tab.expect(NETWORK.pattern)
    job_id = (await world.job())["job_id"]
    await show(world, job_id, "running")
    await page.goto(served.link)
    await page.goto(f"{served.url}/#/jobs/{job_id}")
    keys: list[str] = []

    async def lose_the_first(route: Route) -> None:
        keys.append(route.request.headers[KEY])
        answer = await route.fetch()
        if len(keys) == 1:
            await route.abort()
        else:
            await route.fulfill(response=answer)

    await page.route("**/chunks?max_images=*", lose_the_first)

    async def extend() -> None:
        await page.get_by_role("button", name="More images").click()
        await page.get_by_role("spinbutton", name="More images").fill("40")
        await page.keyboard.press("Enter")

    def round_is(number: int) -> Any:
        fact = page.locator("dl.facts div").filter(has_text="Round")
        return expect(fact).to_contain_text(str(number))

    await extend()
    await expect(page.get_by_role("alert").first).to_contain_text("cannot be reached")
    await extend()
    await round_is(2)
    asked = [(1, "start", 0, None), (2, "extend", 40, None)]
    assert await world.requests(job_id) == asked
    await extend()
    await round_is(3)
    assert await world.requests(job_id) == [*asked, (3, "extend", 40, None)]
    assert keys[0] == keys[1] != keys[2]


async def test_retrying(served: Served, tab: Tab) -> None:
    """All failed chunks, pressed twice: one further round, asked for with a key."""
    page, world = tab.page, served.world
    tab.expect(NETWORK.pattern)  # there is no dataset here
    job_id = (await world.job())["job_id"]
    await world.plan(job_id, "completed", "failed")
    await world.close_round(job_id, 1)
    await show(world, job_id, "incomplete", total_chunks=2, completed_chunks=1, failed_chunks=1)
    await page.goto(served.link)
    await page.goto(f"{served.url}/#/jobs/{job_id}")
    async with page.expect_request("**/retry") as sent:
        await page.get_by_role("button", name="Retry 1 failed chunk").dblclick()
    assert (await sent.value).headers[KEY]
    await expect(page.get_by_text("Round")).to_be_visible()
    assert [asked[:2] for asked in await world.requests(job_id)] == [(1, "start"), (2, "retry")]


async def test_a_lost_connection(served: Served, tab: Tab) -> None:
    """It is said, what was shown stays, and it goes on by itself where it was."""
    page, world = tab.page, served.world
    tab.expect(NETWORK.pattern)
    tab.expect("ERR_")
    job_id = (await world.job())["job_id"]
    half = ProgressImages(requested=2500, candidates=2000, valid=1250)
    await show(world, job_id, "running", progress=50.0, images=half)
    await page.goto(served.link)
    await page.goto(f"{served.url}/#/jobs/{job_id}")
    await expect(page.locator(".state")).to_have_text("live")
    await served.stop()
    await expect(page.locator(".state")).to_contain_text("connection lost")
    await expect(page.locator("#trouble")).to_contain_text("is lost")
    await expect(page.get_by_text("1,250 of 2,500 (50.0 %)")).to_be_visible()
    await tab.looks_right("lost")
    more = half.model_copy(update={"valid": 2000})
    await show(world, job_id, "running", rest=2, progress=80.0, images=more)
    await served.start()
    await expect(page.get_by_text("2,000 of 2,500 (80.0 %)")).to_be_visible(timeout=20_000)
    await expect(page.locator("#trouble")).to_be_hidden()
    await expect(page.locator(".state")).to_have_text("live")


async def test_nothing_answers(served: Served, tab: Tab) -> None:
    """A list that cannot be loaded says so, and can be tried again."""
    page = tab.page
    tab.expect(NETWORK.pattern)
    tab.expect("ERR_")
    await page.goto(served.link)
    await page.get_by_role("link", name="New job").first.click()
    await expect(page.get_by_label("Keywords")).to_be_visible()
    await served.stop()
    await page.get_by_role("link", name="Jobs", exact=True).click()
    await expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    await tab.looks_right("away")
    await served.start()
    await page.get_by_role("button", name="Try again").click()
    await expect(page.get_by_text("No jobs yet")).to_be_visible()


async def test_progress_is_told_to_those_who_do_not_see_it(served: Served, tab: Tab) -> None:
    """A polite region has a sentence in steps of ten; bars have names and values."""
    page, world = tab.page, served.world
    world.clock.time = datetime.now(UTC)
    job_id = (await world.job())["job_id"]
    images = ProgressImages(requested=2500, candidates=2000, valid=1100)
    await show(world, job_id, "running", progress=44.0, images=images)
    await page.goto(served.link)
    await page.goto(f"{served.url}/#/jobs/{job_id}")
    spoken = page.locator("#spoken")
    await expect(spoken).to_have_text("40 percent, 1,100 images kept.")
    await expect(spoken).to_have_attribute("aria-live", "polite")
    kept = page.get_by_role("progressbar", name="Kept")
    await expect(kept).to_have_attribute("aria-valuenow", "44.0")
    await page.keyboard.press("Tab")
    await page.emulate_media(reduced_motion="reduce")
    moves = await page.locator(".bar .fill").first.evaluate("e => getComputedStyle(e).transition")
    assert moves.startswith("none")


async def test_docs(served: Served, tab: Tab) -> None:
    """The API's description is readable under the same policy, every operation of it."""
    page = tab.page
    await page.goto(f"{served.url}/docs")
    await expect(page.get_by_role("heading", name="PixCrawler API")).to_be_visible()
    described = (await served.world.get("/openapi.json"))["paths"]
    operations = sum(len(methods) for methods in described.values())
    await expect(page.locator(".verb")).to_have_count(operations)
    await page.get_by_text("/v1/jobs/{job_id}/progress").first.click()
    await tab.looks_right("docs")
