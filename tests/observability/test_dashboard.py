"""The dashboard: it is what its source says, fits Grafana's own types, and has no loose ends."""

import copy
import itertools
import json
import os
import re
import subprocess
import sys

import pytest
from support import DASHBOARD, GRAFANA, NODE_MODULES, ROOT, UNITS, panels, query_id, targets, variables

# What Grafana defines itself.
BUILT_IN = {"__rate_interval"}
COLUMNS = 24


def test_it_is_what_its_source_says():
    ran = subprocess.run([sys.executable, GRAFANA / "source" / "build.py", "--check"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def first(kind, dashboard):
    return next(panel for panel in dashboard["panels"] if panel["type"] == kind)


# Each breaks a copy in a way that the types must see.
MISTAKES = {
    "unknown_field": lambda d: d.update(titel="Porthole"),
    "unknown_panel": lambda d: first("stat", d).update(type="statt"),
    "no_expr": lambda d: first("stat", d)["targets"][0].pop("expr"),
    "no_ref": lambda d: first("heatmap", d)["targets"][0].pop("refId"),
    "no_unit": lambda d: first("timeseries", d)["fieldConfig"]["defaults"].pop("unit"),
    "no_description": lambda d: first("timeseries", d).pop("description"),
    "wrong_word": lambda d: first("timeseries", d)["options"]["legend"].update(displayMode="tabel"),
    "unknown_option": lambda d: first("stat", d)["options"].update(graphmode="none"),
    "unknown_custom": lambda d: first("timeseries", d)["fieldConfig"]["defaults"]["custom"].update(lineWeight=1),
    "wrong_colour_mode": lambda d: first("stat", d)["fieldConfig"]["defaults"].update(color={"mode": "threshold"}),
    "text_for_number": lambda d: first("heatmap", d)["gridPos"].update(w="12"),
    "fixed_source": lambda d: first("stat", d)["datasource"].update(uid="prometheus"),
    "wrong_variable": lambda d: d["templating"]["list"][1].update(type="querry"),
    "wrong_refresh": lambda d: d["templating"]["list"][1].update(refresh=9),
}


def test_it_fits_grafanas_types(tmp_path):
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    types = ROOT / "tests" / "observability" / "dashboard.d.ts"
    (tmp_path / "dashboard.d.ts").write_text(types.read_text(encoding="utf-8"), encoding="utf-8")

    def write(name, dashboard):
        typed = f"import type {{ PortholeDashboard }} from './dashboard.js';\nexport const {name}: PortholeDashboard ="
        (tmp_path / f"{name}.ts").write_text(f"{typed} {json.dumps(dashboard, indent=1)};\n", encoding="utf-8")

    write("shipped", DASHBOARD)
    for name, mistake in MISTAKES.items():
        broken = copy.deepcopy(DASHBOARD)
        mistake(broken)
        write(name, broken)
    options = {
        "module": "nodenext",
        "moduleResolution": "nodenext",
        "target": "es2022",
        "strict": True,
        "noEmit": True,
        "preserveSymlinks": True,
        "types": [],
    }
    config = {"compilerOptions": options, "include": ["*.ts"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(config), encoding="utf-8")
    node = os.environ["PORTHOLE_TEST_NODE"]
    compiler = NODE_MODULES / "typescript" / "bin" / "tsc"
    ran = subprocess.run([node, compiler, "--pretty", "false", "-p", tmp_path], capture_output=True, text=True)
    said = [line for line in ran.stdout.splitlines() if "error TS" in line]
    wrong = {match[1] for line in said if (match := re.match(r"(?:.*/)?(\w+)\.ts\(", line))}
    shipped = [line for line in said if re.match(r"(?:.*/)?(?:shipped|dashboard\.d)\.ts", line)]
    assert not shipped, "\n".join(shipped)
    assert wrong == set(MISTAKES), f"not seen: {set(MISTAKES) - wrong}; {ran.stdout[:2000]}{ran.stderr}"


def test_ids_are_unique():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(set(titles)) == len(titles)


def test_nothing_overlaps_or_leaves_the_grid():
    taken = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["w"] > 0 and place["x"] + place["w"] <= COLUMNS, panel["title"]
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        ):
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            taken[cell] = panel["title"]
    # Grafana would move up what lies under a hole, and the next export would differ.
    rows = {y for _, y in taken}
    assert rows == set(range(max(rows) + 1))


def test_it_stands_on_every_grafana():
    # An id or a version of a database would be that of somebody's Grafana.
    assert "id" not in DASHBOARD and DASHBOARD["uid"] == "porthole"
    # 39 is Grafana 11's, 41 Grafana 12's.
    assert 39 <= DASHBOARD["schemaVersion"] <= 41


def grafanas_units():
    source = UNITS.read_text(encoding="utf-8")
    units = set(re.findall(r'\bid: "([^"]+)"', source))
    assert {"none", "s", "percentunit"} <= units and len(units) > 200
    return units


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_is_complete(panel):
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["unit"] in grafanas_units()
    # What a bad value means takes more than a few words.
    assert len(panel["description"].split()) >= 8
    refs = [target["refId"] for target in panel["targets"]]
    assert refs and len(set(refs)) == len(refs)
    names = {target["legendFormat"] for target in panel["targets"]}
    overridden = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
    by_label = any(name.startswith("{{") for name in names)
    assert by_label or overridden <= names, f"colours for lines that are not there: {overridden - names}"
    for target in panel["targets"]:
        assert target["expr"].strip()
        # A number is asked for once, a line over time; one of both, or Grafana asks for nothing.
        assert target["instant"] != target["range"]
        assert target["instant"] == (panel["type"] == "stat")
        assert (target.get("format") == "heatmap") == (panel["type"] == "heatmap")
        grouped = set(re.findall(r"\bby \(([^)]*)\)", target["expr"])[:1])
        labels = {label.strip() for group in grouped for label in group.split(",")}
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            assert label in labels, f"{query_id(panel, target)} names its lines by {label}, which the query drops"


def test_every_variable_is_defined_and_used():
    defined = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert len(set(defined)) == len(defined)
    texts = [json.dumps(panel) for panel in panels()] + [json.dumps(DASHBOARD["annotations"])]
    used = set().union(*map(variables, texts))
    # One variable may choose what another offers, and must come before it.
    for at, variable in enumerate(DASHBOARD["templating"]["list"]):
        needs = variables(json.dumps(variable.get("query", "")))
        assert needs <= set(defined[:at]), variable["name"]
    assert used - BUILT_IN == set(defined)


@pytest.mark.parametrize(("panel", "target"), targets(), ids=itertools.starmap(query_id, targets()))
def test_a_query_obeys_the_variables(panel, target):
    expr = target["expr"]
    selectors = re.findall(r"\{([^}]*=[^}]*)\}", expr)
    assert selectors, "a query without a selector shows other jobs' processes"
    for selector in selectors:
        assert 'job=~"$job"' in selector and 'instance=~"$instance"' in selector, selector
    assert "[$__rate_interval]" in expr or not re.search(r"\b(rate|increase)\(", expr)
