#!/usr/bin/env python3
"""Writes porthole.json, the dashboard for Grafana 11 and newer, from the panels beside this file.

    deploy/grafana/source/build.py            writes it
    deploy/grafana/source/build.py --check    fails if what is there is not what would be written

The dashboard names no data source, so it can be imported anywhere; `$datasource` asks for one.
"""

import json
import sys
from pathlib import Path

from internals import ACCESS, ENGINE, GPU, IMAGES, PROCESS_ROW
from panel import Panel
from serving import LATENCY, OVERVIEW, QUEUE, TOKENS, TRAFFIC

OUT = Path(__file__).resolve().parent.parent / "porthole.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
GRID = 24
# That of Grafana 12; 11 shows it as it is, and newer ones migrate it.
SCHEMA = 41


SECTIONS = [
    ("Overview", OVERVIEW),
    ("Traffic and errors", TRAFFIC),
    ("Latency", LATENCY),
    ("Tokens", TOKENS),
    ("Queue and capacity", QUEUE),
    ("Images", IMAGES),
    ("Limits and credentials", ACCESS),
    ("Engine", ENGINE),
    ("Process", PROCESS_ROW),
    ("GPU", GPU),
]

PALETTE = {"mode": "palette-classic"}
GREEN = {"color": "green", "value": None}


def thresholds(panel: Panel):
    """Colours from the values where a panel gets worse."""
    steps = [GREEN]
    if panel.low_is_bad:
        low_to_high = sorted(panel.limits)
        steps = [{"color": "red", "value": None}]
        steps += [{"color": "orange", "value": v} for v in low_to_high[:-1]]
        steps += [{"color": "green", "value": low_to_high[-1]}]
    else:
        steps += [{"color": c, "value": v} for c, v in zip(("orange", "red"), panel.limits, strict=False)]
    return {"mode": "absolute", "steps": steps}


def target(ref, query, kind):
    """One query as Grafana's Prometheus source takes it."""
    made = {
        "datasource": SOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "instant": kind == "stat",
        "legendFormat": query.legend,
        "range": kind != "stat",
        "refId": ref,
    }
    if kind == "heatmap":
        made["format"] = "heatmap"
    return made


def field_config(panel: Panel):
    """Unit, colours and how lines are drawn."""
    defaults = {"unit": panel.unit, "color": PALETTE, "thresholds": thresholds(panel)}
    if panel.minimum is not None:
        defaults["min"] = panel.minimum
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    if panel.kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
        if panel.names:
            mapping = {text: {"text": word, "color": colour} for text, (word, colour) in panel.names.items()}
            defaults["mappings"] = [{"type": "value", "options": mapping}]
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "lineInterpolation": "linear",
            "lineWidth": 1,
            "fillOpacity": 25 if panel.stacked else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
        }
    overrides = [
        {
            "matcher": {"id": "byName", "options": name},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for name, colour in panel.colours.items()
    ]
    return {"defaults": defaults, "overrides": overrides}


def options(panel: Panel):
    """What a kind of panel has of its own."""
    if panel.kind == "stat":
        return {
            "colorMode": "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "/.*/" if panel.text else "", "values": False},
            "showPercentChange": False,
            "textMode": "name" if panel.text else "auto",
            "wideLayout": True,
        }
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {
                "exponent": 0.5,
                "fill": "dark-orange",
                "mode": "scheme",
                "reverse": False,
                "scale": "exponential",
                "scheme": "Oranges",
                "steps": 64,
            },
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "tooltip": {"mode": "single", "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": panel.unit},
        }
    return {
        "legend": {
            "calcs": ["mean", "lastNotNull", "max"],
            "displayMode": "table",
            "placement": "bottom",
            "showLegend": True,
        },
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def drawn(panel: Panel, number, place):
    """A panel at its place."""
    refs = (chr(ord("A") + i) for i in range(26))
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": field_config(panel),
        "options": options(panel),
        "targets": [target(ref, query, panel.kind) for ref, query in zip(refs, panel.queries, strict=False)],
    }


def layout():
    """Every row and panel, from the left to the right and from the top down."""
    number, y, out = 1, 0, []
    for title, panels in SECTIONS:
        out.append(
            {
                "id": number,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"h": 1, "w": GRID, "x": 0, "y": y},
                "panels": [],
            }
        )
        number, y, x, height = number + 1, y + 1, 0, 0
        for panel in panels:
            if x + panel.width > GRID:
                x, y, height = 0, y + height, 0
            place = {"h": panel.height, "w": panel.width, "x": x, "y": y}
            out.append(drawn(panel, number, place))
            number, x, height = number + 1, x + panel.width, max(height, panel.height)
        y += height
    return out


def variable(name, label, metric, description):
    """A choice among the values that a label has, those of the choices before it."""
    query = f"label_values({metric}, {name})"
    return {
        "name": name,
        "label": label,
        "description": description,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": f"variable-{name}"},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    }


def dashboard():
    """The whole document."""
    source = {
        "name": "datasource",
        "label": "Data source",
        "description": "The Prometheus that scrapes Porthole",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
        "options": [],
        "regex": "",
        "hide": 0,
        "skipUrlSync": False,
    }
    there = 'porthole_ready{job=~"$job"}'
    of_model = 'porthole_request_capacity{job=~"$job", instance=~"$instance"}'
    starts = {
        "name": "Starts",
        "datasource": SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "blue",
        "expr": 'process_start_time_seconds{job=~"$job", instance=~"$instance"} * 1000',
        "step": "60s",
        "titleFormat": "{{instance}} started",
        "useValueForTime": "on",
    }
    return {
        "uid": "porthole",
        "title": "Porthole",
        "description": "A vision-language gateway: traffic, latency, tokens, queue, images, limits, engine and process",
        "tags": ["porthole", "llm"],
        "schemaVersion": SCHEMA,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "timepicker": {},
        "links": [],
        "annotations": {"list": [starts]},
        "templating": {
            "list": [
                source,
                variable("job", "Job", "porthole_ready", "A deployment, as its scrape job names it"),
                variable("instance", "Instance", there, "One process"),
                variable("model", "Model", of_model, "A served model"),
            ]
        },
        "panels": layout(),
    }


def main():
    text = json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"
    if sys.argv[1:] == ["--check"]:
        if not OUT.is_file() or OUT.read_text(encoding="utf-8") != text:
            sys.exit(f"{OUT} is not what build.py writes: run it, or put the change into the files beside it")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        OUT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
