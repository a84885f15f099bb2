"""Kinds of pages that differ in how their host behaves: errors, silence, redirects, opting out."""

from collections.abc import Callable

from pixcrawler.miniweb import files
from pixcrawler.miniweb.images import Make
from pixcrawler.miniweb.pages import Forge, Page
from pixcrawler.miniweb.replies import (
    Answer,
    Broken,
    Drip,
    Flaky,
    Headers,
    Redirect,
    Reply,
    RetryLater,
    Silence,
)

MEMBERS = "members"
"""The folder that robots.txt of the second media host closes to everyone."""
NO_ROBOTS = "no-robots"
"""The folder that robots.txt of the third media host closes to PixCrawler by name."""


# --- errors -------------------------------------------------------------------------------------


def error(status: int) -> Reply:
    """A page that says so."""
    return Answer(files.html(str(status)), "text/html; charset=utf-8", status=status)


def failing(status: int, *, with_image: bool = False) -> Make:
    """An error for ever; `with_image`: its body is a photograph all the same."""

    def make(forge: Forge) -> list[Page]:
        reply = Answer(forge.any_jpeg(), status=status) if with_image else error(status)
        return [Page(forge.place(reply), http_status=status)]

    return make


def always_later(status: int) -> Make:
    """`Retry-After: 1` for ever."""
    return lambda forge: [Page(forge.place(RetryLater(status, 1)), http_status=status)]


def recovering(*first: Reply, faulty: bool = False) -> Make:
    """Fails as in `first`, then serves a photograph; `faulty`: on the faulty host."""

    def make(forge: Forge) -> list[Page]:
        picture = forge.photo()
        host = forge.ports.faulty if faulty else -1
        return [Page(forge.place(Flaky(first, Answer(picture.data)), host=host), picture)]

    return make


# --- connections --------------------------------------------------------------------------------


def broken(reply: Callable[[bytes], Reply]) -> Make:
    """Something goes wrong while a photograph is on its way, on the faulty host."""

    def make(forge: Forge) -> list[Page]:
        return [Page(forge.place(reply(forge.any_jpeg()), host=forge.ports.faulty))]

    return make


def reset_midway(body: bytes) -> Reply:
    """Half of it, then a reset."""
    return Broken(body[: len(body) // 2], len(body), reset=True)


def closed_midway(body: bytes) -> Reply:
    """Half of it, then a polite end."""
    return Broken(body[: len(body) // 2], len(body), reset=False)


def reset_at_once(body: bytes) -> Reply:
    """A reset in place of an answer."""
    return Broken(b"", len(body), reset=True, headers=False)


def silent_midway(body: bytes) -> Reply:
    """Half of it, then silence."""
    return Silence(body[: len(body) // 2])


def silent(_body: bytes) -> Reply:
    """Not one byte."""
    return Silence()


def dripping(body: bytes) -> Reply:
    """A byte now and then."""
    return Drip(body, piece=1, pause_s=0.25)


def slow(forge: Forge) -> list[Page]:
    """A photograph in three pieces, slow but in time."""
    picture = forge.photo()
    drip = Drip(picture.data, piece=len(picture.data) // 3 + 1, pause_s=0.2)
    return [Page(forge.place(drip), picture)]


def refused(forge: Forge) -> list[Page]:
    """A port at which nobody listens."""
    return [Page(forge.at(forge.ports.refused, f"/photo/{forge.name()}.jpg"))]


def unresolvable(forge: Forge) -> list[Page]:
    """A name that cannot exist (RFC 2606)."""
    name = f"photos-{forge.number}-{forge.rng.randrange(16**6):06x}.invalid"
    return [Page(f"http://{name}/{forge.name()}.jpg")]


def not_tls(forge: Forge) -> list[Page]:
    """TLS wanted of a port that speaks plain HTTP."""
    return [Page(f"https://127.0.0.1:{forge.ports.faulty}/photo/{forge.name()}.jpg")]


# --- redirects ----------------------------------------------------------------------------------


def redirected(hops: int, status: int = 302) -> Make:
    """A photograph behind `hops` redirects."""

    def make(forge: Forge) -> list[Page]:
        picture = forge.photo()
        final = forge.place(Answer(picture.data))
        return [Page(_chain(forge, final, hops, status), picture, final_url=final)]

    return make


def redirected_relatively(forge: Forge) -> list[Page]:
    """A photograph behind a redirect that names only a path."""
    picture = forge.photo()
    host = forge.rng.choice(forge.ports.media)
    final = forge.place(Answer(picture.data), host=host)
    path = final.removeprefix(forge.at(host, ""))
    return [Page(forge.place(Redirect(path, 301), host=host), picture, final_url=final)]


def redirect_to(target: Callable[[Forge], str]) -> Make:
    """A redirect to somewhere else."""
    return lambda forge: [Page(forge.place(Redirect(target(forge))))]


def redirect_to_missing(forge: Forge) -> list[Page]:
    """A redirect to an error."""
    return [Page(forge.place(Redirect(forge.place(error(404)))), http_status=404)]


def loop(forge: Forge) -> list[Page]:
    """Two URLs that point at each other."""
    host = forge.rng.choice(forge.ports.media)
    there = f"/moved/{forge.name()}.jpg"
    url = forge.place(Redirect(there), host=host)
    forge.route(host, there, Redirect(url))
    return [Page(url)]


def self_loop(forge: Forge) -> list[Page]:
    """A URL that points at itself."""
    host = forge.rng.choice(forge.ports.media)
    path = f"/moved/{forge.name()}.jpg"
    forge.route(host, path, Redirect(path))
    return [Page(forge.at(host, path))]


def too_many(forge: Forge) -> list[Page]:
    """Fifty redirects before a photograph."""
    return [Page(_chain(forge, forge.place(Answer(forge.any_jpeg())), 50, 302))]


def _chain(forge: Forge, final: str, hops: int, status: int) -> str:
    url = final
    for _ in range(hops):
        url = forge.place(Redirect(url, status), folder="moved")
    return url


# --- opting out ---------------------------------------------------------------------------------


def tagged(*values: str) -> Make:
    """A photograph with `X-Robots-Tag` headers that keep us out."""

    def make(forge: Forge) -> list[Page]:
        return [Page(forge.place(Answer(forge.any_jpeg(), headers=_tags(values))))]

    return make


def tagged_for_others(*values: str) -> Make:
    """A photograph with `X-Robots-Tag` headers that concern others, or something else."""

    def make(forge: Forge) -> list[Page]:
        picture = forge.photo()
        return [Page(forge.place(Answer(picture.data, headers=_tags(values))), picture)]

    return make


def disallowed(folder: str, media: int) -> Make:
    """A photograph in a folder that robots.txt of that media host closes."""

    def make(forge: Forge) -> list[Page]:
        host = forge.ports.media[media]
        return [Page(forge.place(Answer(forge.any_jpeg()), folder=folder, host=host))]

    return make


def robots(media: int) -> Reply:
    """robots.txt of the media host with this number."""
    rules = {
        0: "User-agent: *\nDisallow:\n",
        1: f"User-agent: *\nDisallow: /{MEMBERS}/\n",
        2: f"User-agent: PixCrawler\nDisallow: /{NO_ROBOTS}/\n\n"
        "User-agent: OtherBot\nDisallow: /\n",
    }
    if media not in rules:
        return error(404)
    return Answer(rules[media].encode(), "text/plain")


def _tags(values: tuple[str, ...]) -> Headers:
    return tuple(("X-Robots-Tag", value) for value in values)
