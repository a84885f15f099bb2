"""Every candidate has exactly one outcome; equal bytes share one."""

from collections.abc import Sequence

from pixcrawler.common.documents import Verdict, Verdicts
from pixcrawler.common.outcomes import Outcome
from pixcrawler.validator.claims import Matches, rule
from pixcrawler.validator.decision import Decision, Header, Limits
from pixcrawler.validator.images import decide, digest
from pixcrawler.validator.judging import Judged
from pixcrawler.validator.verdicts import askers, assemble, so_far
from tests.unit.validator.files import ENCODERS, photograph
from tests.unit.validator.made import Content, candidates_of, fetched, url_of

CHUNK = "0190a0b0-0000-7000-8000-000000000001-00003"
GOOD = ENCODERS["jpeg"](photograph())
OTHER = ENCODERS["jpeg"](photograph(11))
NEAR = ENCODERS["webp"](photograph())
CUT = GOOD[:-500]


def judged_of(contents: Sequence[Content]) -> Judged:
    decisions = {}
    for place, content in enumerate(contents):
        if isinstance(content, bytes):
            found = decide(content, Limits())
            decisions[place] = Decision(
                found.outcome, found.detail, found.header, found.phash, digest(content)
            )
    return Judged({place: fetched(place, it) for place, it in enumerate(contents)}, decisions)


def verdicts_of(
    contents: Sequence[Content], *, others: Matches | None = None, room: int = 9
) -> Verdicts:
    candidates, judged = candidates_of(CHUNK, len(contents)), judged_of(contents)
    asked = askers(candidates, judged)
    rulings, _ = rule(asked, others or Matches(), near=6, room=room)
    return assemble(candidates, judged, asked, rulings)


def said(verdicts: Verdicts) -> list[tuple[str, str]]:
    return [(str(it.outcome), it.duplicate_of) for it in verdicts.items]


def test_every_candidate_has_its_outcome_in_order() -> None:
    """What the downloader said, what the file is, and what the job makes of it; counts add up."""
    contents: list[Content] = [
        GOOD, Outcome.TIMEOUT, CUT, b"", GOOD, NEAR, OTHER, Outcome.HTTP_ERROR,
    ]  # fmt: skip
    verdicts = verdicts_of(contents)
    first = url_of(CHUNK, 0)
    assert said(verdicts) == [
        ("kept", ""),
        ("timeout", ""),
        ("corrupt", ""),
        ("not_image", ""),
        ("duplicate", first),
        ("near_duplicate", first),
        ("kept", ""),
        ("http_error", ""),
    ]
    images = verdicts.head.images
    assert (images.candidates, images.downloaded, images.valid) == (8, 6, 2)
    assert images.bytes == len(GOOD) + len(OTHER)
    assert images.valid + sum(images.dropped.values()) == images.candidates
    assert verdicts.head.valid_images == 4
    assert [it.position for it in verdicts.items] == list(range(8))
    assert [it.url for it in verdicts.items] == [url_of(CHUNK, place) for place in range(8)]


def test_a_verdict_says_what_is_known() -> None:
    """Of a kept image, of a damaged one, of one that never came."""
    kept, corrupt, missing = verdicts_of([GOOD, CUT, Outcome.HTTP_ERROR]).items
    assert kept == Verdict(
        position=0,
        url=url_of(CHUNK, 0),
        outcome=Outcome.KEPT,
        http_status=200,
        final_url="https://cdn.example.org/0",
        bytes=len(GOOD),
        elapsed_ms=7,
        sha256=digest(GOOD).hex(),
        phash=kept.phash,
        width=320,
        height=320,
        format="jpeg",
    )
    assert len(kept.phash) == 16
    assert (corrupt.sha256, corrupt.phash) == (digest(CUT).hex(), "")
    assert corrupt.detail == "Premature end of JPEG file"
    assert (corrupt.format, corrupt.width, corrupt.height) == ("jpeg", 320, 320)
    assert (missing.http_status, missing.detail, missing.sha256) == (404, "why", "")


def test_equal_bytes_share_what_their_first_is() -> None:
    """Only beside a kept one are they duplicates; else they are what it is."""
    twice = [GOOD, GOOD]
    assert said(verdicts_of([CUT, CUT])) == [("corrupt", "")] * 2
    assert said(verdicts_of([b"text", b"text"])) == [("not_image", "")] * 2
    assert said(verdicts_of(twice, room=0)) == [("surplus", "")] * 2
    assert said(verdicts_of(twice, others=Matches(near={0: "n"}))) == [("near_duplicate", "n")] * 2
    assert said(verdicts_of(twice, others=Matches(equal={0: "e"}))) == [("duplicate", "e")] * 2
    assert said(verdicts_of(twice)) == [("kept", ""), ("duplicate", url_of(CHUNK, 0))]
    assert said(verdicts_of([NEAR, GOOD, GOOD])) == [
        ("kept", ""),
        ("near_duplicate", url_of(CHUNK, 0)),
        ("near_duplicate", url_of(CHUNK, 0)),
    ]


def test_the_same_chunk_gives_the_same_bytes() -> None:
    """And reads back as it was."""
    contents: list[Content] = [GOOD, Outcome.TIMEOUT, CUT]
    data = verdicts_of(contents).dump()
    assert verdicts_of(contents).dump() == data
    assert Verdicts.parse(data) == verdicts_of(contents)


def test_a_chunk_without_candidates_is_empty() -> None:
    """No verdict, all counts zero."""
    verdicts = verdicts_of([])
    assert (verdicts.items, verdicts.head.valid_images) == ((), 0)


def test_progress_counts_nothing_as_kept() -> None:
    """Before claims are made nobody knows."""
    images = so_far(judged_of([GOOD, CUT, Outcome.TIMEOUT]))
    assert (images.candidates, images.downloaded, images.valid, images.bytes) == (3, 2, 0, 0)
    assert images.dropped == {"corrupt": 1, "timeout": 1}


def test_unsupported_files_say_what_they_are() -> None:
    """The detail and the format name it."""
    [verdict] = verdicts_of([b"8BPS" + bytes(40)]).items
    assert (verdict.outcome, verdict.detail, verdict.format) == (Outcome.UNSUPPORTED, "psd", "psd")
    assert Header("psd").pixels == 0
