"""What makes objects of values, once for each set."""

import functools
import os
import subprocess

import pytest
import yaml

from cases import CHART, GOOD

HELM = os.environ["PORTHOLE_TEST_HELM"]
KUBECTL = os.environ["PORTHOLE_TEST_KUBECTL"]
NAMESPACE = "porthole"


class Rendering:
    """The objects of one set of values."""

    def __init__(self, text):
        self.text = text
        self.objects = [found for found in yaml.safe_load_all(text) if found]

    def of(self, kind, name=None):
        found = [o for o in self.objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
        assert len(found) <= 1, f"several of {kind}"
        return found[0] if found else None

    @property
    def pod(self):
        return self.of("Deployment")["spec"]["template"]["spec"]

    @property
    def container(self):
        (container,) = self.pod["containers"]
        return container

    @property
    def env(self):
        return {entry["name"]: entry.get("value") for entry in self.container["env"]}

    @property
    def config(self):
        (config,) = [o for o in self.objects if o["kind"] == "ConfigMap" and "config.toml" in o["data"]]
        return config["data"]["config.toml"]


def template(values, *arguments, release="porthole"):
    """What `helm template` says to these values."""
    return subprocess.run(
        [HELM, "template", release, CHART, "--namespace", NAMESPACE, "--values", "-", *arguments],
        input=yaml.safe_dump(values),
        capture_output=True,
        text=True,
        timeout=60,
    )


@functools.cache
def render(name):
    done = template(GOOD[name])
    assert done.returncode == 0, done.stderr
    return Rendering(done.stdout)


@functools.cache
def kustomize(folder):
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return Rendering(done.stdout)


@pytest.fixture(params=GOOD)
def case(request):
    return request.param


@pytest.fixture
def rendering(case):
    return render(case)
