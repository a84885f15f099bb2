"""What the searches know about a page: licence, creator, title; invented, and full of oddities."""

import random
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from pixcrawler.miniweb import licenses
from pixcrawler.miniweb.licenses import License
from pixcrawler.miniweb.plans import COMMONS
from pixcrawler.miniweb.truth import Listing

CREATORS = (
    "Ana Lucía Prieto",
    "Søren Krøyer-Holm",
    "O'Hara & Daughters",
    "村田 光",
    "pixelfarmer_88",
    'Jan "Sunny" Novák',
    "Museum of Small Things",
    "Nkechi Adeyemi",
)
PLACES = ("Río Duje", "the old quay", "Żabieniec", "Hilltop <north>", "Aitzgorri", "Gate 4")
UPLOADERS = ("Uploadbot", "Tidying up", "GLAM importer")


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result: the URL, what is true about it, and what only the service would say."""

    url: str
    listing: Listing
    license: License
    width: int
    height: int
    filesize: int
    number: int
    """Unique within the web; identifiers are made from it."""
    artist_html: str


def describe(
    url: str, number: int, source: str, keyword: str, *, seed: int, image: tuple[int, int, int]
) -> Hit:
    """A result for `url`; `image` is (width, height, bytes), claimed if unknown."""
    rng = random.Random(f"{seed}:listing:{number}")
    creator = rng.choice(CREATORS)
    title = f"{keyword.capitalize()} at {rng.choice(PLACES)} {number:04d}"
    if source == COMMONS:
        title = title.replace("<", "(").replace(">", ")")  # not allowed in a page's name
    known = licenses.COMMONS if source == COMMONS else licenses.OPENVERSE
    license_ = rng.choice(known)
    width, height, filesize = (value or rng.randrange(300, 6000) for value in image)
    listing = Listing(
        source=source,
        keyword=keyword,
        license=license_.spdx,
        license_url=license_.url,
        creator=creator,
        title=title,
        landing_url=landing_url(source, title, number),
    )
    return Hit(url, listing, license_, width, height, filesize, number, _artist(creator, rng))


def landing_url(source: str, title: str, number: int) -> str:
    """The page about the image, at the service that has it."""
    if source == COMMONS:
        return f"https://commons.example/wiki/{quote(file_title(title).replace(' ', '_'), ':')}"
    return f"https://photos.example/p/{number}"


def file_title(title: str) -> str:
    """The name of the file's page on Commons."""
    return f"File:{title}.jpg"


def _artist(creator: str, rng: random.Random) -> str:
    """HTML around a creator's name, as templates of Commons make it."""
    name = escape(creator, quote=False)
    user = f'<a href="//commons.example/wiki/User:X" title="User:X">{name}</a>'
    return rng.choice(
        (
            name,
            user,
            f"<bdi>{user}\n</bdi>",
            f'<span class="vcard"><span class="fn">{name}</span></span>',
            f'<div class="fn value">\n<a rel="nofollow" class="external" href="#">{name}</a></div>',
        )
    )
