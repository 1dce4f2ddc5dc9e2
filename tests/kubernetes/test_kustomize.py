"""The kustomize files make what the chart makes."""

import copy
import os

import pytest

from cases import ROOT
from conftest import kustomize, render

OVERLAYS = ROOT / "deploy/kustomize/overlays"
HELM_LABELS = ["helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by"]


def order(value):
    """Lists of things with names in the order of the names: it means nothing to Kubernetes here."""
    if isinstance(value, dict):
        return {key: order(inner) for key, inner in value.items()}
    if isinstance(value, list):
        value = [order(inner) for inner in value]
        if all(isinstance(inner, dict) and "name" in inner for inner in value):
            return sorted(value, key=lambda inner: inner["name"])
    return value


def normal(found):
    """The object without what only Helm or only kustomize writes: its labels, its way to roll pods."""
    found = copy.deepcopy(found)
    metadata = found["metadata"]
    for label in HELM_LABELS:
        metadata["labels"].pop(label, None)
    metadata.get("annotations", {}).pop("helm.sh/resource-policy", None)
    if not metadata.get("annotations"):
        metadata.pop("annotations", None)
    if found["kind"] == "ConfigMap":
        metadata["name"] = "porthole-config"
    elif found["kind"] == "Deployment":
        template = found["spec"]["template"]
        template["metadata"].pop("annotations", None)
        for volume in template["spec"]["volumes"]:
            if volume["name"] == "config":
                volume["configMap"]["name"] = "porthole-config"
    return order(found)


def by_name(objects):
    found = {(o["kind"], o["metadata"]["name"]): o for o in map(normal, objects)}
    for key in [key for key in found if key[0] == "ConfigMap"]:
        lines = found[key]["data"]["config.toml"].splitlines()
        found[key]["data"]["config.toml"] = [line.rstrip() for line in lines]
    return found


@pytest.mark.parametrize(("overlay", "case"), [("cpu", "default"), ("gpu", "gpu"), ("production", "production")])
def test_an_overlay_is_the_chart_with_the_same_values(overlay, case):
    ours, theirs = by_name(kustomize(OVERLAYS / overlay).objects), by_name(render(case).objects)
    assert ours.keys() == theirs.keys()
    for key, found in ours.items():
        assert found == theirs[key], key


@pytest.mark.parametrize("scaler", ["hpa", "keda"])
def test_each_autoscaler_is_the_charts(scaler, tmp_path):
    base = ROOT / "deploy/kustomize"
    # kustomize takes no absolute paths.
    relative = os.path.relpath(base, tmp_path)
    (tmp_path / "kustomization.yaml").write_text(
        f"namespace: porthole\nresources: [{relative}/base]\ncomponents: [{relative}/components/autoscaling-{scaler}]\n"
    )
    kind = {"hpa": "HorizontalPodAutoscaler", "keda": "ScaledObject"}[scaler]
    ours, theirs = normal(kustomize(tmp_path).of(kind)), normal(render(scaler).of(kind))
    for found in (ours, theirs):
        for key in ("minReplicas", "maxReplicas", "minReplicaCount", "maxReplicaCount"):
            found["spec"].pop(key, None)
    assert ours == theirs
    assert "replicas" not in kustomize(tmp_path).of("Deployment")["spec"]
