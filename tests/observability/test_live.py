"""Every query of the dashboard and of the rules, asked of a real Prometheus that scrapes a server under traffic."""

import itertools
import math
import re
import time

import pytest
import traffic
from support import DASHBOARD, query_id, rules, substituted, targets

# Panels that have nothing to show here, and why.
EMPTY = {
    "GPU utilization": "there is no GPU",
    "GPU memory": "there is no GPU",
}
# Metrics that the dashboard does not show, and why.
UNSEEN = set()


def told(scene):
    """The families that the server exposes now."""
    text = scene.porthole.session.get(f"{scene.porthole.admin_url}/metrics", timeout=10).text
    return {line.split()[2]: line.split()[3] for line in text.splitlines() if line.startswith("# TYPE ")}


@pytest.mark.parametrize(("panel", "target"), targets(), ids=itertools.starmap(query_id, targets()))
def test_a_panel_has_data(scene, panel, target):
    expr = substituted(target["expr"])
    if target["instant"]:
        values = [value for _, value in scene.prometheus.instant(expr)]
        values += [v for _, series in scene.prometheus.over_time(expr, scene.start, scene.end) for v in series]
    else:
        values = [v for _, series in scene.prometheus.over_time(expr, scene.start, scene.end) for v in series]
    if panel["title"] in EMPTY:
        # Whoever has a GPU sees it.
        names = re.findall(r"porthole_\w+", expr)
        assert bool(values) == all(name in told(scene) for name in names), EMPTY[panel["title"]]
        return
    assert any(map(math.isfinite, values)), f"no number: {expr}"
    assert all(value >= 0 or math.isnan(value) for value in values)


@pytest.mark.parametrize(
    "panel", [panel for panel in DASHBOARD["panels"] if panel["type"] == "heatmap"], ids=lambda panel: panel["title"]
)
def test_a_heatmap_has_filled_cells(scene, panel):
    (target,) = panel["targets"]
    series = scene.prometheus.over_time(substituted(target["expr"]), scene.start, scene.end)
    assert len(series) >= 8
    assert any(value > 0 for _, values in series for value in values)


@pytest.mark.parametrize("variable", DASHBOARD["templating"]["list"][1:], ids=lambda variable: variable["name"])
def test_a_variable_offers_something(scene, variable):
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    values = scene.prometheus.get(f"label/{found[2]}/values", **{"match[]": substituted(found[1])})
    expected = {"job": ["porthole"], "instance": [f"127.0.0.1:{scene.porthole.admin_port}"], "model": ["demo"]}
    assert values == expected[variable["name"]]


def test_starts_are_annotated(scene):
    (annotation,) = DASHBOARD["annotations"]["list"]
    ((_, milliseconds),) = scene.prometheus.instant(substituted(annotation["expr"]))
    assert abs(milliseconds / 1000 - scene.start) < 180


@pytest.mark.parametrize("rule", rules("record"), ids=lambda rule: rule["record"])
def test_a_recorded_rule_has_numbers(scene, rule):
    values = [v for _, series in scene.prometheus.over_time(rule["record"], scene.start, scene.end) for v in series]
    assert any(map(math.isfinite, values)), rule["expr"]


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_is_evaluated(scene, rule):
    scene.prometheus.get("query", query=rule["expr"])
    loaded = [r for group in scene.prometheus.get("rules", type="alert")["groups"] for r in group["rules"]]
    mine = [r for r in loaded if r["name"] == rule["alert"] and r["labels"] == rule["labels"]]
    assert [r["health"] for r in mine] == ["ok"], mine


@pytest.mark.parametrize("rule", rules("alert"), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_the_metrics_of_an_alert_are_there(scene, rule):
    for name in set(re.findall(r"\bporthole_[a-z0-9_]+", rule["expr"])):
        if ":" in name or name.startswith("porthole_gpu_"):
            continue
        if f":{name}" in rule["expr"]:  # a part of a recorded name
            continue
        assert scene.prometheus.instant(name), name


def test_every_metric_is_shown(scene):
    shown = " ".join(target["expr"] for _, target in targets())
    names = {name for name in told(scene) if name.startswith("porthole_")}
    assert len(names) > 20
    hidden = {name for name in names if not re.search(rf"\b{name}(_total|_bucket|_info)?\b", shown)}
    assert hidden == UNSEEN


def test_the_numbers_are_those_of_the_traffic(scene):
    total = scene.prometheus.total
    rounds = traffic.ROUNDS
    assert set(scene.statuses) >= {200, 400, 401, 403, 404, 415, 429, 503}
    for status, count in scene.statuses.items():
        counted = total(f'porthole_http_requests_total{{route="/v1/chat/completions", status="{status}"}}')
        assert counted == count, f"{status}: {counted} for {count}"
    assert total('porthole_http_requests_total{route="unknown"}') == rounds
    assert total('porthole_limit_refusals_total{what="tokens_month"}') == rounds
    assert total('porthole_limit_refusals_total{what="requests"}') == 1
    assert total('porthole_overload_refusals_total{reason="queue"}') == scene.statuses[503]
    assert total('porthole_requests_finished_total{reason="cancelled"}') == rounds
    assert total('porthole_requests_finished_total{reason="length"}') == rounds + 2
    assert total("porthole_key_tokens_total") == total(
        "porthole_prompt_tokens_total + porthole_generation_tokens_total"
    )


def test_redis_never_refused(scene):
    """A slow machine may make Redis late; but whatever it was asked for, it could do."""
    # Places are renewed every ten seconds, also when nobody has one.
    time.sleep(max(0, scene.start + 25 - time.time()))
    log = (scene.porthole.work / "porthole.log").read_text(encoding="utf-8")
    assert "Redis counts the limits" in log
    assert "Redis refuses to count" not in log


def test_a_bad_certificate_is_an_alert(scene):
    good = scene.porthole.certificate.read_bytes()
    scene.porthole.certificate.write_text("no certificate", encoding="utf-8")
    try:
        deadline = time.monotonic() + 60
        while True:
            alerts = scene.prometheus.get("alerts")["alerts"]
            fired = [alert for alert in alerts if alert["labels"]["alertname"] == "PortholeTlsReloadFailed"]
            if fired:
                break
            assert time.monotonic() < deadline, [alert["labels"] for alert in alerts]
            time.sleep(0.5)
    finally:
        scene.porthole.certificate.write_bytes(good)
    assert fired[0]["state"] == "firing"
    assert scene.porthole.admin_url.removeprefix("http://") in fired[0]["annotations"]["description"]
