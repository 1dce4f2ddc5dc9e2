"""docs/operations.md speaks of keys, metrics, alerts and files that are there."""

import re
import tomllib

import yaml

from cases import CHART, ROOT

TEXT = (ROOT / "docs/operations.md").read_text()
WORDS = re.findall(r"`([^`\n]+)`", TEXT)


def test_every_alert_has_its_section():
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    alerts = {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    sections = re.findall(r"^### (Porthole\w+)$", TEXT, re.M)
    assert sections == list(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"].endswith(f"docs/operations.md#{name.lower()}")


def test_every_key_of_the_configuration_is_one():
    config = tomllib.loads((ROOT / "config.toml").read_text())
    named = {tuple(word.split(" = ")[0].split(".")) for word in WORDS if re.match(r"(\w+)\.\w+( = |$)", word)}
    named = {(section, key) for section, key in named if section in config}
    assert len(named) > 20
    assert not [f"{section}.{key}" for section, key in named if key not in config[section]]


def test_every_value_of_the_chart_is_one():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    config = tomllib.loads((ROOT / "config.toml").read_text())
    named = [word.split(":")[0].split(".") for word in WORDS if re.match(r"[a-z]\w*(\.\w+)+(: |$)", word) and word != "config.toml"]
    named = [path for path in named if path[0] in values and not (path[0] in config and path[1] in config[path[0]])]
    assert len(named) > 5
    for path in named:
        place = values
        for step in path:
            if path[0] == "config" and step == "model":
                break
            assert step in place, ".".join(path)
            place = place[step]


def test_every_metric_is_one():
    metrics = "".join(path.read_text() for path in (ROOT / "src").rglob("*.rs"))
    named = {re.match(r"porthole_(\w+)", word)[1] for word in re.findall(r"porthole_\w+", TEXT)}
    assert len(named) > 10
    for name in named:
        assert f'"{name.removesuffix("_total")}"' in metrics, name


def test_every_file_is_there():
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / link).exists(), link
    for path in re.findall(r"\bdeploy/(?:helm|kustomize|cuda|grafana|prometheus|nginx|compose|docker)[\w./-]*", TEXT):
        assert (ROOT / path).exists(), path
