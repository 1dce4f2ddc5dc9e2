"""Traces, sent to collectors made of OpenTelemetry's published protocol definitions: over gRPC and over HTTP."""

import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from concurrent import futures

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from support import DEMO

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


class GrpcCollector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    protocol = "grpc"

    def __init__(self):
        self.requests = []
        self.server = grpc.server(futures.ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        self.url = f"http://127.0.0.1:{port}"
        self.server.start()

    def Export(self, request, context):  # noqa: N802, as the protocol calls it
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()

    def stop(self):
        self.server.stop(None)


class HttpCollector:
    """The same over HTTP."""

    protocol = "http"

    def __init__(self):
        self.requests = requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802, as http.server calls it
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.path == "/v1/traces"
                requests.append(trace_service_pb2.ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Server:
    """A server of its own that sends its traces to a collector."""

    def __init__(self, collector, folder):
        port, admin = free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        self.audit = folder / "audit.log"
        self.log = folder / "server.log"
        environment = {
            **os.environ,
            "PORTHOLE__SERVER__BIND": f"127.0.0.1:{port}",
            "PORTHOLE__SERVER__ADMIN_BIND": f"127.0.0.1:{admin}",
            "PORTHOLE__AUTH__ENABLED": "false",
            "PORTHOLE__LIMITS__STORE": "",
            "PORTHOLE__LOG__FORMAT": "json",
            "PORTHOLE__LOG__FILTER": "porthole=trace,info",
            "PORTHOLE__TELEMETRY__OTLP_ENDPOINT": collector.url,
            "PORTHOLE__TELEMETRY__OTLP_PROTOCOL": collector.protocol,
            "PORTHOLE__TELEMETRY__SERVICE_NAME": "under-test",
        }
        with open(self.audit, "wb") as out, open(self.log, "wb") as err:
            binary = os.environ["PORTHOLE_TEST_BINARY"]
            self.process = subprocess.Popen(
                [binary], env=environment, cwd=DEMO.parent.parent, stdout=out, stderr=err
            )

    def wait_until_ready(self):
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(self.url + "/ready", timeout=5).close()
                return
            except OSError:
                assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
                assert time.monotonic() < deadline, self.log.read_text(encoding="utf-8")
                time.sleep(0.2)

    def stop(self):
        """Ends it as an operator does, so that what is left is sent."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=60)


@pytest.fixture(params=[GrpcCollector, HttpCollector])
def traced(request, tmp_path):
    collector = request.param()
    server = Server(collector, tmp_path)
    try:
        server.wait_until_ready()
        yield server, collector
    finally:
        server.stop()
        collector.stop()


def attribute(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [attribute(each) for each in value.array_value.values]
    return getattr(value, kind)


def attributes(of):
    return {each.key: attribute(each.value) for each in of.attributes}


def test_an_answer_is_traced(traced):
    server, collector = traced
    body = {
        "model": "demo",
        "max_tokens": 8,
        "temperature": 0,
        "messages": [{"role": "user", "content": "CANARY, what are you able to do?"}],
    }
    ask = urllib.request.Request(
        server.url + "/v1/chat/completions?q=CANARY",
        json.dumps(body).encode(),
        {"content-type": "application/json", "traceparent": f"00-{TRACE}-{PARENT}-01"},
    )
    with urllib.request.urlopen(ask, timeout=60) as response:
        usage = json.load(response)["usage"]
        told = response.headers["traceparent"]
    server.stop()

    resources = [resource for request in collector.requests for resource in request.resource_spans]
    assert all(attributes(each.resource)["service.name"] == "under-test" for each in resources)
    spans = [span for each in resources for scope in each.scope_spans for span in scope.spans]
    mine = {span.name: span for span in spans if span.trace_id.hex() == TRACE}
    assert set(mine) == {"chat demo", "queue", "generate"}
    chat = mine["chat demo"]
    assert chat.parent_span_id.hex() == PARENT
    assert told == f"00-{TRACE}-{chat.span_id.hex()}-01"
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "porthole",
        "gen_ai.request.model": "demo",
        "gen_ai.response.model": "demo",
        "gen_ai.request.max_tokens": 8,
        "gen_ai.request.temperature": 0.0,
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
    }
    assert expected.items() <= attributes(chat).items()
    assert attributes(chat)["gen_ai.response.finish_reasons"] in (["stop"], ["length"])
    assert all(mine[name].parent_span_id == chat.span_id for name in ["queue", "generate"])
    assert [event.name for event in mine["generate"].events] == ["first_token"]

    sent = b"".join(request.SerializeToString() for request in collector.requests)
    assert b"chat demo" in sent and b"CANARY" not in sent
    lines = [json.loads(line) for line in server.audit.read_text(encoding="utf-8").splitlines()]
    assert [line["route"] for line in lines if line.get("trace_id") == TRACE] == ["/v1/chat/completions"]
    assert "CANARY" not in server.log.read_text(encoding="utf-8")
