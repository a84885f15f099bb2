"""Where it happens: a system of some shape, its blob store, and the webs that it crawls."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pixcrawler.common.blobs import open_blobs
from pixcrawler.common.blobs.port import BlobStore
from pixcrawler.miniweb import names, plans, site
from pixcrawler.standalone.paths import cache_dir
from tests.azurite.server import Azurite
from tests.chaos import scene
from tests.chaos.orders import Webs
from tests.chaos.proxy import Proxy
from tests.chaos.stores import AzureTrouble, Disk, LocalTrouble, Trouble, disk_of_its_own
from tests.e2e.background import Background
from tests.e2e.system import STAGES, System, running
from tests.scratch import reachable_folder

CONTAINER = "chaos"
SETTINGS = {
    # A busy machine is no slow web: what is slow there is slower than this.
    "PIXCRAWLER_FETCH_TIMEOUT_S": "4",
    "PIXCRAWLER_FETCH_DEADLINE_S": "16",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the system is like.

    Attributes:
        local: The blob store is a folder; otherwise Azurite behind a bad line.
        brokers: 1 or 3.
        replicas: Of every stage.
        deadline_s: After so long without a sign of life a chunk is planned again. Short: attempts
            that are given up come back to life. Long: a lost event shows as a job that never ends.
        pooler: The services reach the database through PgBouncer.
    """

    local: bool = True
    brokers: int = 1
    replicas: int = 2
    deadline_s: float = 600.0
    pooler: bool = False

    def __str__(self) -> str:
        store = "local disk" if self.local else "Azurite"
        return (
            f"{self.brokers} broker(s), {self.replicas} replicas a stage, {store}, "
            f"deadline of a chunk {self.deadline_s:g} s{', through a pooler' * self.pooler}"
        )


@dataclass(frozen=True, slots=True)
class Arena:
    """A running system that can be damaged.

    Attributes:
        system: What runs.
        folder: What its programs look at, see `suffering.py`.
        store: Its blob store.
        shape: What it is like.
        webs: What there is to crawl.
    """

    system: System
    folder: Path
    store: Trouble
    shape: Shape
    webs: Webs


@contextmanager
def webs(*, small: bool = False) -> Iterator[Webs]:
    """Three webs for as long as the context lasts; jobs of some 100 URLs, or of 60."""
    with ExitStack() as stack:
        photos = 30 if small else 60
        plan = plans.small_plan(names.private_names())
        scattered = plans.scattered_duplicates_plan(photos, groups=9 if small else 12)
        paired = plans.within_chunk_duplicates_plan(photos, pairs=10 if small else 20)
        yield Webs(
            small=stack.enter_context(site.running(plan, seed=7)),
            scattered=stack.enter_context(site.running(scattered, seed=8)),
            paired=stack.enter_context(site.running(paired, seed=9)),
        )


@contextmanager
def opened(shape: Shape, webs: Webs) -> Iterator[Arena]:
    """A system for as long as the context lasts."""
    with ExitStack() as stack:
        folder = stack.enter_context(reachable_folder())
        trouble = folder / scene.FOLDER
        trouble.mkdir()
        (folder / "points").mkdir()
        deadline = {"PIXCRAWLER_CHUNK_DEADLINE_S": f"{shape.deadline_s:g}"}
        told = {**webs.small.env, **SETTINGS, **deadline}
        if shape.local:
            disk = stack.enter_context(disk_of_its_own(folder / "data" / "blobs"))
            store, direct = _local(trouble, disk), None
        else:
            store, direct, more = stack.enter_context(_azure(folder))
            told |= more
        system = stack.enter_context(
            running(
                told,
                dict.fromkeys(STAGES, shape.replicas),
                brokers=shape.brokers,
                folder=folder,
                programs=scene.programs,
                store=direct,
                pooler=shape.pooler or None,
            )
        )
        yield Arena(system, trouble, store, shape, webs)


@contextmanager
def logs_kept(system: System) -> Iterator[None]:
    """Where something fails, its logs outlive the system, and the failure says where they are."""
    try:
        yield
    except BaseException as error:
        folder = tempfile.mkdtemp(prefix="chaos-logs-")
        shutil.copytree(system.data_dir / "logs", folder, dirs_exist_ok=True)
        error.add_note(f"logs: {folder}")
        raise


def _local(trouble: Path, disk: Disk | None) -> Trouble:
    return LocalTrouble(trouble / "disk", disk)


@contextmanager
def _azure(folder: Path) -> Iterator[tuple[Trouble, BlobStore, Mapping[str, str]]]:
    """Azurite, the bad line to it, the store as we see it, and what the services are told."""
    azurite = Azurite(cache_dir(os.environ), folder)
    # The kernel ends a child with the thread that started it: that must be this one.
    asyncio.run(azurite.start())
    try:
        with Background() as background:
            proxy = Proxy(azurite.port)
            port = background.run(proxy.start())
            direct = azurite.connection_string
            bad = direct.replace(f":{azurite.port}/", f":{port}/")
            told = {
                "PIXCRAWLER_BLOB_URL": f"azure://{CONTAINER}",
                "AZURE_STORAGE_CONNECTION_STRING": bad,
            }
            try:
                store = open_blobs(f"azure://{CONTAINER}", direct)
                yield AzureTrouble(proxy, background), store, told
            finally:
                background.run(proxy.stop())
    finally:
        asyncio.run(azurite.stop())
