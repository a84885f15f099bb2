"""The rules, as Prometheus' own tool sees them."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.prometheus import RULES, program, scaled_rules

CASES = RULES.with_name("rules_test.yml")
ALERTS = [
    rule["alert"]
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    for rule in group["rules"]
]


def promtool(*words: str, folder: Path = RULES.parent) -> str:
    """What it says; the test fails if it complains."""
    done = subprocess.run(
        [program("promtool"), *words],
        cwd=folder, check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_they_can_be_read() -> None:
    """`promtool check rules`, and `check config` of what docker compose mounts."""
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", RULES.name)
    promtool("check", "config", "prometheus.yml")


def test_they_fire_when_they_should() -> None:
    """`promtool test rules`: series that make each fire, and series that do not."""
    assert "SUCCESS" in promtool("test", "rules", CASES.name)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_has_both_cases(alert: str) -> None:
    """There is a case in which it fires, and one in which it does not."""
    cases: list[dict[str, Any]] = [
        case
        for test in yaml.safe_load(CASES.read_text("utf-8"))["tests"]
        for case in test["alert_rule_test"]
        if case["alertname"] == alert
    ]
    assert {bool(case["exp_alerts"]) for case in cases} == {True, False}


def test_shorter_minutes(tmp_path: Path) -> None:
    """The copy that e2e tests evaluate: durations and ages are shorter, all else is as it is."""
    told = scaled_rules(RULES, 0.5)
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(told))
    promtool("check", "rules", "rules.yml", folder=tmp_path)
    rules = {rule["alert"]: rule for rule in told["groups"][0]["rules"]}
    assert rules["PixCrawlerStageBehind"]["expr"].endswith("_seconds) > 5")
    assert rules["PixCrawlerStageBehind"]["for"] == "2500ms"
    assert "[5000ms]))) == 0" in rules["PixCrawlerStageStuck"]["expr"]
    assert "offset 7500ms) > 0" in rules["PixCrawlerDeadLetters"]["expr"]
    assert "[7500ms])) > 0.5" in rules["PixCrawlerSourceFails"]["expr"]
    kept = {rule["alert"]: rule for rule in scaled_rules(RULES, 60)["groups"][0]["rules"]}
    assert kept["PixCrawlerOutboxWaits"]["expr"].endswith("_seconds) > 300")
