"""`README.md`: the dataset's card, for people and for readers of Hugging Face's layout."""

import json
import re
from collections.abc import Mapping, Sequence

from pixcrawler.common.events import ImageTotals, JobFacts
from pixcrawler.common.jobs import Job
from pixcrawler.uploader.images import ARCHIVE_EXTENSION

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~])")
_LICENSES_SHOWN = 30

_MEANING = {
    "kept": "in an archive",
    "duplicate": "the same bytes as a kept image",
    "near_duplicate": "looks like a kept image",
    "corrupt": "cut or damaged",
    "not_image": "no raster image",
    "unsupported": "a format that is not taken",
    "too_small": "a side is too short",
    "bomb": "too many pixels",
    "too_large": "too many bytes",
    "http_error": "the server refused",
    "timeout": "the server was too slow",
    "network_error": "the connection failed",
    "redirect": "redirected without end",
    "blocked": "an address that must not be fetched",
    "opted_out": "the site does not want it used",
    "surplus": "good, but the number was reached",
    "cancelled": "the job was cancelled first",
    "failed": "its chunk was given up",
}


_SOURCES = {"openverse": "Openverse", "commons": "Wikimedia Commons", "urls": "a list of URLs"}
_REASONS = {
    "reached": "the number was reached",
    "exhausted": "the sources have no more",
    "budget": "as many candidates were tried as the refill factor allows",
    "unavailable": "the sources did not answer",
    "cancelled": "the job was cancelled",
}


def title(job: Job) -> str:
    """The dataset's name: as given, else what was searched for."""
    return job.name or ", ".join(job.keywords) or "Images from a list of URLs"


def summary(job: Job, images: ImageTotals) -> str:
    """What the dataset is, in one or two sentences."""
    found = f" found by searching for {_listed(job.keywords)}" if job.keywords else ""
    through = f" through {_listed(_titles(job.sources))}" if job.sources else ""
    if not images.valid:
        return f"No images{found}{through}: every candidate and what became of it."
    number = "1 image" if images.valid == 1 else f"{images.valid} images"
    return f"{number}{found}{through}, with their creators and licences."


def _titles(sources: Sequence[str]) -> list[str]:
    return [_SOURCES.get(source, source) for source in sources]


def card(
    job: Job,
    facts: JobFacts,
    images: ImageTotals,
    *,
    licenses: Mapping[str, int],
    archives: int,
    decided_with: Sequence[str] = (),
    made_with: Sequence[str] = (),
) -> bytes:
    """The card.

    Args:
        job: What was asked for.
        facts: How the round ended.
        images: What became of every URL.
        licenses: Images per licence; the empty string where the source states none.
        archives: How many there are.
        decided_with: The libraries that the perceptual hashes depend on, with versions.
        made_with: The libraries that transformed images, likewise.
    """
    extension = ARCHIVE_EXTENSION[job.options.format]
    lines = [
        "---",
        f"pretty_name: {json.dumps(title(job), ensure_ascii=False)}",
        "license: other",
        f'configs: [{{config_name: default, data_files: "chunk_*.{extension}"}}]',
        "---",
        "",
        f"# {_text(title(job))}",
        "",
        _text(summary(job, images)),
        "",
        "## How it was made",
        "",
        *_making(job, facts, decided_with),
        *_transforming(job, made_with),
        "",
        "## What is in it",
        "",
        *_contents(job, archives),
        "",
        "## What became of every URL",
        "",
        *_table(("outcome", "URLs", "meaning"), _outcomes(images)),
        "",
        "## Licences",
        "",
        "Each image has its own licence; `LICENSES.csv` names it, its creator and its page.",
        "Licences are as the sources state them: check them before you publish an image.",
        "",
        *_table(("licence", "images"), _licenses(licenses)),
        "",
    ]
    return "\n".join(lines).encode()


def _making(job: Job, facts: JobFacts, decided_with: Sequence[str]) -> list[str]:
    options = job.options
    near = options.near_duplicates
    closed = f", closed {facts.closed_at:%Y-%m-%d %H:%M} UTC" if facts.closed_at else ""
    reason = f" ({_REASONS.get(facts.reason, facts.reason)})" if facts.reason else ""
    return [
        f"- Made by PixCrawler, job `{job.job_id}`, round {facts.closed_round}{closed}.",
        f"- Keywords: {_text(_listed(job.keywords) or 'none')}.",
        f"- Sources: {_text(_listed(_titles(job.sources)) or 'none')}.",
        f"- Asked for {facts.requested} images, kept {facts.kept}: {facts.status}{reason}.",
        f"- Every image was decoded in full; sides are at least {options.min_size} pixels.",
        "- Exact duplicates were dropped (sha256), "
        + (
            "near duplicates were kept."
            if near is None
            else f"and images within {near} bits of another's perceptual hash."
        ),
        *([f"- Decoded and hashed with {_listed(decided_with)}."] if decided_with else []),
    ]


def _transforming(job: Job, made_with: Sequence[str]) -> list[str]:
    """What was done to the images; nothing to say where they are as they were found."""
    how = job.options.transform
    if how is None:
        return []
    size = f"{how.image_size} pixels" + (", if larger" if how.resize_only_if_bigger else "")
    done = [
        *(["turned upright (EXIF)"] if how.upright else []),
        *([f"resized (`{how.resize_mode}`, {size})"] if how.resize_mode != "none" else []),
        *([f"stored as {how.image_format}"] if how.image_format != "original" else []),
    ]
    with_these = f" by {_listed(made_with)}" if made_with else ""
    told = "what needed none of it is as it was found"
    return [
        f"- Images were {_listed(done)}{with_these}; {told}.",
        "- `original_…` in the metadata tells of the file that was found, and so does `phash`.",
    ]


def _contents(job: Job, archives: int) -> list[str]:
    inside = (
        "`images/` and `metadata.jsonl`, for `load_dataset(DIR)` "
        'or `load_dataset("imagefolder", data_dir=DIR)`'
        if job.options.format == "zip"
        else "each image beside a JSON file of the same name, for WebDataset"
    )
    # `datasets` 5 guesses the loader from file names, and does not know this one.
    avif = " (where most images are AVIF: the latter)" if job.options.format == "zip" else ""
    extension = ARCHIVE_EXTENSION[job.options.format]
    return [
        f"- `chunk_*.{extension}`: {archives} archives with {inside}{avif}.",
        "- `images.parquet`: the same records as one table, with the chunk of each.",
        "- `outcomes.parquet`: every candidate URL and what became of it.",
        "- `LICENSES.csv`: licence, creator and landing page of every image.",
        "- `croissant.json`: all of this for machines (Croissant 1.1).",
        "- `dataset.json`: every file with its size and sha256.",
    ]


def _outcomes(images: ImageTotals) -> list[tuple[str, ...]]:
    counts = {"kept": images.valid, **images.dropped}
    ordered = [name for name in _MEANING if counts.get(name)]
    rows = [(name, str(counts[name]), _MEANING[name]) for name in ordered]
    return [*rows, ("all", str(images.candidates), "")]


def _licenses(licenses: Mapping[str, int]) -> list[tuple[str, ...]]:
    ordered = sorted(licenses.items(), key=lambda item: (-item[1], item[0]))
    rows = [(_text(name) or "not stated", str(n)) for name, n in ordered[:_LICENSES_SHOWN]]
    rest = ordered[_LICENSES_SHOWN:]
    return [*rows, (f"{len(rest)} more", str(sum(n for _, n in rest)))] if rest else [*rows]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words)


def _text(text: str) -> str:
    """Text of others in Markdown: nothing in it has a meaning, and it stays on its line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
