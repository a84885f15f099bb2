"""Bringing the database up to what the blob store and the topics say: `pixcrawler db repair`.

For a database that came back from a backup and is older than both. What was decided has a name in
the blob store and never changes, so the database follows it: how chunks ended (`result.json`), what
they keep (`verdicts.jsonl`), how rounds ended (`dataset.json`), what was asked for
(`request.json`). What has no object of its own is taken from the topics, as far as they are
retained: which searches a chunk has, that a job was cancelled or deleted, how a round was closed
that has no dataset yet.
"""
