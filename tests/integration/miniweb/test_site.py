"""The web in a process of its own, and the command line."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from pixcrawler.miniweb import plans
from pixcrawler.miniweb.__main__ import plan_named
from pixcrawler.miniweb.plans import Plan
from pixcrawler.miniweb.site import running


def test_a_running_web_is_served_and_stated(tmp_path: Path) -> None:
    """From a synchronous test: settings, truth, bytes, records; afterwards nobody listens."""
    with running(plans.tiny(3), seed=5) as site:
        assert site.env["PIXCRAWLER_FETCH_ALLOW_NETWORKS"] == "127.0.0.1/32"
        assert (site.supply, len(site.truth)) == (3, 3)
        url, true = next(iter(site.truth.items()))
        with urlopen(url, timeout=10) as answer:
            assert len(answer.read()) == true.bytes
        assert site.state()["hits"][url] == 1
        site.reset()
        assert site.state()["hits"] == {}
        site.write_urls(tmp_path / "urls.txt")
        assert (tmp_path / "urls.txt").read_text().split() == list(site.truth)
    with pytest.raises(OSError, match="refused"):
        urlopen(site.address, timeout=10)


def test_two_webs_run_side_by_side() -> None:
    """Ports are the system's choice."""
    with running(plans.tiny(1)) as one, running(plans.tiny(1)) as other:
        assert one.address != other.address


def test_a_taken_port_is_one_line() -> None:
    """Asked for a port that is taken, the command says so and exits 1."""
    with running(plans.tiny(1)) as site:
        port = site.address.rpartition(":")[2]
        command = [sys.executable, "-m", "pixcrawler.miniweb", "--plan", "tiny:1", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("the miniature web cannot start")
    assert done.stderr.count(os.linesep) == 1


def test_the_command_knows_the_plans() -> None:
    """By name, by name and number, as JSON; anything else is refused."""
    assert plan_named("good:7") == plans.good_plan(7)
    assert plan_named("tiny:2") == plans.tiny(2)
    assert plan_named(plans.tiny(2).to_json()) == plans.tiny(2)
    assert isinstance(plan_named("demo"), Plan)
    with pytest.raises(ValueError, match="no such plan"):
        plan_named("huge")
