"""The `pixcrawler` command: its words and options, and nothing of how they are done."""

import importlib.metadata
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pixcrawler.client import output
from pixcrawler.client.errors import FAILED, CommandError, Terminated
from pixcrawler.common.errors import PixCrawlerError
from pixcrawler.common.transform import (
    DEFAULT_QUALITY,
    MAX_IMAGE_SIZE,
    ImageFormat,
    ResizeMode,
    Transform,
    wrong,
)
from pixcrawler.standalone.errors import StandaloneError


def exit_with(code: int, **_: object) -> None:
    """End with the exit code that a command returned; the options of the root do not matter."""
    raise typer.Exit(code)


app = typer.Typer(
    name="pixcrawler",
    result_callback=exit_with,
    help="Keywords in, a clean and licensed image dataset out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=True,
)


def _group(purpose: str, example: str) -> typer.Typer:
    """Commands that belong together; their help shows the one that is wanted most."""
    return typer.Typer(help=purpose, epilog=f"Example: pixcrawler {example}", no_args_is_help=True)


jobs_app = _group("What was asked for, and what became of it.", "jobs list --status running")
topics_app = _group("What is in Kafka.", "topics tail chunk.uploaded --job JOB")
dlq_app = _group("Records that a stage could not read.", "dlq list uploader")
keys_app = _group("Keys to the API.", "keys create --owner ann --scope write")
db_app = _group("The database: its schema, its repair.", "db current")
pause_app = _group("Have something stop, and stay stopped.", "pause stage downloader")
resume_app = _group("Let what was stopped go on.", "resume source openverse")
app.add_typer(jobs_app, name="jobs")
app.add_typer(topics_app, name="topics")
app.add_typer(dlq_app, name="dlq")
app.add_typer(keys_app, name="keys")
app.add_typer(db_app, name="db")
app.add_typer(pause_app, name="pause")
app.add_typer(resume_app, name="resume")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("pixcrawler-client"))
        raise typer.Exit


@app.callback(
    invoke_without_command=True, epilog='Example: pixcrawler run "red panda" -n 200 -o pandas'
)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Keywords in, a clean and licensed image dataset out."""


Json = Annotated[bool, typer.Option("--json", help="For machines: JSON on stdout.")]
Everyone = Annotated[
    bool, typer.Option("--all", help="Of all owners; needs a key with the scope admin.")
]
Since = Annotated[
    str, typer.Option("--since", metavar="WHEN", help="24h, 30m, 7d, or a time (ISO 8601, UTC).")
]
Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="Its name: `topics list`.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
Folder = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="Where the dataset goes.")
]
Status = Literal["pending", "running", "completed", "incomplete", "failed", "cancelled"]
Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="TEXT", help="Why: the audit log keeps it."),
]
Stoppable = Annotated[
    str, typer.Argument(metavar="STAGE", help="downloader, validator or uploader.")
]
SourceName = Annotated[str, typer.Argument(metavar="SOURCE", help="openverse, commons or urls.")]
ReplicaName = Annotated[str, typer.Argument(metavar="REPLICA", help="Its name: `replicas`.")]
OwnLimit = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Instead of the API's setting; 0: without limit."),
]
StageName = Annotated[
    Literal["planner", "downloader", "validator", "uploader", "tracker", "api"],
    typer.Argument(
        metavar="STAGE", help="planner, downloader, validator, uploader, tracker or api."
    ),
]
LetterIds = Annotated[
    list[str] | None,
    typer.Option("--id", metavar="ID", help="Of this letter; may be given again: `dlq list`."),
]
LetterState = Annotated[
    Literal["open", "replayed", "discarded"] | None,
    typer.Option("--state", metavar="STATE", help="Only open, replayed or discarded ones."),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        help="Where everything is kept. [default: PIXCRAWLER_DATA_DIR, else the platform's folder]",
    ),
]


def near_duplicates(text: str) -> int | None:
    """`off`, or the largest distance in bits."""
    if text == "off":
        return None
    if not text.isdecimal() or not 0 <= int(text) <= 16:  # noqa: PLR2004 - the API's own bound
        raise typer.BadParameter(
            f"a number of bits from 0 to 16, or off, not {text}", param_hint="'--near-duplicates'"
        )
    return int(text)


@app.command(epilog='Example: pixcrawler run "red panda" -n 200 -o pandas')
def run(
    keywords: Annotated[
        list[str] | None, typer.Argument(metavar="KEYWORD", help="What to look for.")
    ] = None,
    number: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--number",
            metavar="N",
            min=1,
            help="Images in all, over all keywords and sources. [default: 500; all of a list]",
        ),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Where to search; may be given again. [default: openverse and commons]",
        ),
    ] = None,
    urls: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Take these URLs, also without a KEYWORD: txt, csv, tsv, jsonl or parquet, also "
            "with .gz; - is stdin.",
        ),
    ] = None,
    url_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="FILE's column of URLs, if it is not found by itself."),
    ] = None,
    caption_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Likewise of captions, which become titles."),
    ] = None,
    priority: Annotated[
        int, typer.Option(metavar="N", min=0, max=10, help="Higher goes first.")
    ] = 5,
    min_size: Annotated[
        int, typer.Option(metavar="PIXELS", min=1, max=65535, help="The shorter side at least.")
    ] = 64,
    near: Annotated[
        str,
        typer.Option(
            "--near-duplicates",
            metavar="BITS|off",
            help="Images whose perceptual hashes differ in at most BITS bits (0-16) are the same.",
        ),
    ] = "6",
    packing: Annotated[
        Literal["zip", "webdataset"],
        typer.Option("--format", metavar="zip|webdataset", help="What the archives are."),
    ] = "zip",
    upright: Annotated[
        bool, typer.Option("--upright", help="Turn images as their EXIF orientation says.")
    ] = False,
    resize_mode: Annotated[
        ResizeMode,
        typer.Option(
            metavar="none|keep_ratio|center_crop",
            help="keep_ratio: the shorter side becomes --image-size; center_crop: and the middle "
            "of it is kept, a square.",
        ),
    ] = "none",
    image_size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS", min=1, max=MAX_IMAGE_SIZE, help="What --resize-mode resizes to."
        ),
    ] = None,
    only_if_bigger: Annotated[
        bool,
        typer.Option(
            "--resize-only-if-bigger", help="Leave smaller images alone instead of enlarging them."
        ),
    ] = False,
    image_format: Annotated[
        ImageFormat,
        typer.Option(
            metavar="original|jpeg|png|webp",
            help="Store all images in this format; original: as they are found, as far as they "
            "are not resized or turned.",
        ),
    ] = "original",
    quality: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, max=100, help="Of JPEG and WebP, where an image is encoded again."
        ),
    ] = DEFAULT_QUALITY,
    *,
    folder: Folder,
    as_json: Json = False,
) -> int:
    """Create a job, follow it, and fetch its dataset into DIR.

    Images are stored as they are found, byte for byte, unless told otherwise.
    """
    from pixcrawler.client import operations, running

    how = Transform(
        upright=upright,
        resize_mode=resize_mode,
        image_size=image_size,
        resize_only_if_bigger=only_if_bigger,
        image_format=image_format,
        quality=quality,
    )
    if (objection := wrong(how)) is not None:
        option = f"'--{objection.field.replace('_', '-')}'"
        raise typer.BadParameter(objection.message, param_hint=option)
    wish = running.Wish(
        keywords=tuple(keywords or ()),
        number=number,
        sources=tuple(source or ()),
        urls=urls,
        priority=priority,
        min_size=min_size,
        near_duplicates=near_duplicates(near),
        format=packing,
        folder=folder,
        url_column=url_column,
        caption_column=caption_column,
        transform=operations.transform_options(**how.model_dump()),
    )
    return running.run(wish, json=as_json)


@app.command(epilog="Example: pixcrawler up --scale downloader=2 --detach")
def up(
    data_dir: DataDir = None,
    port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", min=0, max=65535, help="Of the API. [default: 8000, or a free one]"
        ),
    ] = None,
    scale: Annotated[
        str, typer.Option(metavar="SERVICE=N,…", help="Replicas, such as downloader=2,validator=2.")
    ] = "",
    brokers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Kafka brokers; an odd number. [default: as before; 1 in a new data directory]",
        ),
    ] = None,
    bare: Annotated[
        bool, typer.Option("--bare", help="Kafka and PostgreSQL without the services.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once it is ready; it goes on running.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Run everything on this machine until Ctrl-C."""
    from pixcrawler.client import local

    return local.up(data_dir, port, scale, brokers, bare=bare, detach=detach, json=as_json)


@app.command(epilog="Example: pixcrawler down")
def down(data_dir: DataDir = None, as_json: Json = False) -> int:
    """Stop what `up` started; returns when every process has ended."""
    from pixcrawler.client import local

    return local.down(data_dir, json=as_json)


@app.command(epilog="Example: pixcrawler status --json")
def status(data_dir: DataDir = None, as_json: Json = False) -> int:
    """What runs here. Exit code 0: it runs; 1: it does not."""
    from pixcrawler.client import local

    return local.status(data_dir, json=as_json)


@app.command(epilog="Example: pixcrawler chunks JOB --status failed")
def chunks(
    job: JobId,
    status: Annotated[
        Literal["pending", "processing", "completed", "failed"] | None,
        typer.Option(metavar="STATUS", help="Only pending, processing, completed or failed ones."),
    ] = None,
    as_json: Json = False,
) -> int:
    """The chunks of a job."""
    from pixcrawler.client import jobs

    return jobs.chunks(job, status, json=as_json)


@app.command(epilog="Example: pixcrawler capacity --by-owner")
def capacity(
    by_owner: Annotated[
        bool,
        typer.Option(
            "--by-owner", help="And whose they are: of everybody, with a key with the scope admin."
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Slots for chunks, and how many are taken."""
    from pixcrawler.client import overviews

    return overviews.capacity(by_owner=by_owner, json=as_json)


@app.command(epilog="Example: pixcrawler url https://example.org/cat.jpg")
def url(
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="As a source gave it, or as redirects led to it."),
    ],
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only in this job.")] = None,
    everyone: Everyone = False,
    further: Annotated[
        bool,
        typer.Option("--further", help="Look through all jobs, however old; it may take a while."),
    ] = False,
    as_json: Json = False,
) -> int:
    """What happened to a URL, in every job that had it: outcome, reason, where its image is.

    The latest jobs are looked through for half a second; what was not is said.
    """
    from pixcrawler.client import overviews

    return overviews.url(url, job, everyone=everyone, further=further, json=as_json)


@app.command(epilog="Example: pixcrawler drops --since 24h --all")
def drops(since: Since = "24h", everyone: Everyone = False, as_json: Json = False) -> int:
    """What was dropped most, and why, in all chunks that have ended lately."""
    from pixcrawler.client import overviews

    return overviews.drops(since, everyone=everyone, json=as_json)


@app.command(epilog="Example: pixcrawler workers --all")
def workers(
    everyone: Everyone = False,
    as_json: Json = False,
) -> int:
    """Who has which chunk: replica, stage, since when, last sign of life."""
    from pixcrawler.client import overviews

    return overviews.workers(everyone=everyone, json=as_json)


@app.command(epilog="Example: pixcrawler replicas")
def replicas(as_json: Json = False) -> int:
    """The replicas of every stage, and how each is."""
    from pixcrawler.client import operating

    return operating.replicas(json=as_json)


@app.command(epilog="Example: pixcrawler drain validator-2 --reason 'its disk is odd'")
def drain(replica: ReplicaName, reason: Reason = None, as_json: Json = False) -> int:
    """Have a replica finish what it has in hand and leave the work to the others.

    Until it is resumed (`resume replica`) or restarted.
    """
    from pixcrawler.client import operating

    return operating.steer("replica", replica, "drain", reason, json=as_json)


@pause_app.command("stage", epilog="Example: pixcrawler pause stage downloader")
def pause_stage(stage: Stoppable, reason: Reason = None, as_json: Json = False) -> int:
    """Have a stage finish what it has in hand, and take nothing more."""
    from pixcrawler.client import operating

    return operating.steer("stage", stage, "pause", reason, json=as_json)


@pause_app.command("source", epilog="Example: pixcrawler pause source openverse")
def pause_source(source: SourceName, reason: Reason = None, as_json: Json = False) -> int:
    """Have nobody ask a source; jobs go on with others, or wait."""
    from pixcrawler.client import operating

    return operating.steer("source", source, "pause", reason, json=as_json)


@resume_app.command("stage", epilog="Example: pixcrawler resume stage downloader")
def resume_stage(stage: Stoppable, reason: Reason = None, as_json: Json = False) -> int:
    """Let a stage take work again."""
    from pixcrawler.client import operating

    return operating.steer("stage", stage, "resume", reason, json=as_json)


@resume_app.command("source", epilog="Example: pixcrawler resume source openverse")
def resume_source(source: SourceName, reason: Reason = None, as_json: Json = False) -> int:
    """Let a source be asked again."""
    from pixcrawler.client import operating

    return operating.steer("source", source, "resume", reason, json=as_json)


@resume_app.command("replica", epilog="Example: pixcrawler resume replica validator-2")
def resume_replica(replica: ReplicaName, reason: Reason = None, as_json: Json = False) -> int:
    """Let a replica that was drained work again."""
    from pixcrawler.client import operating

    return operating.steer("replica", replica, "resume", reason, json=as_json)


@app.command(epilog="Example: pixcrawler audit --since 24h")
def audit(
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only since then: 90s, 30m, 24h, 7d ago, or a time."),
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(metavar="ACTION", help="Only this: job.cancel; or job for all of jobs."),
    ] = None,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only about this job.")] = None,
    as_json: Json = False,
) -> int:
    """What was done, by whom, and why; the latest last."""
    from pixcrawler.client import operating

    return operating.audit(since, action, job, json=as_json)


@app.command(epilog="Example: pixcrawler changes --since 24h --all")
def changes(since: Since = "24h", everyone: Everyone = False, as_json: Json = False) -> int:
    """What changed lately: jobs, chunks, failures, dead letters, and what people did."""
    from pixcrawler.client import overviews

    return overviews.changes(since, everyone=everyone, json=as_json)


@app.command(epilog="Example: pixcrawler stages")
def stages(
    window: Annotated[
        str, typer.Option("--window", metavar="SPAN", help="What rates are taken over, as 60s, 5m.")
    ] = "60s",
    as_json: Json = False,
) -> int:
    """Which stage is behind, by how many records and seconds, and when it will have caught up."""
    from pixcrawler.client import topics

    return topics.stages(window, json=as_json)


@app.command(epilog="Example: pixcrawler completion bash >> ~/.bashrc")
def completion(
    shell: Annotated[
        Literal["bash", "zsh"], typer.Argument(metavar="bash|zsh", help="Whose words to complete.")
    ],
    as_json: Json = False,
) -> int:
    """Print what makes the shell complete this command."""
    from typer.completion import get_completion_script  # type: ignore[attr-defined] # in no __all__

    script = get_completion_script(
        prog_name="pixcrawler", complete_var="_PIXCRAWLER_COMPLETE", shell=shell
    )
    if as_json:
        output.document({"shell": shell, "script": script})
    else:
        typer.echo(script)
    return 0


@jobs_app.command("list", epilog="Example: pixcrawler jobs list --status running")
def jobs_list(
    status: Annotated[
        Status | None,
        typer.Option(
            metavar="STATUS",
            help="Only pending, running, completed, incomplete, failed or cancelled ones.",
        ),
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="ID", help="Only those with this project_id.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Your jobs, the latest first."""
    from pixcrawler.client import jobs

    return jobs.list_jobs(status, project, json=as_json)


@jobs_app.command("show", epilog="Example: pixcrawler jobs show JOB --json")
def jobs_show(job: JobId, as_json: Json = False) -> int:
    """One job and its progress."""
    from pixcrawler.client import jobs

    return jobs.show(job, json=as_json)


@jobs_app.command("explain", epilog="Example: pixcrawler jobs explain JOB")
def jobs_explain(job: JobId, as_json: Json = False) -> int:
    """Why a job is not done, or how it ended; the most important first."""
    from pixcrawler.client import overviews

    return overviews.explain(job, json=as_json)


@jobs_app.command("rejected", epilog="Example: pixcrawler jobs rejected JOB")
def jobs_rejected(job: JobId, as_json: Json = False) -> int:
    """Rows of a job's list of URLs that were left out, and why."""
    from pixcrawler.client import jobs

    return jobs.rejected(job, json=as_json)


@jobs_app.command("watch", epilog="Example: pixcrawler jobs watch JOB")
def jobs_watch(job: JobId, as_json: Json = False) -> int:
    """Follow a job until its round is over."""
    from pixcrawler.client import jobs

    return jobs.watch(job, json=as_json)


@jobs_app.command("cancel", epilog="Example: pixcrawler jobs cancel JOB")
def jobs_cancel(job: JobId, reason: Reason = None, as_json: Json = False) -> int:
    """Stop a job; what was packed stays."""
    from pixcrawler.client import jobs

    return jobs.act(job, "cancel", reason=reason, json=as_json)


@jobs_app.command("retry", epilog="Example: pixcrawler jobs retry JOB --chunk 3")
def jobs_retry(
    job: JobId,
    chunk: Annotated[
        str | None,
        typer.Option(metavar="CHUNK", help="Its index or id; all failed ones if not given."),
    ] = None,
    reason: Reason = None,
    as_json: Json = False,
) -> int:
    """Try failed chunks again."""
    from pixcrawler.client import jobs

    return jobs.retry(job, chunk, reason=reason, json=as_json)


@jobs_app.command("extend", epilog="Example: pixcrawler jobs extend JOB -n 100")
def jobs_extend(
    job: JobId,
    number: Annotated[int, typer.Option("-n", "--number", metavar="N", min=1, help="Images more.")],
    priority: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, max=10, help="Of all that wait. [default: as it is]"),
    ] = None,
    reason: Reason = None,
    as_json: Json = False,
) -> int:
    """Ask for more images."""
    from pixcrawler.client import jobs

    return jobs.extend(job, number, priority, reason=reason, json=as_json)


@jobs_app.command("priority", epilog="Example: pixcrawler jobs priority JOB 9")
def jobs_priority(
    job: JobId,
    priority: Annotated[
        int, typer.Argument(metavar="PRIORITY", help="From 0 to 10; higher goes first.")
    ],
    reason: Reason = None,
    as_json: Json = False,
) -> int:
    """Change a job's priority; its chunks that wait move in the line."""
    from pixcrawler.client import jobs

    return jobs.prioritize(job, priority, reason=reason, json=as_json)


@jobs_app.command("give-up", epilog="Example: pixcrawler jobs give-up JOB 3")
def jobs_give_up(
    job: JobId,
    chunk: Annotated[str, typer.Argument(metavar="CHUNK", help="Its index or id.")],
    reason: Reason = None,
    as_json: Json = False,
) -> int:
    """Give up a chunk that has not ended; `jobs retry JOB --chunk CHUNK` brings it back."""
    from pixcrawler.client import jobs

    return jobs.give_up(job, chunk, reason=reason, json=as_json)


@jobs_app.command("delete", epilog="Example: pixcrawler jobs delete JOB")
def jobs_delete(job: JobId, reason: Reason = None, as_json: Json = False) -> int:
    """Forget a job and everything that it made."""
    from pixcrawler.client import jobs

    return jobs.delete(job, reason=reason, json=as_json)


@jobs_app.command("download", epilog="Example: pixcrawler jobs download JOB -o pandas")
def jobs_download(job: JobId, *, folder: Folder, as_json: Json = False) -> int:
    """Fetch a job's dataset into DIR; goes on where it stopped."""
    from pixcrawler.client import jobs

    return jobs.download(job, folder, json=as_json)


@topics_app.command("list", epilog="Example: pixcrawler topics list")
def topics_list(as_json: Json = False) -> int:
    """The topics, and what each is for."""
    from pixcrawler.client import topics

    return topics.list_topics(json=as_json)


@topics_app.command("describe", epilog="Example: pixcrawler topics describe chunk.planned")
def topics_describe(topic: Topic, as_json: Json = False) -> int:
    """One topic: partitions, retention, who writes and who reads it."""
    from pixcrawler.client import topics

    return topics.describe(topic, json=as_json)


@topics_app.command("apply", epilog="Example: pixcrawler topics apply")
def topics_apply(
    partitions: Annotated[
        int, typer.Option(metavar="N", min=1, help="Of each topic that carries work.")
    ] = 12,
    replication: Annotated[
        int, typer.Option(metavar="N", min=1, help="Brokers that keep each record.")
    ] = 1,
    as_json: Json = False,
) -> int:
    """Create the topics that are missing."""
    from pixcrawler.client import topics

    return topics.apply(partitions, replication, json=as_json)


@topics_app.command(
    "tail", epilog="Example: pixcrawler topics tail chunk.uploaded --job JOB --from beginning"
)
def topics_tail(
    topic: Topic,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only this job's.")] = None,
    chunk: Annotated[str | None, typer.Option(metavar="CHUNK", help="Only this chunk's.")] = None,
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="WHERE", help="beginning, end, an offset, or a time (ISO 8601, UTC)."
        ),
    ] = "beginning",
    number: Annotated[
        int | None, typer.Option("-n", metavar="N", min=1, help="Records at most.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more.")] = False,
    as_json: Json = False,
) -> int:
    """What is in a topic, decoded."""
    from pixcrawler.client import topics

    return topics.tail(topic, job, chunk, start, number, follow=follow, json=as_json)


@topics_app.command(
    "replay", epilog="Example: pixcrawler topics replay chunk.validated --job JOB --dry-run"
)
def topics_replay(
    topic: Topic,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only this job's.")] = None,
    chunk: Annotated[str | None, typer.Option(metavar="CHUNK", help="Only this chunk's.")] = None,
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="WHERE", help="beginning, end, an offset, or a time (ISO 8601, UTC)."
        ),
    ] = "beginning",
    number: Annotated[int, typer.Option("-n", metavar="N", min=1, help="Records at most.")] = 20,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Publish nothing: this has to be given, there is no other."),
    ] = False,
    as_json: Json = False,
) -> int:
    """What each stage would do with a topic's records, were they delivered again."""
    if not dry_run:
        raise typer.BadParameter(
            "this only tells: give --dry-run. Lost events are said again by the planner, dead "
            "letters are published again by `pixcrawler dlq replay`",
            param_hint="'--dry-run'",
        )
    from pixcrawler.client import rehearsing

    return rehearsing.of_topic(topic, job, chunk, start, number, json=as_json)


@topics_app.command("lag", epilog="Example: pixcrawler topics lag")
def topics_lag(as_json: Json = False) -> int:
    """How far behind each consumer group is, in records."""
    from pixcrawler.client import topics

    return topics.lag(json=as_json)


@dlq_app.command("list", epilog="Example: pixcrawler dlq list uploader --state open")
def dlq_list(stage: StageName, state: LetterState = None, as_json: Json = False) -> int:
    """The dead letters of a stage."""
    from pixcrawler.client import dead_letters

    return dead_letters.list_letters(stage, state, json=as_json)


@dlq_app.command("show", epilog="Example: pixcrawler dlq show uploader --id ID")
def dlq_show(
    stage: StageName, ids: LetterIds = None, state: LetterState = None, as_json: Json = False
) -> int:
    """Whole letters: where each comes from, why it died, its headers and its value."""
    from pixcrawler.client import dead_letters

    return dead_letters.show_letters(stage, ids or (), state, json=as_json)


@dlq_app.command("replay", epilog="Example: pixcrawler dlq replay uploader --id ID")
def dlq_replay(
    stage: StageName,
    ids: LetterIds = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Publish nothing, only say what each stage would do with them."
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Publish the records again to where they came from; without --id all that are open."""
    from pixcrawler.client import dead_letters

    if dry_run:
        return dead_letters.rehearse(stage, ids or (), json=as_json)
    return dead_letters.replay(stage, ids or (), json=as_json)


@dlq_app.command("discard", epilog="Example: pixcrawler dlq discard uploader --id ID")
def dlq_discard(stage: StageName, ids: LetterIds = None, as_json: Json = False) -> int:
    """Mark letters that need no further look; without --id all that are open."""
    from pixcrawler.client import dead_letters

    return dead_letters.discard(stage, ids or (), json=as_json)


@keys_app.command("create", epilog="Example: pixcrawler keys create --owner ann --scope write")
def keys_create(
    owner: Annotated[str, typer.Option(metavar="NAME", help="Who sees the jobs made with it.")],
    scope: Annotated[
        Literal["read", "write", "admin"],
        typer.Option(metavar="read|write|admin", help="What it may do."),
    ] = "write",
    name: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
    requests_per_minute: OwnLimit = None,
    active_jobs: OwnLimit = None,
    images_per_day: OwnLimit = None,
    reason: Reason = None,
    as_json: Json = False,
) -> int:
    """Make a key; it is shown this once."""
    from pixcrawler.client import admin
    from pixcrawler.common.keys import KeyLimits

    limits = KeyLimits(requests_per_minute, active_jobs, images_per_day)
    return admin.keys_create(owner, scope, name=name, limits=limits, reason=reason, json=as_json)


@keys_app.command("list", epilog="Example: pixcrawler keys list")
def keys_list(as_json: Json = False) -> int:
    """The keys, without their secrets."""
    from pixcrawler.client import admin

    return admin.keys_list(json=as_json)


@keys_app.command("revoke", epilog="Example: pixcrawler keys revoke KEY_ID")
def keys_revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="See `keys list`.")],
    reason: Reason = None,
    as_json: Json = False,
) -> int:
    """Let a key open nothing any more."""
    from pixcrawler.client import admin

    return admin.keys_revoke(key_id, reason, json=as_json)


@db_app.command("upgrade", epilog="Example: pixcrawler db upgrade")
def db_upgrade(as_json: Json = False) -> int:
    """Bring the schema up to this version's."""
    from pixcrawler.client import admin

    return admin.db_upgrade(json=as_json)


@db_app.command("current", epilog="Example: pixcrawler db current")
def db_current(as_json: Json = False) -> int:
    """The version of the schema."""
    from pixcrawler.client import admin

    return admin.db_current(json=as_json)


@db_app.command("repair", epilog="Example: pixcrawler db repair --dry-run")
def db_repair(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing, only say what would be changed.")
    ] = False,
    without_topics: Annotated[
        bool,
        typer.Option("--without-topics", help="Kafka is gone too: go by the blob store alone."),
    ] = False,
    as_json: Json = False,
) -> int:
    """After a restore: rebuild what the blob store and the topics know better.

    All services must be stopped. Exit code 1: something is left that it cannot mend.
    """
    from pixcrawler.client import admin

    return admin.db_repair(dry_run=dry_run, without_topics=without_topics, json=as_json)


def main() -> None:
    """Run the command; one line for an error, and an exit code that says what happened."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except CommandError as error:
        output.note(f"pixcrawler: {error}")
        sys.exit(error.code)
    except (StandaloneError, PixCrawlerError) as error:
        output.note(f"pixcrawler: {error}")
        sys.exit(FAILED)
    except BrokenPipeError:
        # Who read us has gone, as `head` does; what is still in the buffer has no reader either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


def _terminated(*_: Any) -> None:
    """SIGTERM unwinds as Ctrl-C does, so that what was started is stopped."""
    raise Terminated


if __name__ == "__main__":
    main()
