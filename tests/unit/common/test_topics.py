"""Who reads what."""

from pixcrawler.common import topics


def test_no_group_is_behind_on_what_it_does_not_read_as_a_group() -> None:
    """The api takes all of `job.progress`, in no group: counted, its lag would only ever grow."""
    assert topics.read_by("api") == (topics.JOB_FINISHED,)
    assert topics.read_by(topics.TABLE_GROUP) == (topics.TRACKER_EVENTS,)
    assert all(topics.read_by(group) for group in topics.GROUPS)
    assert {name for group in topics.GROUPS for name in topics.read_by(group)} == {
        topic.name for topic in topics.registry() if topic.readers and not topic.compacted
    }
