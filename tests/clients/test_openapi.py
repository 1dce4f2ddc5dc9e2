"""The document at /openapi.json, and the requests that schemathesis makes up from it."""

import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from pathlib import Path

import jsonschema
import pytest

from forms import SCHEMAS
from support import CHAT, KEY, MODEL, STORY, TOOL, request

BASE = os.environ["PORTHOLE_TEST_URL"]
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
# What schemathesis looks at in every answer.
CHECKS = ["not_a_server_error", "status_code_conformance", "response_schema_conformance", "content_type_conformance"]
SECONDS = 25
# What asks the model, and the part of the requests that follow the document which must be answered.
# The rest is refused for what no schema says, such as too many images.
ASKED = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/models/{model}:predict"]
ANSWERED = 0.6
EXAMPLES = 12


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


FORM = {"type": "json_schema", "name": "answer", "schema": SCHEMAS["array"]}
FLAT_TOOLS = [{"type": "function", **each["function"]} for each in TOOL["tools"]]
CHATS = {
    "image": request(STORY, user="someone"),
    "choices": {**request(CHAT, n=2, logprobs=True, top_logprobs=2), "temperature": 1},
    "tools": request(TOOL, tools=TOOL["tools"]),
    "form": request(CHAT, response_format={"type": "json_object"}, max_completion_tokens=16),
}
RESPONSES = {
    "text": {"input": "Hello", "metadata": {"a": "b"}, "instructions": "Be brief."},
    "cut": {"input": "Hello", "max_output_tokens": 16, "text": {"format": FORM}, "temperature": 1, "top_p": 0.5},
    "tools": {"input": "How many are in stock?", "tools": FLAT_TOOLS, "tool_choice": "required"},
    "logprobs": {"input": "Hello", "include": ["message.output_text.logprobs"], "top_logprobs": 2},
}


def post(path, body):
    """What is answered, as it is: one object, or the data of each event."""
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    asked = urllib.request.Request(f"{BASE}{path}", json.dumps({"model": MODEL, **body}).encode(), headers)
    with urllib.request.urlopen(asked, timeout=60) as response:
        text = response.read().decode()
    if not body.get("stream"):
        return [json.loads(text)]
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]


def check_documented(document, name, answers):
    assert answers
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    for answer in answers:
        jsonschema.validate(answer, schema, jsonschema.Draft202012Validator)
        # And it is not a schema that allows anything.
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({}, schema, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("body", CHATS.values(), ids=CHATS)
def test_answers_of_chat_are_what_is_documented(document, body):
    check_documented(document, "ChatCompletion", post("/v1/chat/completions", body))
    stream = {"stream": True, "stream_options": {"include_usage": True}}
    check_documented(document, "ChatCompletionChunk", post("/v1/chat/completions", {**body, **stream}))


@pytest.mark.parametrize("body", RESPONSES.values(), ids=RESPONSES)
def test_answers_of_responses_are_what_is_documented(document, body):
    check_documented(document, "Response", post("/v1/responses", body))
    check_documented(document, "ResponseEvent", post("/v1/responses", {**body, "stream": True}))


def test_answers_of_completions_are_what_is_documented(document):
    body = {"prompt": ["It is", "a"], "n": 2, "logprobs": 2, "max_tokens": 4}
    check_documented(document, "Completion", post("/v1/completions", body))
    check_documented(document, "Completion", post("/v1/completions", {**body, "stream": True}))


def make_up_requests(mode, folder, *more):
    """Lets schemathesis ask; what became of each request, as its hooks tell."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{BASE}/openapi.json"),
        *("--header", f"Authorization: Bearer {KEY}"),
        *("--checks", ",".join(CHECKS)),
        *("--mode", mode),
        *("--request-timeout", "120"),
        *("--seed", "1", "--no-color"),
        *("--suppress-health-check", "all"),
        *more,
    ]
    tally = folder / "tally"
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": str(HOOKS),
        "PORTHOLE_TEST_MODEL": MODEL,
        "PORTHOLE_TEST_TALLY": str(tally),
    }
    run = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stdout[-20000:] + run.stderr[-5000:]
    # Had it asked nothing, it would have found nothing.
    assert "generated" in run.stdout, run.stdout[-3000:]
    return [json.loads(line) for line in tally.read_text().splitlines()]


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_nothing_that_the_document_allows_or_forbids_surprises(mode, tmp_path):
    """For a while, then it is enough; the seed is the same every time."""
    make_up_requests(mode, tmp_path, "--phases", "examples,coverage,fuzzing", "--max-time", str(SECONDS))


def test_most_requests_that_follow_the_document_are_answered(tmp_path, capsys):
    paths = [argument for path in ASKED for argument in ("--include-path", path)]
    examples = ("--phases", "fuzzing", "--max-examples", str(EXAMPLES))
    lines = make_up_requests("positive", tmp_path, *examples, *paths)
    for path in ASKED:
        of_path = [line for line in lines if line["path"] == path]
        statuses = Counter(line["status"] for line in of_path)
        reasons = Counter(line["why"] for line in of_path if "why" in line)
        with capsys.disabled():
            print(f"\n{path}: {dict(statuses)} {dict(reasons)}")
        assert statuses.total() >= EXAMPLES / 2, statuses
        assert statuses[200] >= ANSWERED * statuses.total(), (path, statuses, reasons)
