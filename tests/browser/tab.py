"""A page of a browser, watched: what it complains about, and whether it fits its window."""

import os
import re
from pathlib import Path
from typing import Any

from playwright.async_api import ConsoleMessage, Page

WIDE, NARROW = (1280, 900), (375, 812)
SCREENSHOTS = "PIXCRAWLER_TEST_SCREENSHOTS"

_COLLECT = """
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) =>
        window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""

_WIDER = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const wide = [...document.querySelectorAll("main *")]
        .filter((e) => e.getBoundingClientRect().right > width + 1);
    return ["the document", ...wide.map((e) => e.outerHTML.slice(0, 120)).slice(0, 9)];
}"""

_NAMELESS = """() => {
    const named = (e) => (e.getAttribute("aria-label") || e.textContent || e.title || "").trim()
        || [...(e.labels ?? [])].some((label) => label.textContent.trim())
        || e.querySelector("img[alt]:not([alt=''])");
    const wrong = [...document.querySelectorAll("a, button, input, select, textarea, dialog")]
        .filter((e) => !named(e) && !e.getAttribute("aria-labelledby"));
    const pictures = [...document.querySelectorAll("img:not([alt])")];
    const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
    const twice = ids.filter((id, index) => ids.indexOf(id) !== index);
    const references = [...document.querySelectorAll("[aria-labelledby], [aria-describedby]")]
        .flatMap((e) => `${e.getAttribute("aria-labelledby") ?? ""} ${
            e.getAttribute("aria-describedby") ?? ""}`.split(/\\s+/))
        .filter((id) => id && !document.getElementById(id));
    const elements = [...wrong, ...pictures].map((e) => e.outerHTML.slice(0, 120));
    return [...elements, ...twice, ...references];
}"""


class Tab:
    """A page, and what went wrong in it.

    Args:
        page: Freshly made.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.expected: list[str] = []
        self._errors: list[str] = []

    async def watch(self) -> None:
        """From now on everything that it complains about is collected."""
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self._errors.append(f"thrown: {error}"))
        await self.page.add_init_script(_COLLECT)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._errors.append(f"{message.type}: {message.text}")

    def expect(self, pattern: str) -> None:
        """Such a complaint is what the test is about."""
        self.expected.append(pattern)

    async def problems(self) -> list[str]:
        """What it complained about, and what the page's policy had to forbid."""
        violations: list[str] = await self.page.evaluate("() => window.violations ?? []")
        unexpected = [
            error
            for error in self._errors
            if not any(re.search(pattern, error) for pattern in self.expected)
        ]
        return unexpected + violations

    async def text(self, selector: str = "main") -> str:
        """What is there to read."""
        return " ".join((await self.page.locator(selector).inner_text()).split())

    async def looks_right(self, name: str) -> None:
        """In wide and narrow windows nothing sticks out, and everything has a name.

        With `PIXCRAWLER_TEST_SCREENSHOTS` set, pictures of it are there, light and dark.
        """
        nameless: list[Any] = await self.page.evaluate(_NAMELESS)
        assert not nameless, (name, nameless)
        folder = os.environ.get(SCREENSHOTS)
        for width, height in (WIDE, NARROW):
            await self.page.set_viewport_size({"width": width, "height": height})
            wider: list[Any] = await self.page.evaluate(_WIDER)
            assert not wider, (name, width, wider)
            if folder:
                await self._picture(Path(folder), f"{name}-{width}")
        await self.page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})

    async def _picture(self, folder: Path, name: str) -> None:
        for scheme in ("light", "dark"):
            await self.page.emulate_media(color_scheme=scheme)
            await self.page.screenshot(path=folder / f"{name}-{scheme}.png", full_page=True)
        await self.page.emulate_media(color_scheme="light")
