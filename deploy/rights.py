"""What each service may do in Kafka: what the registry says that it reads and writes, and no more.

The cluster's `KafkaUser` manifests are made from this, and a test runs a job under these rights.
"""

from dataclasses import dataclass

from pixcrawler.common import events, topics
from pixcrawler.common.db.tables import OUTBOX_WRITERS

SERVICES = ("api", "downloader", "planner", "tracker", "uploader", "validator")


@dataclass(frozen=True)
class Rights:
    """One user's rights; both of reading and writing include describing.

    Attributes:
        user: The user's name in Kafka.
        reads: Topics whose records it reads.
        writes: Topics that it writes to.
        groups: Consumer groups that it is a member of.
        describes: Whether it may look at every topic's ends and every group's offsets.
    """

    user: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    describes: bool = False


def user_name(service: str) -> str:
    """The Kafka user of a service, as its role in the database is called but for the dash."""
    return f"pixcrawler-{service}"


def of_service(service: str) -> Rights:
    """The rights of a service.

    Its groups read what the registry says. The tracker's table is a group of its own, and reads its
    changelog to recover. One outbox is relayed by one replica of any service that writes to it, so
    these publish each other's events.
    """
    writers = {service, *OUTBOX_WRITERS} if service in OUTBOX_WRITERS else {service}
    groups = {service, topics.TABLE_GROUP} if service == "tracker" else {service}
    registry = topics.registry()
    return Rights(
        user_name(service),
        reads=tuple(
            topic.name
            for topic in registry
            if groups & {*topic.readers}
            or (service == "tracker" and topic.name == topics.TRACKER_CHANGELOG)
        ),
        writes=tuple(
            topic.name
            for topic in registry
            if service in topic.writers
            or (writers & {*topic.writers} and topic.name in events.BY_TOPIC)
        ),
        groups=tuple(group for group in topics.GROUPS if group in groups),
    )


def of_operator() -> Rights:
    """For people with the `pixcrawler` command: read everything, replay dead letters, see lags.

    How fast a stage goes is in the history of its commits.
    """
    names = tuple(topic.name for topic in topics.registry())
    return Rights(
        user_name("operator"), reads=(*names, topics.COMMITS), writes=names, describes=True
    )


def of_autoscaler() -> Rights:
    """For KEDA: see lags."""
    return Rights(user_name("keda"), describes=True)


def everybody() -> tuple[Rights, ...]:
    """All users."""
    return (*map(of_service, SERVICES), of_operator(), of_autoscaler())
