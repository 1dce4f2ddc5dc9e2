"""The container that downloads weights, run as it is against a hub of our own."""

import hashlib
import http.server
import json
import os
import subprocess
import threading

import pytest

from conftest import render

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"config.json": b'{"a": 1}', "model.safetensors": os.urandom(300_000), "old.bin": b"x" * 1000}


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's API that a download of a repository asks."""

    asked = []

    def answer(self, body, headers=(), send=True):
        self.send_response(200)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if send:
            self.wfile.write(body)

    def handle_any(self, send):
        path = self.path.partition("?")[0]
        self.asked.append(path)
        prefix = "/Qwen/Qwen3-VL-2B-Instruct/resolve/"
        tree = [
            {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
            for name, body in FILES.items()
        ]
        if path.startswith("/api/models/Qwen/Qwen3-VL-2B-Instruct/tree/"):
            self.answer(json.dumps(tree).encode(), [("Content-Type", "application/json")], send)
        elif path.startswith("/api/models/Qwen/Qwen3-VL-2B-Instruct"):
            siblings = [{"rfilename": name} for name in FILES]
            body = {"id": "Qwen/Qwen3-VL-2B-Instruct", "sha": COMMIT, "siblings": siblings, "tags": []}
            self.answer(json.dumps(body).encode(), [("Content-Type", "application/json")], send)
        elif path.startswith(prefix) and path.rsplit("/", 1)[1] in FILES:
            body = FILES[path.rsplit("/", 1)[1]]
            tag = f'"{hashlib.sha1(body).hexdigest()}"'
            self.answer(body, [("ETag", tag), ("X-Repo-Commit", COMMIT)], send)
        else:
            self.send_error(404)

    def do_GET(self):
        self.handle_any(True)

    def do_HEAD(self):
        self.handle_any(False)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    Hub.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_the_weights_are_downloaded_once_and_without_a_hub_nothing_is_missed(hub, tmp_path):
    (container,) = render("download").pod["initContainers"]
    env = {entry["name"]: entry.get("value", "none") for entry in container["env"]}
    target = tmp_path / env["TARGET"].lstrip("/")
    home = tmp_path / "home"
    home.mkdir()
    env |= {"TARGET": str(target), "HOME": str(home), "HF_HOME": str(home / "hf"), "HF_ENDPOINT": hub}
    # The index of this machine, where it has one of its own.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "PYTHON"))} | env

    def start(env):
        return subprocess.run([*container["command"], *container["args"]], env=env, capture_output=True, text=True, timeout=300)

    first = start(env)
    assert first.returncode == 0, first.stderr
    for name in ("config.json", "model.safetensors"):
        assert (target / name).read_bytes() == FILES[name]
    assert not (target / "old.bin").exists(), "weights in another format are left out"

    assert not (target / ".cache").exists()

    asked = len(Hub.asked)
    again = start(env | {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert again.returncode == 0 and "is there" in again.stdout, again.stderr
    assert len(Hub.asked) == asked

    # What is half there is not taken for the whole when the hub is away.
    other = env | {"TARGET": str(target.with_name("v2")), "REVISION": "v2"}
    part = target.with_name("v2.part")
    part.mkdir()
    (part / "config.json").write_bytes(FILES["config.json"])
    away = start(other | {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert away.returncode != 0 and not target.with_name("v2").exists(), away.stdout
    done = start(other)
    assert done.returncode == 0, done.stderr
    assert (target.with_name("v2") / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not part.exists()
