"""What the tests share: the demo model's reference answers, spelled as requests, and the metrics."""

import base64
import json
import os
import time
import urllib.request
from pathlib import Path

URL = os.environ["PORTHOLE_TEST_URL"] + "/v1"
IMAGES_URL = os.environ["PORTHOLE_TEST_IMAGES_URL"]
METRICS_URL = os.environ["PORTHOLE_TEST_ADMIN_URL"] + "/metrics"
KEY = os.environ["PORTHOLE_TEST_KEY"]
DEMO = Path(os.environ["PORTHOLE_TEST_DEMO"])
MODEL = "demo"

# Where the two best tokens are as close as this, rounding decides, which differs between machines.
CLOSE = 0.2

_ALL = json.loads((DEMO / "reference.json").read_text(encoding="utf-8"))["cases"]
CASES = [case for case in _ALL if not case["tools"] and case["smallest_logit_margin"] >= CLOSE]
IMAGE_CASES = [case for case in CASES if case["images"]]
STORY = next(case for case in CASES if case["type"] == "story")
CHAT = next(case for case in CASES if case["type"] == "chat")
LISTING = next(case for case in CASES if case["type"] == "json")
# Asked with its tools, the model calls one of them.
TOOL = next(case for case in _ALL if case["tools"])
TOOL_CALL = {"name": "check_stock", "arguments": {"item": "blue circle"}}
assert json.dumps(TOOL_CALL) in TOOL["answer"]


def name(case):
    """A case's name in the output of the tests."""
    return f"{case['id']}-{case['type']}-{case['lang']}"


def data_url(image, data=None):
    """An image of the reference, or other bytes under its type, as a data: URL."""
    data = (DEMO / image).read_bytes() if data is None else data
    kind = "jpeg" if image.endswith(".jpg") else "png"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def http_url(image):
    """The same image on the local web server."""
    return f"{IMAGES_URL}/{Path(image).name}"


def messages(case, url_of=data_url):
    """A case's messages with its images filled in, in order."""
    images = iter(case["images"])

    def part(part):
        if part["type"] == "image":
            return {"type": "image_url", "image_url": {"url": url_of(next(images))}}
        return part

    return [
        {**message, "content": [part(p) for p in message["content"]]}
        if isinstance(message["content"], list)
        else message
        for message in case["messages"]
    ]


def request(case, url_of=data_url, **more):
    """The arguments of a call that asks for a case's answer."""
    return {"model": MODEL, "messages": messages(case, url_of), "temperature": 0, **more}


def tool(function_name, description="", parameters=None):
    """A function as `tools` takes it; without parameters it has the one that the model learned."""
    item = {"type": "object", "properties": {"item": {"type": "string", "maxLength": 20}}, "required": ["item"]}
    function = {"name": function_name, "description": description, "parameters": parameters or item}
    return {"type": "function", "function": function}


def token_id(text):
    """The model's token that says exactly this."""
    return json.loads((DEMO / "vocab.json").read_text(encoding="utf-8"))[text.replace(" ", "\u0120")]


def with_image(url, text="What is it?"):
    """The arguments of a call that shows one image."""
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return {"model": MODEL, "messages": [{"role": "user", "content": content}]}


def dry_run(client, **arguments):
    """What a call would cost, told without making it."""
    headers = {"x-porthole-dry-run": "true"}
    return client.chat.completions.with_raw_response.create(**arguments, extra_headers=headers).http_response.json()


def metric(metric_name):
    """A metric's present value, over all its labels."""
    with urllib.request.urlopen(METRICS_URL, timeout=5) as response:
        lines = response.read().decode().splitlines()
    values = [float(line.split()[-1]) for line in lines if line.startswith((metric_name + " ", metric_name + "{"))]
    assert values, f"/metrics has no {metric_name}"
    return sum(values)


def at_work():
    """Generations that run or wait."""
    return metric('porthole_requests_running{model="demo"}') + metric('porthole_requests_waiting{model="demo"}')


def generated():
    """Tokens generated since the start."""
    return metric('porthole_generation_tokens_total{model="demo"}')


def wait_until(condition, seconds, what):
    """Polls until the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)
