"""A started server has the ports, the paths, the keys and the metrics that the objects speak of."""

import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from cases import GOOD, ROOT
from conftest import kustomize, render

BINARY = os.environ["PORTHOLE_TEST_BINARY"]
# Container ports, by what the server listens there for.
ROLES = {8080: "api", 9090: "admin"}
SECRETS = {
    "PORTHOLE__AUTH__KEY_PEPPER": "p" * 32,
    "PORTHOLE__AUTH__TOKEN_SECRET": "t" * 32,
    "PORTHOLE__LIMITS__REDIS_URL": "redis://127.0.0.1:6379",
}


def environment(rendering, folder):
    """The container's environment, with what is in volumes and on GPUs put where it is here."""
    found = {name: SECRETS[name] if value is None else value for name, value in rendering.env.items()}
    found |= {
        "PORTHOLE__LIMITS__STORE": str(folder / "usage.redb"),
        "PORTHOLE__AUTH__KEYS_FILE": str(folder / "keys.toml"),
        "PORTHOLE__MODEL__ID": "models/demo",
    }
    for name in ("CERTIFICATE", "KEY"):
        if f"PORTHOLE__SERVER__TLS_{name}" in found:
            found[f"PORTHOLE__SERVER__TLS_{name}"] = str(folder / name)
    return {key: value for key, value in os.environ.items() if not key.startswith("PORTHOLE__")} | found


def run(arguments, env, **more):
    return subprocess.run([BINARY, *arguments], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, **more)


def check(rendering, folder, extra=None):
    config = folder / "config.toml"
    config.write_text(rendering.config)
    env = environment(rendering, folder)
    made = run(["key", "create", "test"], env)
    assert made.returncode == 0, made.stderr
    return run(["check", "--config", str(config)], env | (extra or {}))


def test_the_server_takes_the_configuration(rendering, tmp_path):
    done = check(rendering, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "The configuration is good." in done.stdout


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "production"])
def test_the_server_takes_the_configuration_of_kustomize(overlay, tmp_path):
    done = check(kustomize(ROOT / "deploy/kustomize/overlays" / overlay), tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_server_refuses_names_that_it_does_not_know(tmp_path):
    """So the two tests above say something."""
    done = check(render("default"), tmp_path, extra={"PORTHOLE__SERVER__BINDING": "x"})
    assert done.returncode != 0 and "binding" in done.stderr.lower()


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server as the default pod starts it, but for the numbers of its ports."""
    folder = tmp_path_factory.mktemp("server")
    rendering = render("default")
    ports = dict(zip(ROLES.values(), free_ports(2)))
    env = environment(rendering, folder)
    for container_port, role in ROLES.items():
        (name,) = [name for name, value in rendering.env.items() if value == f"0.0.0.0:{container_port}"]
        env[name] = f"0.0.0.0:{ports[role]}"
    assert run(["key", "create", "test"], env).returncode == 0
    config = folder / "config.toml"
    config.write_text(rendering.config)
    arguments = [str(config) if a == "/etc/porthole/config/config.toml" else a for a in rendering.container["args"]]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen([BINARY, *arguments], env=env, cwd=ROOT, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                if get(ports["api"], "/ready")[0] == 200:
                    break
            except OSError:
                pass
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield ports
        process.send_signal(signal.SIGTERM)
        assert process.wait(rendering.pod["terminationGracePeriodSeconds"]) == 0
    finally:
        process.kill()
        process.wait()


def probed():
    """Each place that a probe or a scrape asks, as a role and a path."""
    places = set()
    for name in GOOD:
        rendering = render(name)
        ports = {port["name"]: ROLES[port["containerPort"]] for port in rendering.container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = rendering.container[probe]["httpGet"]
            places.add((ports[asked["port"]], asked["path"]))
        if monitor := rendering.of("ServiceMonitor"):
            (endpoint,) = monitor["spec"]["endpoints"]
            (port,) = [
                p["targetPort"] for s in rendering.objects if s["kind"] == "Service"
                for p in s["spec"]["ports"] if p["name"] == endpoint["port"]
            ]
            places.add((ports[port], endpoint["path"]))
    return sorted(places)


def test_something_is_probed():
    assert probed() == [("admin", "/health"), ("admin", "/metrics"), ("api", "/ready")]


@pytest.mark.parametrize(("role", "path"), [("admin", "/health"), ("admin", "/metrics"), ("api", "/ready")])
def test_what_is_probed_answers(server, role, path):
    assert get(server[role], path)[0] == 200


def test_nothing_else_of_the_admin_listener_is_at_the_door_of_clients(server):
    assert get(server["api"], "/metrics")[0] in (401, 404)


def scaled_on():
    names = set()
    for name in GOOD:
        rendering = render(name)
        if scaler := rendering.of("HorizontalPodAutoscaler"):
            names |= {m["pods"]["metric"]["name"] for m in scaler["spec"]["metrics"]}
        if scaler := rendering.of("ScaledObject"):
            names |= {n for t in scaler["spec"]["triggers"] for n in re.findall(r"porthole_\w+", t["metadata"]["query"])}
    return sorted(names)


def test_the_metrics_that_scale_are_there(server):
    assert scaled_on() == ["porthole_load_ratio"]
    text = get(server["admin"], "/metrics")[1]
    assert "porthole_http_requests" in text
    for name in scaled_on():
        assert re.search(rf"^{name}\{{[^}}]*model=", text, re.M)
