"""The rules, with promtool; and that none is without its test."""

import re
import subprocess

import pytest
import yaml
from support import PROMETHEUS, PROMETHEUS_DIR, RULES, rules

TESTS = sorted(PROMETHEUS.glob("*_test.yml"))


def promtool(*arguments):
    return subprocess.run(
        [PROMETHEUS_DIR / "promtool", *arguments], capture_output=True, text=True, cwd=PROMETHEUS, timeout=300
    )


def test_the_configuration_is_good():
    ran = promtool("check", "config", "prometheus.yml")
    assert ran.returncode == 0, ran.stderr
    assert f"{len(rules('alert')) + len(rules('record'))} rules found" in ran.stdout


def test_the_rules_have_no_duplicates():
    ran = promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yml")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_fires_and_is_quiet_where_it_should():
    ran = promtool("test", "rules", *(test.name for test in TESTS))
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_alert_is_tested_both_ways():
    fires, quiet = set(), set()
    for path in TESTS:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert document["rule_files"] == ["rules.yml"]
        for test in document["tests"]:
            for check in test["alert_rule_test"]:
                expected = check["exp_alerts"]
                if not expected:
                    quiet.add(check["alertname"])
                fires.update((check["alertname"], alert["exp_labels"]["severity"]) for alert in expected)
    alerts = {(rule["alert"], rule["labels"]["severity"]) for rule in rules("alert")}
    assert fires == alerts
    assert quiet == {name for name, _ in alerts}


# One number or word changed, each in a way that one file of tests must see.
CHANGES = {
    "the first pair of windows": ("> 14.4 * 0.001", "> 144 * 0.001", "rules_slo_test.yml"),
    "the second pair of windows": ("> 6 * 0.01", "> 60 * 0.01", "rules_slo_test.yml"),
    "the longest windows": ("> 1 * 0.001", "> 10 * 0.001", "rules_slo_test.yml"),
    "a status": ('status=~"5.."', 'status=~"4.."', "rules_slo_test.yml"),
    "a gauge the wrong way": (
        "porthole_keys_file_valid == 0",
        "porthole_keys_file_valid == 1",
        "rules_upkeep_test.yml",
    ),
    "no exception": (" unless on (namespace, job, instance) porthole_draining == 1", "", "rules_test.yml"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_tests_see_a_change(change, tmp_path):
    what, by, file = CHANGES[change]
    text = (PROMETHEUS / "rules.yml").read_text(encoding="utf-8")
    assert what in text
    (tmp_path / "rules.yml").write_text(text.replace(what, by), encoding="utf-8")
    (tmp_path / file).write_text((PROMETHEUS / file).read_text(encoding="utf-8"), encoding="utf-8")
    ran = promtool("test", "rules", tmp_path / file)
    assert ran.returncode != 0, "the tests pass with the change"


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_what_to_do(rule):
    assert rule["labels"]["severity"] in {"critical", "warning"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_recorded_names_are_levels_metrics_and_operations():
    for rule in rules("record"):
        assert re.fullmatch(r"job(_model)?:porthole_[a-z_]+:[a-z]+(_?[a-z]*\d+[mhd])?", rule["record"]), rule["record"]
    names = {group["name"] for group in RULES["groups"]}
    assert len(names) == len(RULES["groups"])
