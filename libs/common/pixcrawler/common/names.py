"""The names of everything in the blob store.

Every object of the pipeline is created conditionally and never overwritten; whoever comes second
adopts what is there. No name contains an attempt.
"""

from pixcrawler.common.ids import parse_chunk_id

PART_SIZE = 50
"""Candidates in one part: small enough to lose little work, large enough to make few objects."""


def job_prefix(job_id: str) -> str:
    """Everything that a job decided."""
    return f"jobs/{job_id}/"


def chunk_prefix(chunk: str) -> str:
    """Everything that was decided about a chunk."""
    return f"jobs/{parse_chunk_id(chunk).job_id}/chunks/{chunk}/"


def candidates(chunk: str) -> str:
    """What this chunk's candidates are (written by the downloader)."""
    return f"{chunk_prefix(chunk)}candidates.jsonl"


def verdicts(chunk: str) -> str:
    """The outcome of every candidate of the chunk (written by the validator)."""
    return f"{chunk_prefix(chunk)}verdicts.jsonl"


def result(chunk: str) -> str:
    """How the chunk ended (uploader: completed; planner: given up)."""
    return f"{chunk_prefix(chunk)}result.json"


def staging_prefix(chunk: str) -> str:
    """The parts of a chunk."""
    return f"staging/{parse_chunk_id(chunk).job_id}/{chunk}/"


def staging_job_prefix(job_id: str) -> str:
    """The parts of all chunks of a job."""
    return f"staging/{job_id}/"


def part(chunk: str, number: int) -> str:
    """What became of candidates `number * PART_SIZE` and following (written by the downloader)."""
    return f"{staging_prefix(chunk)}part-{number:04d}.tar"


def transformed_part(chunk: str, number: int) -> str:
    """What became of a part's kept images, where a job wants them transformed (uploader)."""
    return f"{staging_prefix(chunk)}transformed-{number:04d}.tar"


def files(chunk: str) -> str:
    """Which file each kept image is, where a job wants them transformed (by the uploader)."""
    return f"{chunk_prefix(chunk)}files.jsonl"


def dataset_prefix(job_id: str) -> str:
    """The archives, and a copy of the latest index."""
    return f"datasets/{job_id}/"


def archive(chunk: str, extension: str) -> str:
    """The chunk's archive; `extension` is `zip` or `tar`."""
    return f"{dataset_prefix(parse_chunk_id(chunk).job_id)}chunk_{chunk}.{extension}"


def round_prefix(job_id: str, number: int) -> str:
    """The dataset's index as of a round."""
    return f"jobs/{job_id}/rounds/{number}/"


def dataset_index(job_id: str, number: int) -> str:
    """`dataset.json` of a round: written last, so it stands for the whole index."""
    return f"{round_prefix(job_id, number)}dataset.json"


def round_request(job_id: str, number: int) -> str:
    """The job as it was asked for when the planner opened the round (written by the planner)."""
    return f"{round_prefix(job_id, number)}request.json"


LISTS = "lists/"
"""Lists of URLs that were uploaded (written by the api)."""


def list_prefix(list_id: str) -> str:
    """Everything of an uploaded list."""
    return f"{LISTS}{list_id}/"


def list_rows(list_id: str) -> str:
    """The rows of an uploaded list, in blocks."""
    return f"{list_prefix(list_id)}rows.jsonl.gz"


def list_rows_index(list_id: str) -> str:
    """Where the blocks of its rows begin."""
    return f"{list_prefix(list_id)}rows.index"


def list_rejected(list_id: str) -> str:
    """The rows that were refused, in blocks; there is none if none was."""
    return f"{list_prefix(list_id)}rejected.jsonl.gz"


def list_rejected_index(list_id: str) -> str:
    """Where the blocks of the refused rows begin."""
    return f"{list_prefix(list_id)}rejected.index"
