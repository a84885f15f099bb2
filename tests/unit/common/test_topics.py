"""Which topics there are, and who reads what."""

from pixcrawler.common import topics

STAGES = "downloader validator uploader"
DESIGN = {
    "job.created": ("job_id", "api", "planner tracker", 7),
    "job.cancelled": ("job_id", "api planner", "planner tracker", 7),
    "job.planned": ("job_id", "planner", "uploader tracker", 30),
    "chunk.planned": ("chunk_id", "planner", "downloader tracker", 7),
    "chunk.downloaded": ("chunk_id", "downloader", "validator planner tracker", 7),
    "chunk.validated": ("chunk_id", "validator", "uploader planner tracker", 7),
    "chunk.uploaded": ("chunk_id", "uploader", "planner tracker", 30),
    "chunk.failed": ("chunk_id", STAGES, "planner tracker", 30),
    "chunk.progress": ("chunk_id", STAGES, "planner tracker", 1),
    "job.finished": ("job_id", "uploader", "tracker api", 30),
    "job.progress": ("job_id", "tracker", "api", None),
    "tracker.events": ("job_id", "tracker", "tracker-table", 1),
    "tracker.changelog": ("job_id", "tracker", "", None),
    **{f"{each}.dlq": ("original", each, "", 30) for each in topics.CONSUMERS},
}
"""Key, writers, readers, and days that records stay; None: the last one of each key."""


def test_the_registry_is_as_designed() -> None:
    """Clusters are made from it: no topic, key, writer, reader or retention changes unseen."""
    there = {
        topic.name: (
            topic.key,
            " ".join(topic.writers),
            " ".join(topic.readers),
            None if topic.retention_ms is None else topic.retention_ms / topics.DAY_MS,
        )
        for topic in topics.registry()
    }
    assert there == DESIGN
    for topic in topics.registry(partitions=24):
        assert topic.compacted is (topic.retention_ms is None)
        assert topic.partitions == (1 if topic.name.endswith(".dlq") else 24)


def test_no_group_is_behind_on_what_it_does_not_read_as_a_group() -> None:
    """The api takes all of `job.progress`, in no group: counted, its lag would only ever grow."""
    assert topics.read_by("api") == (topics.JOB_FINISHED,)
    assert topics.read_by(topics.TABLE_GROUP) == (topics.TRACKER_EVENTS,)
    assert all(topics.read_by(group) for group in topics.GROUPS)
    assert {name for group in topics.GROUPS for name in topics.read_by(group)} == {
        topic.name for topic in topics.registry() if topic.readers and not topic.compacted
    }
