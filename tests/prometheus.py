"""A real Prometheus: watches a running system, is asked, and evaluates rules.

Debian's package `prometheus` has it, and `promtool` with it; `make prometheus` installs it.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from pixcrawler.standalone.ports import free_ports

Json = dict[str, Any]

RULES = Path(__file__).parents[1] / "deploy" / "prometheus" / "rules.yml"
START_S = 60.0


def program(name: str) -> str:
    """`prometheus` or `promtool` of this machine. Where `CI` is set it has to be there."""
    found = shutil.which(name)
    if found is None:
        missing = (
            f"no {name} on this machine: `make prometheus` (Debian: apt-get install prometheus)"
        )
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


class Series(NamedTuple):
    """What a query answers for one set of labels: seconds since the epoch, and values."""

    labels: Mapping[str, str]
    samples: tuple[tuple[float, float], ...]


class Prometheus:
    """A running one.

    Args:
        url: Where it answers.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: object) -> Any:
        """The data of an answer of its API.

        Raises:
            HTTPError: it refuses the question; a query that is wrong is one.
        """
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=30) as answer:
            said = json.load(answer)
        assert said["status"] == "success", said
        assert not said.get("warnings"), said
        return said["data"]

    def range(self, query: str, since: float, *, step_s: float = 1.0) -> list[Series]:
        """What a query has answered from then until now, in steps."""
        found = self.ask("query_range", query=query, start=since, end=time.time(), step=step_s)
        return [
            Series(each["metric"], tuple((at, float(value)) for at, value in each["values"]))
            for each in found["result"]
        ]

    def value(self, query: str) -> float | None:
        """What a query that has one answer answers now; None if there is nothing."""
        found = self.ask("query", query=query)["result"]
        return float(found[0]["value"][1]) if found else None

    def firing(self) -> dict[str, Json]:
        """The alerts that fire, by name (the first of each)."""
        found: dict[str, Json] = {}
        for each in self.ask("alerts")["alerts"]:
            if each["state"] == "firing":
                found.setdefault(each["labels"]["alertname"], each)
        return found


def scaled_rules(rules: Path, seconds_a_minute: float) -> Json:
    """The rules with every minute as short as this, so that a test can wait for them.

    That holds for `for`, for ranges and offsets, and for ages that are compared with seconds; what
    is asked, and all other limits, are the same.
    """
    told: Json = yaml.safe_load(rules.read_text("utf-8"))
    for group in told["groups"]:
        for rule in group["rules"]:
            rule["expr"] = re.sub(
                r"(?<=[\[ ])(\d+)m\b", lambda m: _ms(m[1], seconds_a_minute), rule["expr"]
            )
            if "_seconds" in rule["expr"]:
                rule["expr"] = re.sub(
                    r"> (\d+)$",
                    lambda m: f"> {int(m[1]) * seconds_a_minute / 60:g}",
                    rule["expr"],
                    flags=re.MULTILINE,
                )
            if "for" in rule:
                rule["for"] = _ms(rule["for"].removesuffix("m"), seconds_a_minute)
    return told


def _ms(minutes: str, seconds_a_minute: float) -> str:
    return f"{round(int(minutes) * seconds_a_minute * 1000)}ms"


@contextmanager
def watching(
    targets: Iterable[tuple[str, str]],
    folder: Path,
    *,
    rules: Json | None = None,
    interval: str = "1s",
) -> Iterator[Prometheus]:
    """One that scrapes these programs as long as the context lasts.

    Args:
        targets: Service and `host:port` of each replica.
        folder: For its configuration and its data.
        rules: What it evaluates; nothing if not given.
        interval: Between two scrapes, and between two evaluations.
    """
    prometheus = program("prometheus")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rules.yml").write_text(yaml.safe_dump(rules or {"groups": []}))
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {
                    "scrape_interval": interval,
                    "scrape_timeout": interval,
                    "evaluation_interval": interval,
                },
                "rule_files": ["rules.yml"],
                "scrape_configs": [
                    {
                        "job_name": "pixcrawler",
                        "static_configs": [
                            {"targets": [address], "labels": {"service": service}}
                            for service, address in targets
                        ],
                    }
                ],
            }
        )
    )
    (port,) = free_ports(1)
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                prometheus,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=warn",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_ready(process, port, folder)
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", port: int, folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            pass
        time.sleep(0.05)
    raise RuntimeError((folder / "prometheus.log").read_text(errors="replace")[-2000:])
