"""What schemathesis sends, made short: otherwise one made-up request could ask for 4,096 tokens.

Of a request that follows the document, what no schema can say is put right: that an image is one,
that a result answers a call, that what is chosen is there. Else nearly all would be refused for
these, and the rest of the server would not be seen. What became of each request is a line of JSON
in the file $PORTHOLE_TEST_TALLY."""

import base64
import json
import os
from pathlib import Path

import schemathesis

MODEL = os.environ["PORTHOLE_TEST_MODEL"]
MOST = 16
# The name of the limit in each body.
LIMITS = {
    "/v1/chat/completions": "max_completion_tokens",
    "/v1/completions": "max_tokens",
    "/v1/responses": "max_output_tokens",
}
IMAGE = next(Path(os.environ["PORTHOLE_TEST_DEMO"], "images").glob("*.png"))
PIXELS = base64.b64encode(IMAGE.read_bytes()).decode()
IMAGE_URL = f"data:image/png;base64,{PIXELS}"
# Any model has as many tokens.
VOCABULARY = 256


def bounded(tokens):
    """A wrong number of tokens stays wrong; a large one, or none, becomes a small one."""
    large = tokens is None or (isinstance(tokens, (int, float)) and tokens > MOST)
    return MOST if large else tokens


def short(body, limit):
    """At most two answers of a few tokens; the older name of the limit may stand beside the newer."""
    named = [name for name in ("max_tokens", "max_completion_tokens", limit) if name in body]
    tokens = bounded(body[named[0]]) if named else MOST
    body = {**body, **dict.fromkeys(named or [limit], tokens)}
    if isinstance(body.get("n"), (int, float)) and 2 < body["n"] <= 16:
        body["n"] = 2
    return body


def objects(value):
    """All objects in `value`, the outer ones first."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects(inner)


def put_right(body):
    for each in objects([body.get("messages"), body.get("input"), body.get("inputs")]):
        if isinstance(each.get("image_url"), dict):
            each["image_url"]["url"] = IMAGE_URL
        elif "image_url" in each:
            each["image_url"] = IMAGE_URL
        elif "data" in each and "mime_type" in each:
            each["data"] = PIXELS
    for sampling in (body, body.get("parameters") or {}):
        if sampling.get("logit_bias"):
            sampling["logit_bias"] = {str(int(key) % VOCABULARY): bias for key, bias in sampling["logit_bias"].items()}
    put_right_tools(body)
    put_right_prompt(body)


def put_right_tools(body):
    """Tools have names of their own, one that is chosen is there, and results answer calls."""
    tools = [each.get("function", each) for each in body.get("tools") or []]
    for i, each in enumerate(tools):
        each["name"] = f"{each['name'][:60]}_{i}"
    if isinstance(body.get("tool_choice"), dict):
        for each in objects(body["tool_choice"]):
            if "name" in each:
                each["name"] = tools[0]["name"]
    messages = body.get("messages") or []
    for message in [each for each in messages if each["role"] == "tool"]:
        call = {"id": message["tool_call_id"], "type": "function", "function": {"name": "f", "arguments": "{}"}}
        messages.insert(messages.index(message), {"role": "assistant", "tool_calls": [call]})
    items = body.get("input") if isinstance(body.get("input"), list) else []
    for item in [each for each in items if each.get("type") == "function_call_output"]:
        call = {"type": "function_call", "call_id": item["call_id"], "name": "f", "arguments": "{}"}
        items.insert(items.index(item), call)


def put_right_prompt(body):
    """Prompts are not empty, tokens are the model's, and prompts times `n` no more than the bound of each."""
    prompt = body.get("prompt")
    # Many models begin a text with nothing of their own, so that none leaves nothing to go on from.
    if prompt == "":
        body["prompt"] = "a"
    if isinstance(prompt, list):
        prompt[:] = ["a" if each == "" else each for each in prompt]
        tokens = [each for each in [prompt, *prompt] if isinstance(each, list)]
        for ids in tokens:
            ids[:] = [each if isinstance(each, (str, list)) else int(each) % VOCABULARY for each in ids]
        body["n"] = None
    if body.get("best_of") is not None:
        body["best_of"] = body.get("n")


def mode(case):
    """`positive` where the request follows the document."""
    return case.meta.generation.mode.value if case.meta else None


@schemathesis.hook
def before_call(context, case, kwargs):
    path, body = case.operation.path, case.body
    if path.endswith(":predict"):
        case.path_parameters = {**(case.path_parameters or {}), "model": MODEL}
    if not isinstance(body, dict):
        return
    # Else nearly every request would be for a model that is not there.
    if isinstance(body.get("model"), str):
        body = {**body, "model": MODEL}
    if path in LIMITS:
        body = short(body, LIMITS[path])
    elif path.endswith(":predict") and isinstance(body.get("parameters", {}), dict):
        body = {**body, "parameters": short(body.get("parameters", {}), "max_tokens")}
    if mode(case) == "positive":
        body = json.loads(json.dumps(body))
        put_right(body)
    case.body = body


@schemathesis.hook
def after_call(context, case, response):
    line = {"path": case.operation.path, "mode": mode(case), "status": response.status_code}
    if response.status_code == 400:
        error = response.json()["error"]
        line["why"] = f"{error['code']} {error['param']}"
    with open(os.environ["PORTHOLE_TEST_TALLY"], "a") as tally:
        tally.write(json.dumps(line) + "\n")
