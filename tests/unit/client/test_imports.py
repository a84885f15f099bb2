"""What the command loads before it does anything: people wait for it at every call."""

import subprocess
import sys

HEAVY = (
    *("sqlalchemy", "aiokafka", "aiohttp", "pyarrow", "numpy", "PIL", "fastapi", "httpx"),
    *("pydantic_settings", "pixcrawler.common.events", "pixcrawler.standalone.background"),
)


def test_the_command_loads_little() -> None:
    """What few of its verbs need is imported by them."""
    program = "import sys, pixcrawler.client.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(HEAVY) & set(done.stdout.split()) == set()


def test_what_asks_kafka_loads_no_database() -> None:
    """Nor what asks the API; and neither loads what runs a standalone."""
    program = (
        "import sys, pixcrawler.client.__main__, pixcrawler.client.topics,"
        "pixcrawler.client.overviews; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    expensive = {"sqlalchemy", "alembic", "pydantic_settings", "pixcrawler.standalone.background"}
    assert expensive & set(done.stdout.split()) == set()
