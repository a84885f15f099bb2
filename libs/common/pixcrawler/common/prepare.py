"""What has to be there before the services, where standalone mode does not see to it.

    python -m pixcrawler.common.prepare database     the schema, and each service's role
    python -m pixcrawler.common.prepare topics       the topics that are missing
    python -m pixcrawler.common.prepare wait         nothing: returns once the schema is there
    python -m pixcrawler.common.prepare key OWNER    an API key for an owner, printed once

Everything may be done again at any time, and by several at once; what is not there yet is waited
for. A service of a new version starts behind `wait`, so that the schema comes first. All images
have it: the `pixcrawler` command stays on the desk, since it brings a broker and a database along.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import asyncpg
from aiokafka.errors import KafkaError
from pydantic import Field
from sqlalchemy.exc import SQLAlchemyError
from tenacity import (
    AsyncRetrying,
    retry_if_exception,
    stop_after_delay,
    stop_never,
    wait_fixed,
)

from pixcrawler.common import admin, keys, logs, topics
from pixcrawler.common.db.engine import connect
from pixcrawler.common.db.migrate import current, older_revisions, upgrade
from pixcrawler.common.db.roles import ensure_roles
from pixcrawler.common.errors import PixCrawlerError, SettingsError
from pixcrawler.common.settings import DatabaseAccess, KafkaAccess, load

WAIT_S = 1.0
"""Between two tries."""
PATIENCE_S = 90.0
"""For a broker or a database that is about to start; then the exit code is 1."""


AWAY = (KafkaError, SQLAlchemyError, asyncpg.PostgresError, PixCrawlerError, OSError)
"""What fails while something is not there yet. SQLAlchemy passes on asyncpg's own errors where the
very first connection fails, for instance since a role has not been made."""


class Database(DatabaseAccess):
    """The database as its owner, who may make tables and roles: past the pooler."""

    role_password_api: str = Field(default="", repr=False)
    """Password of the api's role; a role whose password is not set is left as it is. Likewise the
    others."""
    role_password_downloader: str = Field(default="", repr=False)
    role_password_planner: str = Field(default="", repr=False)
    role_password_tracker: str = Field(default="", repr=False)
    role_password_uploader: str = Field(default="", repr=False)
    role_password_validator: str = Field(default="", repr=False)

    def passwords(self) -> Mapping[str, str]:
        """By service, those that are set."""
        found = {
            "api": self.role_password_api,
            "downloader": self.role_password_downloader,
            "planner": self.role_password_planner,
            "tracker": self.role_password_tracker,
            "uploader": self.role_password_uploader,
            "validator": self.role_password_validator,
        }
        return {service: password for service, password in found.items() if password}


class Topics(KafkaAccess):
    """The topics of a cluster that nobody else looks after."""

    topic_partitions: int = Field(default=topics.PARTITIONS, ge=1)
    """Partitions of what is keyed by job or chunk; `PIXCRAWLER_TRACKER_PARTITIONS` is the same."""
    topic_replication: int = Field(default=1, ge=1)
    """Replicas of every topic: 3 where there are three brokers."""


async def prepare_database() -> str:
    """Schema, then roles, limits and grants; one line about it."""
    settings = load(Database)
    await upgrade(settings.database)
    passwords = settings.passwords()
    await ensure_roles(settings.database, passwords)
    revision = await current(settings.database)
    return f"schema {revision}; roles {', '.join(passwords) or 'left as they are'}"


async def prepare_topics() -> str:
    """Topics that are missing are made, those that differ are refused; one line about it."""
    settings = load(Topics)
    applied = await admin.apply_topics(
        settings.kafka, settings.topic_partitions, settings.topic_replication
    )
    return f"{len(applied.created)} topics made, {len(applied.unchanged)} as they should be"


async def make_key(owner: str) -> str:
    """An API key that may do everything for its owner."""
    engine = connect(load(DatabaseAccess).database, pool_size=1, application="pixcrawler-prepare")
    try:
        async with engine.begin() as connection:
            return (await keys.create(connection, owner, keys.Scope.ADMIN)).text
    finally:
        await engine.dispose()


async def schema_is_there() -> str:
    """One line, if the schema is as new as this program, or newer (it was rolled back).

    Raises:
        PixCrawlerError: the schema is older.
    """
    found = await current(load(DatabaseAccess).database)
    if found is None or found in older_revisions():
        raise PixCrawlerError(f"the schema is at {found or 'nothing'}: it has to be upgraded first")
    return f"schema {found}"


async def run(what: str, owner: str = "", *, patience_s: float = PATIENCE_S) -> str:
    """Do it, again and again while what it needs is not there; what to print.

    Args:
        what: A step, as on the command line.
        owner: Whose key, for `key`.
        patience_s: For so long; the schema is waited for without end.
    """
    steps: Mapping[str, Callable[[], Awaitable[str]]] = {
        "database": prepare_database,
        "topics": prepare_topics,
        "wait": schema_is_there,
        "key": partial(make_key, owner),
    }
    within = stop_never if what == "wait" else stop_after_delay(patience_s)
    said: str = await AsyncRetrying(
        retry=retry_if_exception(_passes), wait=wait_fixed(WAIT_S), stop=within, reraise=True
    )(steps[what])
    return said


def _passes(error: BaseException) -> bool:
    """Whether it may go away: nobody listens yet, too few brokers, a schema that is being made."""
    return isinstance(error, AWAY) and not isinstance(error, SettingsError | admin.TopicDrift)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 done, 1 it failed, 2 a wrong setting or usage."""
    parser = argparse.ArgumentParser(prog="python -m pixcrawler.common.prepare")
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("database", help="the schema, and each service's role")
    commands.add_parser("topics", help="the topics that are missing")
    commands.add_parser("wait", help="until the schema is as new as this program")
    commands.add_parser("key", help="an API key, printed once").add_argument("owner")
    told = parser.parse_args(arguments)
    try:
        print(asyncio.run(run(told.what, getattr(told, "owner", ""))))  # noqa: T201
    except SettingsError as error:
        print(logs.masked(str(error)), file=sys.stderr)  # noqa: T201
        return 2
    except (*AWAY, ValueError) as error:
        reason = (str(getattr(error, "orig", error)) or repr(error)).splitlines()[0]
        print(logs.masked(f"cannot prepare {told.what}: {reason}"), file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
