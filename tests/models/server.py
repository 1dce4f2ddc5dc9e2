"""The running server as the tests of this folder ask it: bytes as they come, comments included."""

import http.client
import json
import os
import socket
import time
import urllib.parse
import urllib.request

URL = urllib.parse.urlsplit(os.environ["PORTHOLE_TEST_URL"])
METRICS_URL = os.environ["PORTHOLE_TEST_ADMIN_URL"] + "/metrics"
PATH = "/v1/chat/completions"
HEADERS = {"content-type": "application/json"}


def post(body):
    """The status and the JSON of an answer."""
    connection = http.client.HTTPConnection(URL.netloc, timeout=600)
    connection.request("POST", PATH, json.dumps(body), HEADERS)
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer


class Stream:
    """A streamed answer under way. Every event is decoded by itself: a character whose bytes were
    spread over two would not pass."""

    def __init__(self, body):
        self.connection = http.client.HTTPConnection(URL.netloc, timeout=600)
        asked = body | {"stream": True, "stream_options": {"include_usage": True}}
        self.connection.request("POST", PATH, json.dumps(asked), HEADERS)
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self.comments = 0
        self.text, self.pieces, self.finish_reason, self.usage, self.done = "", 0, None, None, False

    def __iter__(self):
        """Pieces of text, as they come."""
        for line in self.response:
            line = line.decode("utf-8").rstrip("\n")
            if line.startswith(":"):
                self.comments += 1
            elif line == "data: [DONE]":
                self.done = True
            elif line:
                assert line.startswith("data: "), line
                yield from self.take(json.loads(line.removeprefix("data: ")))
        self.connection.close()

    def take(self, chunk):
        assert not self.done and "error" not in chunk, chunk
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk["choices"]:
            assert self.finish_reason is None, chunk
            self.finish_reason = choice["finish_reason"]
            if text := choice["delta"].get("content"):
                self.text += text
                self.pieces += 1
                yield text

    def to_the_end(self):
        for _ in self:
            pass
        assert self.done
        return self

    def leave(self):
        """Goes away, as a client does whose window is closed."""
        self.connection.sock.shutdown(socket.SHUT_RDWR)
        self.response.close()
        self.connection.close()


def metric(name):
    """A metric's present value, over all models."""
    with urllib.request.urlopen(METRICS_URL, timeout=10) as response:
        lines = response.read().decode().splitlines()
    values = [float(line.split()[-1]) for line in lines if line.startswith((name + " ", name + "{"))]
    assert values, f"/metrics has no {name}"
    return sum(values)


def at_work():
    """Generations that run or wait."""
    return metric("porthole_requests_running") + metric("porthole_requests_waiting")


def wait_until(condition, seconds, what):
    """Polls until the condition holds; fails when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
