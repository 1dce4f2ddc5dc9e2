"""The chart by itself: Helm takes it, good values make objects, bad ones a clear message."""

import subprocess
import tarfile
import tomllib

import pytest
import yaml

from cases import BAD, CHART, GOOD, REDIS, ROOT
from conftest import HELM, render, template


def test_lint_has_nothing_to_say(case):
    done = subprocess.run(
        [HELM, "lint", "--strict", "--values", "-", CHART],
        input=yaml.safe_dump(GOOD[case]),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout and "ERROR" not in done.stdout, done.stdout


@pytest.mark.parametrize("name", BAD)
def test_bad_values_are_refused_by_name(name):
    values, words = BAD[name]
    done = template(values)
    assert done.returncode != 0, done.stdout
    for word in words:
        assert word in done.stderr


def test_a_package_holds_the_rules_and_the_dashboard(tmp_path):
    subprocess.run([HELM, "package", CHART, "--destination", tmp_path], check=True, capture_output=True)
    (package,) = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        files = {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}
    assert files["porthole/files/rules.yml"] == (ROOT / "deploy/prometheus/rules.yml").read_bytes()
    dashboards = list((ROOT / "deploy/grafana").glob("*.json"))
    assert dashboards
    for dashboard in dashboards:
        assert files[f"porthole/files/{dashboard.name}"] == dashboard.read_bytes()


def test_every_top_level_value_is_described():
    lines = (CHART / "values.yaml").read_text().splitlines()
    values = yaml.safe_load("\n".join(lines))
    schema = yaml.safe_load((CHART / "values.schema.json").read_text())["properties"]
    assert set(values) == set(schema) - {"global"}


def test_the_drains_are_those_of_the_server():
    """The chart's defaults are those of config.toml."""
    server = tomllib.loads((ROOT / "config.toml").read_text())["server"]
    chart = yaml.safe_load((CHART / "values.yaml").read_text())["config"]["server"]
    for key, value in chart.items():
        assert server[key] == value


def test_the_grace_period_is_as_long_as_the_drains(case):
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    given = GOOD[case]
    server = values["config"]["server"] | given.get("config", {}).get("server", {})
    sleep = given.get("preStopSleepSeconds", values["preStopSleepSeconds"])
    pod = render(case).pod
    assert pod["terminationGracePeriodSeconds"] == sleep + server["drain_delay"] + server["drain_timeout"] + 10
    lifecycle = pod["containers"][0].get("lifecycle")
    assert lifecycle == ({"preStop": {"sleep": {"seconds": sleep}}} if sleep else None)


HOT = [
    {"limits": {"default": {"requests_per_minute": 5}}},
    {"limits": {"models": [{"model": "demo", "limits": {"requests_per_minute": 5}}]}},
    {"limits": {"max_queue_length": 5, "on_redis_error": "deny"}},
    {"log": {"filter": "debug"}},
]
COLD = [
    {"server": {"max_connections": 5}},
    {"limits": {"redis_url": "redis://redis:6379"}},
    {"log": {"audit": False}},
    {"model": {"context_length": 512}},
    {"models": [{"id": "a/b", "name": "b"}]},
]


def pod_template(config):
    done = template({"config": config, "networkPolicy": {"redis": REDIS}})
    assert done.returncode == 0, done.stderr
    (deployment,) = [o for o in yaml.safe_load_all(done.stdout) if o["kind"] == "Deployment"]
    return deployment["spec"]["template"]


@pytest.mark.parametrize("config", HOT, ids=str)
def test_what_the_server_reads_anew_restarts_nothing(config):
    assert pod_template(config) == pod_template({})


@pytest.mark.parametrize("config", COLD, ids=str)
def test_everything_else_rolls_the_pods(config):
    assert pod_template(config) != pod_template({})


def test_keys_restart_nothing():
    def of(keys):
        done = template({"keys": {"file": keys}})
        return [o["spec"]["template"] for o in yaml.safe_load_all(done.stdout) if o["kind"] == "Deployment"]

    assert of("# one\n") == of("# other\n") != []
