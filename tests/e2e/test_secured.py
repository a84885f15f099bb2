"""A cluster as it should be: TLS, a user for each service, and rights for what it does only."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import asyncpg
import pytest
import pytest_asyncio
from aiokafka.errors import KafkaError

from deploy import rights
from pixcrawler.client import download
from pixcrawler.client.api import Api
from pixcrawler.client.watching import TERMINAL
from pixcrawler.common import admin, prepare, topics
from pixcrawler.common.db.roles import role_name
from pixcrawler.common.errors import Fatal
from pixcrawler.common.events import JobCreated
from pixcrawler.common.kafka import Cluster
from pixcrawler.common.publisher import Publisher
from pixcrawler.miniweb import compare
from pixcrawler.miniweb.site import Site
from pixcrawler.standalone.ports import free_ports
from tests.e2e.system import SETTINGS, inherited
from tests.e2e.waiting import DEADLINE_S
from tests.scratch import reachable_folder
from tests.secured import SecuredKafka, TlsFront, grant, make_tls, secured_kafka, tls_url
from tests.stack import Stack, url_of

START_S = 300.0
"""Until the api answers: with it five others import what they need."""

USERS = {each.user: f"secret of {each.user}" for each in rights.everybody()}
ROLES = dict.fromkeys(rights.SERVICES, "p@ss/word: of? a role")


class World(NamedTuple):
    """Kafka and a database that services may use, and a folder for the rest."""

    kafka: SecuredKafka
    front: TlsFront
    database_url: str
    superuser_url: str
    database_ca: Path
    folder: Path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(stack: Stack) -> AsyncIterator[World]:
    """Everything prepared as a deployment does it, by an owner who is no superuser."""
    async with AsyncExitStack() as contexts:
        folder = contexts.enter_context(reachable_folder())
        kafka = await contexts.enter_async_context(secured_kafka(folder, USERS))
        superuser_url = await contexts.enter_async_context(stack.postgres())
        tls = make_tls(folder / "database")
        front = TlsFront(urlsplit(superuser_url).netloc.rpartition("@")[2], tls)
        superuser = await asyncpg.connect(superuser_url.replace("+asyncpg", ""))
        await superuser.execute("CREATE ROLE pixcrawler LOGIN CREATEROLE PASSWORD 'owner'")
        await superuser.execute("CREATE DATABASE pixcrawler OWNER pixcrawler")
        await superuser.close()
        await contexts.enter_async_context(front.listening())
        bare = f"postgresql+asyncpg://pixcrawler@localhost:{front.port}/pixcrawler"
        with environment(
            PIXCRAWLER_DATABASE_URL=tls_url(bare, tls),
            PIXCRAWLER_DATABASE_PASSWORD="owner",
            PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS=kafka.everything,
            PIXCRAWLER_TOPIC_PARTITIONS="2",
            **{f"PIXCRAWLER_ROLE_PASSWORD_{name.upper()}": word for name, word in ROLES.items()},
        ):
            for step in ("database", "topics") * 2:  # what is done may be done again
                await prepare.run(step)
        await grant(kafka.everything, rights.everybody())
        yield World(
            kafka, front, tls_url(bare, tls), url_of(superuser_url, "pixcrawler"), tls.ca, folder
        )


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """These variables of ours, and no others of the project."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PIXCRAWLER_")]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def settings_of(service: str, world: World, port: int) -> dict[str, str]:
    """What a service is told: its own user, its own role, secrets apart from addresses."""
    user = rights.user_name(service)
    return {
        "PIXCRAWLER_KAFKA_BOOTSTRAP_SERVERS": world.kafka.secured,
        "PIXCRAWLER_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "PIXCRAWLER_KAFKA_USERNAME": user,
        "PIXCRAWLER_KAFKA_PASSWORD": USERS[user],
        "PIXCRAWLER_KAFKA_CA_FILE": str(world.kafka.tls.ca),
        "PIXCRAWLER_DATABASE_URL": world.database_url.replace(
            "//pixcrawler@", f"//{role_name(service)}@"
        ),
        "PIXCRAWLER_DATABASE_PASSWORD": ROLES[service],
        "PIXCRAWLER_BLOB_URL": f"file://{world.folder / 'blobs'}",
        "PIXCRAWLER_TRACKER_PARTITIONS": "2",
        "PIXCRAWLER_HTTP_PORT": str(port),
    }


@asynccontextmanager
async def services(world: World, web: Site, port: int) -> AsyncIterator[None]:
    """All of them as processes, until the context ends."""
    with ExitStack() as stack:
        processes = [
            start(service, world, web, port if service == "api" else 0)
            for service in rights.SERVICES
        ]
        for process in processes:
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield
        for process in processes:
            process.terminate()
        # Not here: while they drain they ask the database, and its TLS is spoken by this loop.
        codes = [await asyncio.to_thread(process.wait, 60) for process in processes]
        assert codes == [0] * len(processes)


def start(service: str, world: World, web: Site, port: int) -> "subprocess.Popen[bytes]":
    """A service with its own user and role; its log is in the world's folder."""
    with (world.folder / f"{service}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"pixcrawler.{service}"],
            env={**inherited(), **SETTINGS, **web.env, **settings_of(service, world, port)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.timeout(900)  # beside other tests: a broker, a database and six services have to start
async def test_a_job_under_least_rights(world: World, small_web: Site) -> None:
    """A job runs from its request to its dataset where every service has a Kafka user with no more
    than the registry's rights, SCRAM over TLS, and its own role over TLS in the database."""
    with environment(PIXCRAWLER_DATABASE_URL=world.superuser_url):
        key = await prepare.run("key", "somebody")
    (port,) = free_ports(1)
    async with (
        complaints(world),
        services(world, small_web, port),
    ):
        api = Api(f"http://127.0.0.1:{port}", key, patience_s=START_S)
        wish = {"urls": list(small_web.truth), "max_images": len(small_web.truth)}
        job = (await asyncio.to_thread(api.post, "/v1/jobs", wish))["job_id"]
        await finished(api, job)
        await asyncio.to_thread(download.fetch, api, job, world.folder / "dataset")
        connected = await roles_connected(world)
    assert compare.compare_dataset(small_web.truth, world.folder / "dataset") == []
    assert connected == {role_name(service) for service in rights.SERVICES}
    assert world.front.served
    assert world.front.refused == 0
    operator = world.kafka.as_user("pixcrawler-operator")
    for topic in topics.registry():
        if topic.key == "original":
            assert [letter async for letter in admin.tail(operator, topic.name)] == []
    assert sum(each.lag for each in await admin.lag(world.kafka.as_user("pixcrawler-keda"))) == 0


async def finished(api: Api, job: str) -> None:
    """Wait until the job is over."""
    shown: dict[str, object] = {"status": ""}
    async with asyncio.timeout(DEADLINE_S):
        while shown["status"] not in TERMINAL:
            await asyncio.sleep(0.2)
            shown = await asyncio.to_thread(api.get, f"/v1/jobs/{job}/progress")


@asynccontextmanager
async def complaints(world: World) -> AsyncIterator[None]:
    """What fails in here says what the services complained of."""
    try:
        yield
    except Exception as error:
        for log in sorted(world.folder.glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()
            bad = [line for line in lines if "warn" in line.lower() or "error" in line.lower()]
            error.add_note("\n".join([f"-- {log.stem}", *bad[-12:]]))
        raise


async def roles_connected(world: World) -> set[str]:
    """The services' roles that are connected to the database."""
    connection = await asyncpg.connect(world.superuser_url.replace("+asyncpg", ""))
    try:
        rows = await connection.fetch(
            "SELECT DISTINCT usename FROM pg_stat_activity WHERE usename LIKE 'pixcrawler\\_%'"
        )
    finally:
        await connection.close()
    return {str(row["usename"]) for row in rows}


async def test_nobody_else_is_let_in(world: World) -> None:
    """Without a user, with a wrong password, where an authority did not sign the broker, or with
    another service's rights: each is refused. Without TLS, SCRAM works all the same."""
    downloader = world.kafka.as_user("pixcrawler-downloader")
    assert topics.CHUNK_PLANNED in await admin.list_topics(downloader)
    assert topics.JOB_CREATED not in await admin.list_topics(downloader)
    over_plain = Cluster(
        world.kafka.plain,
        "SASL_PLAINTEXT",
        username=downloader.username,
        password=downloader.password,
    )
    assert await admin.list_topics(over_plain) == await admin.list_topics(downloader)
    for wrong in (
        Cluster(world.kafka.secured, "SSL", ca_file=world.kafka.tls.ca),
        Cluster(
            world.kafka.secured, "SASL_SSL", username=downloader.username, password="guess",
            ca_file=world.kafka.tls.ca,
        ),
        Cluster(
            world.kafka.secured, "SASL_SSL", username=downloader.username,
            password=downloader.password, ca_file=world.database_ca,
        ),
    ):  # fmt: skip
        with pytest.raises(KafkaError):
            await admin.list_topics(wrong)
    intruder = Publisher(downloader, source="/intruder", timeout_s=5)
    await intruder.start()
    try:
        with pytest.raises(Fatal, match="TopicAuthorizationFailedError"):
            await intruder.publish([JobCreated(job_id="j", round=1, reason="start")])
    finally:
        await intruder.stop()
