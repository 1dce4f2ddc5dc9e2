"""The document at /openapi.json, and the requests that schemathesis makes up from it."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from support import KEY, MODEL

BASE = os.environ["PORTHOLE_TEST_URL"]
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
# What schemathesis looks at in every answer.
CHECKS = ["not_a_server_error", "status_code_conformance", "response_schema_conformance", "content_type_conformance"]
SECONDS = 25


@pytest.fixture(scope="module")
def document():
    with urllib.request.urlopen(f"{BASE}/openapi.json", timeout=5) as response:
        assert response.headers["content-type"].startswith("application/json")
        return json.load(response)


def test_every_way_to_ask_is_documented(document):
    assert document["openapi"].startswith("3.1")
    asked = {(method, path) for path, item in document["paths"].items() for method in item if method != "parameters"}
    assert {
        ("post", "/v1/chat/completions"),
        ("post", "/v1/completions"),
        ("post", "/v1/responses"),
        ("post", "/v1/models/{model}:predict"),
        ("get", "/v1/models"),
        ("get", "/v1/models/{model}"),
        ("post", "/v1/tokens"),
    } <= asked


def test_every_answer_that_is_an_error_has_the_shape_of_openai(document):
    for path, item in document["paths"].items():
        if path.startswith("/v1/"):
            for method in item.keys() - {"parameters"}:
                documented = item[method]["responses"]
                assert {"401", "429", "503"} <= documented.keys(), (method, path)


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_nothing_that_the_document_allows_or_forbids_surprises(mode, tmp_path):
    """For a while, then it is enough; the seed is the same every time."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{BASE}/openapi.json"),
        *("--header", f"Authorization: Bearer {KEY}"),
        *("--checks", ",".join(CHECKS)),
        *("--mode", mode),
        *("--phases", "examples,coverage,fuzzing"),
        *("--max-time", str(SECONDS), "--request-timeout", "30"),
        *("--seed", "1", "--no-color"),
        *("--suppress-health-check", "all"),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(HOOKS), "PORTHOLE_TEST_MODEL": MODEL}
    run = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=4 * SECONDS)
    assert run.returncode == 0, run.stdout[-20000:] + run.stderr[-5000:]
    # Had it asked nothing, it would have found nothing.
    assert "generated" in run.stdout, run.stdout[-3000:]
