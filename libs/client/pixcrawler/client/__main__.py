"""The `pixcrawler` command: its words and options, and nothing of how they are done."""

import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pixcrawler.client import jobs, local, output, running
from pixcrawler.client.errors import FAILED, CommandError
from pixcrawler.common.errors import PixCrawlerError
from pixcrawler.standalone import StandaloneError


def exit_with(code: int) -> None:
    """End with the exit code that a command returned."""
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
jobs_app = typer.Typer(help="What was asked for, and what became of it.", no_args_is_help=True)
topics_app = typer.Typer(help="What is in Kafka.", no_args_is_help=True)
keys_app = typer.Typer(help="Keys to the API.", no_args_is_help=True)
db_app = typer.Typer(help="The schema of the database.", no_args_is_help=True)
app.add_typer(jobs_app, name="jobs")
app.add_typer(topics_app, name="topics")
app.add_typer(keys_app, name="keys")
app.add_typer(db_app, name="db")

Json = Annotated[bool, typer.Option("--json", help="For machines: JSON on stdout.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
Folder = Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where to put it.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", metavar="DIR", help="Where everything is kept.")
]


def near_duplicates(text: str) -> int | None:
    """`off`, or the largest distance in bits."""
    if text == "off":
        return None
    if not text.isdecimal() or not 0 <= int(text) <= 16:  # noqa: PLR2004 - the API's own bound
        raise typer.BadParameter("a number of bits from 0 to 16, or off")
    return int(text)


@app.command(epilog='Example: pixcrawler run "red panda" -n 200 -o pandas')
def run(
    keywords: Annotated[list[str] | None, typer.Argument(metavar="KEYWORD…")] = None,
    number: Annotated[
        int | None,
        typer.Option("-n", "--number", min=1, help="Images in all. [default: 500; all of a list]"),
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="Where to search; may be given again.")
    ] = None,
    urls: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A list of URLs, one a line.")
    ] = None,
    priority: Annotated[int, typer.Option(min=0, max=10)] = 5,
    min_size: Annotated[int, typer.Option(min=1, help="Shortest side, in pixels.")] = 64,
    near: Annotated[
        str, typer.Option("--near-duplicates", metavar="BITS|off", help="Same image within.")
    ] = "6",
    packing: Annotated[Literal["zip", "webdataset"], typer.Option("--format")] = "zip",
    *,
    folder: Folder,
    as_json: Json = False,
) -> int:
    """Create a job, follow it, and fetch its dataset into DIR."""
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
    )
    return running.run(wish, json=as_json)


@app.command(epilog="Example: pixcrawler up --scale downloader=2 --detach")
def up(
    data_dir: DataDir = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Of the API. [default: 8000 if free]")
    ] = None,
    scale: Annotated[str, typer.Option(metavar="SERVICE=N,…")] = "",
    brokers: Annotated[int, typer.Option(min=1)] = 1,
    detach: Annotated[bool, typer.Option("--detach", help="Return once it is ready.")] = False,
    as_json: Json = False,
) -> int:
    """Run everything on this machine until Ctrl-C."""
    return local.up(data_dir, port, scale, brokers, detach=detach, json=as_json)


@app.command(epilog="Example: pixcrawler down")
def down(data_dir: DataDir = None, as_json: Json = False) -> int:
    """Stop what `up` started; returns when every process has ended."""
    return local.down(data_dir, json=as_json)


@app.command(epilog="Example: pixcrawler status --json")
def status(data_dir: DataDir = None, as_json: Json = False) -> int:
    """What runs here. Exit code 0: it runs; 1: it does not."""
    return local.status(data_dir, json=as_json)


@app.command(epilog="Example: pixcrawler chunks JOB --status failed")
def chunks(
    job: JobId,
    status: Annotated[
        Literal["pending", "processing", "completed", "failed"] | None, typer.Option()
    ] = None,
    as_json: Json = False,
) -> int:
    """The chunks of a job."""
    return jobs.chunks(job, status, json=as_json)


@app.command(epilog="Example: pixcrawler capacity")
def capacity(as_json: Json = False) -> int:
    """How much work is let through at a time, and how much of it is in use."""
    return jobs.capacity(json=as_json)


@jobs_app.command("list", epilog="Example: pixcrawler jobs list --status running")
def jobs_list(
    status: Annotated[str | None, typer.Option()] = None,
    project: Annotated[str | None, typer.Option()] = None,
    as_json: Json = False,
) -> int:
    """Your jobs, the latest first."""
    return jobs.list_jobs(status, project, json=as_json)


@jobs_app.command("show", epilog="Example: pixcrawler jobs show JOB --json")
def jobs_show(job: JobId, as_json: Json = False) -> int:
    """One job and its progress."""
    return jobs.show(job, json=as_json)


@jobs_app.command("watch", epilog="Example: pixcrawler jobs watch JOB")
def jobs_watch(job: JobId, as_json: Json = False) -> int:
    """Follow a job until its round is over."""
    return jobs.watch(job, json=as_json)


@jobs_app.command("cancel", epilog="Example: pixcrawler jobs cancel JOB")
def jobs_cancel(job: JobId, as_json: Json = False) -> int:
    """Stop a job; what was packed stays."""
    return jobs.act(job, "cancel", json=as_json)


@jobs_app.command("retry", epilog="Example: pixcrawler jobs retry JOB --chunk 3")
def jobs_retry(
    job: JobId,
    chunk: Annotated[
        str | None, typer.Option(help="Index or id; all failed ones if not given.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Try failed chunks again."""
    return jobs.retry(job, chunk, json=as_json)


@jobs_app.command("extend", epilog="Example: pixcrawler jobs extend JOB -n 100")
def jobs_extend(
    job: JobId,
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="Images more.")],
    priority: Annotated[int | None, typer.Option(min=0, max=10)] = None,
    as_json: Json = False,
) -> int:
    """Ask for more images."""
    return jobs.extend(job, number, priority, json=as_json)


@jobs_app.command("delete", epilog="Example: pixcrawler jobs delete JOB")
def jobs_delete(job: JobId, as_json: Json = False) -> int:
    """Forget a job and everything that it made."""
    return jobs.delete(job, json=as_json)


@jobs_app.command("download", epilog="Example: pixcrawler jobs download JOB -o pandas")
def jobs_download(job: JobId, *, folder: Folder, as_json: Json = False) -> int:
    """Fetch a job's dataset into DIR; goes on where it stopped."""
    return jobs.download(job, folder, json=as_json)


@topics_app.command("list", epilog="Example: pixcrawler topics list")
def topics_list(as_json: Json = False) -> int:
    """The topics, and how many records each holds."""
    from pixcrawler.client import admin

    return admin.topics_list(json=as_json)


@topics_app.command("describe", epilog="Example: pixcrawler topics describe chunk.planned")
def topics_describe(topic: str, as_json: Json = False) -> int:
    """One topic: partitions, retention, who writes and who reads it."""
    from pixcrawler.client import admin

    return admin.topics_describe(topic, json=as_json)


@topics_app.command("apply", epilog="Example: pixcrawler topics apply")
def topics_apply(
    partitions: Annotated[int, typer.Option(min=1)] = 12,
    replication: Annotated[int, typer.Option(min=1)] = 1,
    as_json: Json = False,
) -> int:
    """Create the topics that are missing."""
    from pixcrawler.client import admin

    return admin.topics_apply(partitions, replication, json=as_json)


@topics_app.command(
    "tail", epilog="Example: pixcrawler topics tail chunk.uploaded --job JOB --from beginning"
)
def topics_tail(
    topic: str,
    job: Annotated[str | None, typer.Option()] = None,
    chunk: Annotated[str | None, typer.Option()] = None,
    start: Annotated[
        str, typer.Option("--from", metavar="beginning|end|OFFSET|TIME")
    ] = "beginning",
    number: Annotated[int | None, typer.Option("-n", min=1, help="Records at most.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more.")] = False,
    as_json: Json = False,
) -> int:
    """What is in a topic, decoded."""
    from pixcrawler.client import admin

    return admin.topics_tail(topic, job, chunk, start, number, follow=follow, json=as_json)


@topics_app.command("lag", epilog="Example: pixcrawler topics lag")
def topics_lag(as_json: Json = False) -> int:
    """How far behind each consumer group is, in records."""
    from pixcrawler.client import admin

    return admin.topics_lag(json=as_json)


@keys_app.command("create", epilog="Example: pixcrawler keys create --owner ann --scope write")
def keys_create(
    owner: Annotated[str, typer.Option()],
    scope: Annotated[Literal["read", "write", "admin"], typer.Option()] = "write",
    as_json: Json = False,
) -> int:
    """Make a key; it is shown this once."""
    from pixcrawler.client import admin

    return admin.keys_create(owner, scope, json=as_json)


@keys_app.command("list", epilog="Example: pixcrawler keys list")
def keys_list(as_json: Json = False) -> int:
    """The keys, without their secrets."""
    from pixcrawler.client import admin

    return admin.keys_list(json=as_json)


@keys_app.command("revoke", epilog="Example: pixcrawler keys revoke KEY_ID")
def keys_revoke(key_id: str, as_json: Json = False) -> int:
    """Let a key open nothing any more."""
    from pixcrawler.client import admin

    return admin.keys_revoke(key_id, json=as_json)


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


def _terminated(*_: Any) -> None:
    """SIGTERM unwinds as Ctrl-C does, so that what was started is stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
