"""What the tests share: where things are, the dashboard and the rules as they are shipped."""

import json
import os
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "models" / "demo"
GRAFANA = ROOT / "deploy" / "grafana"
PROMETHEUS = ROOT / "deploy" / "prometheus"

BINARY = os.environ["PORTHOLE_TEST_BINARY"]
PROMETHEUS_DIR = Path(os.environ["PORTHOLE_TEST_PROMETHEUS_DIR"])
REDIS_SERVER = os.environ["PORTHOLE_TEST_REDIS_SERVER"]
NODE_MODULES = Path(os.environ["PORTHOLE_TEST_NODE_MODULES"])
UNITS = Path(os.environ["PORTHOLE_TEST_GRAFANA_UNITS"])

DASHBOARD = json.loads((GRAFANA / "porthole.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((PROMETHEUS / "rules.yml").read_text(encoding="utf-8"))

# What a variable becomes where a test asks Prometheus itself.
_VALUES = {"job": ".*", "instance": ".*", "model": ".*", "__rate_interval": "15s"}
# `$1` of label_replace is none.
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|([a-zA-Z_]\w*))")


def panels():
    """Every panel that draws something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def targets():
    """Every query with its panel: (panel, target)."""
    return [(panel, target) for panel in panels() for target in panel["targets"]]


def rules(kind):
    """Every rule that is an `alert` or a `record`."""
    return [rule for group in RULES["groups"] for rule in group["rules"] if kind in rule]


def variables(text):
    """The names of Grafana's variables in a text."""
    return {braced or bare for braced, bare in _VARIABLE.findall(text)}


def substituted(expr):
    """A query with every variable filled in, as Grafana does before it asks; `All` is `.*`."""
    return _VARIABLE.sub(lambda found: _VALUES[found[1] or found[2]], expr)


def query_id(panel, target):
    """A query's name in the output of the tests."""
    return f"{panel['title']}-{target['refId']}"
