"""What the command loads before it does anything: people wait for it at every call."""

import subprocess
import sys

HEAVY = ("sqlalchemy", "aiokafka", "aiohttp", "pyarrow", "numpy", "PIL", "fastapi")


def test_the_command_loads_little() -> None:
    """What few of its verbs need is imported by them."""
    program = "import sys, pixcrawler.client.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(HEAVY) & set(done.stdout.split()) == set()
