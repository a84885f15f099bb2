"""What `X-Robots-Tag` headers mean for us."""

import pytest

from pixcrawler.downloader.robots import opted_out


@pytest.mark.parametrize(
    ("tags", "directive"),
    [
        (["noai"], "noai"),
        (["noimageai"], "noimageai"),
        (["noindex"], "noindex"),
        (["noimageindex"], "noimageindex"),
        (["none"], "none"),
        (["NoIndex , nofollow"], "noindex"),
        (["nofollow", "noarchive, noai"], "noai"),
        (["PixCrawler: noai"], "noai"),
        (["pixcrawler/1.0: noai"], "noai"),
        (["*: noindex"], "noindex"),
        (["otherbot: nofollow, pixcrawler: noai"], "noai"),
        (["otherbot: noindex", "noai"], "noai"),
        (["unavailable_after: Wed, 25 Jun 2010 15:00:00 GMT, noindex"], "noindex"),
        (["max-image-preview: large, noai"], "noai"),
    ],
)
def test_we_are_kept_out(tags: list[str], directive: str) -> None:
    """For everyone or for us by name, in any case, in lists, in several headers."""
    assert opted_out(tags, "PixCrawler") == directive


@pytest.mark.parametrize(
    "tags",
    [
        [],
        [""],
        ["all"],
        ["nofollow, noarchive, max-image-preview: large"],
        ["otherbot: noindex, noai"],
        ["googlebot: noindex", "bingbot: noai, noimageai"],
        ["pixcrawler2: noindex"],
        ["index, noaim"],
    ],
)
def test_others_are_kept_out_or_nobody(tags: list[str]) -> None:
    """Other crawlers' directives, and directives that do not concern images' use."""
    assert opted_out(tags, "PixCrawler") == ""
