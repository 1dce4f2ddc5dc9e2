"""The objects: what the API's schemas say of them, what security reviews say, and what must be in them."""

import functools
import ipaddress
import json
import subprocess

import jsonschema
import kubernetes_validate
import pytest
import tomllib
import yaml
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as operator

from cases import GOOD, ROOT
from conftest import kustomize, render

# The oldest that the chart takes, and the newest.
VERSIONS = ["1.30", "1.32", "1.34", "1.36", "1.37"]
OVERLAYS = sorted(path.parent for path in (ROOT / "deploy/kustomize/overlays").glob("*/kustomization.yaml"))


def strict(schema):
    """The schema, with properties that it does not name forbidden. Defaults mean nothing to a validator."""
    if isinstance(schema, dict):
        schema = {key: strict(value) for key, value in schema.items() if key != "default"}
        if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
            schema["additionalProperties"] = False
        return schema
    return [strict(value) for value in schema] if isinstance(schema, list) else schema


@functools.cache
def custom_validator(kind):
    model = {
        "ServiceMonitor": operator.ServiceMonitor,
        "PrometheusRule": operator.PrometheusRule,
        "ScaledObject": keda.ScaledObject,
    }[kind]
    return jsonschema.Draft202012Validator(strict(model.model_json_schema(by_alias=True)))


@functools.cache
def problems(text, version):
    found = json.loads(text)
    if found["apiVersion"].partition("/")[0] in ("monitoring.coreos.com", "keda.sh"):
        return [f"{list(e.absolute_path)}: {e.message}" for e in custom_validator(found["kind"]).iter_errors(found)]
    try:
        kubernetes_validate.validate(found, version, strict=True)
    except kubernetes_validate.ValidationError as e:
        return [f"{list(e.path)}: {e.message}"]
    return []


def all_problems(objects):
    texts = [json.dumps(found, sort_keys=True) for found in objects]
    return [
        f"{version} {json.loads(text)['kind']} {problem}"
        for text in texts
        for version in VERSIONS
        for problem in problems(text, version)
    ]


def test_every_object_is_valid(rendering):
    assert not all_problems(rendering.objects)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_every_object_of_kustomize_is_valid(overlay):
    assert not all_problems(kustomize(overlay).objects)


@pytest.mark.parametrize(
    ("case", "kind", "path"),
    [
        ("default", "Deployment", ["spec", "template", "spec", "containers", 0, "livenessProb"]),
        ("default", "NetworkPolicy", ["spec", "egres"]),
        ("monitoring", "ServiceMonitor", ["spec", "endpoints", 0, "prot"]),
        ("monitoring", "PrometheusRule", ["spec", "groups", 0, "rules", 0, "expresion"]),
        ("keda", "ScaledObject", ["spec", "minReplicas"]),
    ],
)
def test_the_schemas_see_a_misspelt_field(case, kind, path):
    changed = json.loads(json.dumps(render(case).of(kind)))
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = {}
    assert all_problems([changed])


def test_security_reviews_find_only_what_is_justified(tmp_path):
    for name in GOOD:
        (tmp_path / f"{name}.yaml").write_text(render(name).text)
    for overlay in OVERLAYS:
        (tmp_path / f"kustomize-{overlay.name}.yaml").write_text(kustomize(overlay).text)
    done = subprocess.run(
        ["checkov", "--skip-download", "--framework", "kubernetes", "--output", "json", "--directory", tmp_path],
        capture_output=True,
        text=True,
    )
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 1000 and not report["summary"]["parsing_errors"]
    failed = {check["check_id"] for check in report["results"]["failed_checks"]}
    lines = (ROOT / "tests/kubernetes/justified.txt").read_text().splitlines()
    assert failed == {line.split()[0] for line in lines if line and not line.startswith("#")}
    # With a digest, as justified.txt says, that check passes.
    without_digest = {check["file_path"] for check in report["results"]["failed_checks"] if check["check_id"] == "CKV_K8S_43"}
    assert "/default.yaml" in without_digest and "/digest.yaml" not in without_digest


def test_pods_keep_to_the_restricted_profile(rendering):
    pod = rendering.pod
    assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    assert pod["securityContext"]["fsGroup"] == 10001
    for container in pod["containers"] + pod.get("initContainers", []):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
    for volume in pod["volumes"]:
        assert "hostPath" not in volume
    # What is written is a volume; everything that is not has one line less to go wrong.
    written = {m["mountPath"] for m in rendering.container["volumeMounts"] if not m.get("readOnly")}
    assert written - {"/dev/shm"} == {"/tmp", "/var/lib/porthole"}


def test_names_point_to_what_is_there(rendering):
    ports = {port["name"] for port in rendering.container["ports"]}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert rendering.container[probe]["httpGet"]["port"] in ports
    labels = rendering.of("Deployment")["spec"]["template"]["metadata"]["labels"]
    for found in rendering.objects:
        if found["kind"] == "Service":
            assert found["spec"]["selector"].items() <= labels.items()
            assert {port["targetPort"] for port in found["spec"]["ports"]} <= ports
        elif found["kind"] in ("NetworkPolicy", "PodDisruptionBudget"):
            selector = found["spec"].get("podSelector") or found["spec"]["selector"]
            assert selector["matchLabels"].items() <= labels.items()
        elif found["kind"] in ("HorizontalPodAutoscaler", "ScaledObject"):
            assert found["spec"]["scaleTargetRef"]["name"] == rendering.of("Deployment")["metadata"]["name"]
            assert "replicas" not in rendering.of("Deployment")["spec"]
        elif found["kind"] == "ServiceMonitor":
            (service,) = [
                s for s in rendering.objects
                if s["kind"] == "Service"
                and found["spec"]["selector"]["matchLabels"].items() <= s["metadata"]["labels"].items()
            ]
            assert found["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
        elif found["kind"] == "Ingress":
            backend = found["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
            service = rendering.of("Service", backend["name"])
            assert backend["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}
    mounted = {mount["name"] for c in rendering.pod["containers"] for mount in c["volumeMounts"]}
    assert mounted == {volume["name"] for volume in rendering.pod["volumes"]}
    claims = {o["metadata"]["name"] for o in rendering.objects if o["kind"] == "PersistentVolumeClaim"}
    used = {v["persistentVolumeClaim"]["claimName"] for v in rendering.pod["volumes"] if "persistentVolumeClaim" in v}
    assert claims <= used


INNER = """10.1.2.3 172.31.0.1 192.168.1.1 169.254.169.254 127.0.0.1 0.0.0.0 100.64.0.1 224.0.0.1 255.255.255.255
198.18.0.1 192.0.0.1 ::1 :: fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 ::ffff:10.0.0.1 64:ff9b::a00:1
2002:a00:1::1 2001:0:1::1 2001:db8::1""".split()
OUTER = "1.1.1.1 93.184.215.14 172.32.0.1 2606:4700::1111 2a00:1450::1".split()


def lets_out(policy, address, port):
    address = ipaddress.ip_address(address)
    for rule in policy["spec"]["egress"]:
        if port not in {p["port"] for p in rule["ports"]}:
            continue
        for block in (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer):
            inside = [address in ipaddress.ip_network(cidr) for cidr in block.get("except", [])]
            if address in ipaddress.ip_network(block["cidr"]) and not any(inside):
                return True
    return False


def test_the_network_policy_lets_out_to_public_addresses_alone(rendering):
    policy = rendering.of("NetworkPolicy")
    if policy is None:
        assert "kind: NetworkPolicy" not in rendering.text
        return
    images = tomllib.loads(rendering.config).get("images", {})
    ports = images.get("allowed_ports", [80, 443]) if images.get("allow_urls", True) else []
    for port in ports:
        assert all(lets_out(policy, address, port) for address in OUTER)
    for port in {80, 443, 6379, 9090, *ports}:
        assert not [address for address in INNER if lets_out(policy, address, port)]
    for port in {22, 8080, 443 if not ports else 22}:
        assert not any(lets_out(policy, address, port) for address in OUTER)
    dns = policy["spec"]["egress"][0]
    assert {(p["port"], p["protocol"]) for p in dns["ports"]} == {(53, "UDP"), (53, "TCP")}
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == {8080, 9090}


def test_the_rules_are_in_the_object_as_they_are_in_the_file():
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    assert render("monitoring").of("PrometheusRule")["spec"] == rules
    dashboard = render("monitoring").of("ConfigMap", "porthole-dashboard")["data"]
    for name, text in dashboard.items():
        assert json.loads(text) == json.loads((ROOT / "deploy/grafana" / name).read_text())


def test_gpus_are_asked_for_and_tolerated():
    for name, count in (("gpu", 1), ("several-gpus", 4)):
        rendering = render(name)
        resources = rendering.container["resources"]
        assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"] == count
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in rendering.pod["tolerations"]
        assert tomllib.loads(rendering.config)["model"]["device"] == "cuda"
        assert rendering.container["image"].endswith("-cuda")
    (shm,) = [v for v in render("several-gpus").pod["volumes"] if v["name"] == "shm"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}


def test_a_store_of_one_file_is_never_opened_twice():
    assert render("persistence").of("Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    assert render("default").of("Deployment")["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
