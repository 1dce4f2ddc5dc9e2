"""The real thing: a server with TLS, Redis, an issuer and keys, and a Prometheus that scrapes it."""

import contextlib
import functools
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time

import requests
import trustme
import yaml
from support import BINARY, DEMO, PROMETHEUS, PROMETHEUS_DIR, REDIS_SERVER, ROOT, RULES

# Keys as an operator makes them, and what `porthole key create` is told.
KEYS = {
    "main": [],
    "brisk": ["--rpm", "2"],
    "spent": ["--tokens-per-month", "1"],
    "away": ["--networks", "203.0.113.0/24"],
}


def free_ports(count):
    """Ports that are free at the same time."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def running(arguments, log, **more):
    """A process that ends with the block; its log is shown where the block fails."""
    with log.open("wb") as out:
        process = subprocess.Popen(arguments, stdout=more.pop("stdout", out), stderr=out, **more)
    try:
        yield process
    except BaseException:
        print(f"--- {log.name} ---\n{log.read_text(encoding='utf-8', errors='replace')[-20000:]}")
        raise
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url, process, seconds=120, **more):
    """Returns when the URL answers 200."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the process behind {url} ended"
        with contextlib.suppress(requests.ConnectionError, requests.Timeout):
            if requests.get(url, timeout=5, **more).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"{url} was not ready in {seconds} s")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def web_server(folder):
    """A server of files, in this process."""
    handler = functools.partial(QuietHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


class Porthole:
    """A started server: where it is, its keys, and the files that it watches."""

    def __init__(self, work):
        self.work = work
        self.port, self.admin_port, self.redis_port = free_ports(3)
        self.url = f"https://127.0.0.1:{self.port}"
        self.admin_url = f"http://127.0.0.1:{self.admin_port}"
        self.certificate, self.key = work / "server.pem", work / "server.key"
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(work / "ca.pem")
        made = self.authority.issue_cert("127.0.0.1")
        made.private_key_pem.write_to_path(self.key)
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in made.cert_chain_pems))
        self.session = requests.Session()
        self.session.verify = str(work / "ca.pem")
        self.session.trust_env = False
        self.images_url = self.process = self.environment = None
        self.keys = {}

    def make_key(self, name, *limits):
        """A key as an operator makes it; a running server reads the file anew."""
        made = [BINARY, "key", "create", name, *limits]
        ran = subprocess.run(made, env=self.environment, cwd=ROOT, capture_output=True, text=True, check=True)
        self.keys[name] = ran.stdout.strip()

    def configured(self, images_port):
        issuer = {
            "issuer": "https://id.example.com",
            "audiences": ["porthole"],
            "jwks_url": f"http://127.0.0.1:{images_port}/jwks.json",
        }
        issuers = "[{" + ", ".join(f"{name} = {json.dumps(value)}" for name, value in issuer.items()) + "}]"
        return os.environ | {
            "PORTHOLE__SERVER__BIND": f"127.0.0.1:{self.port}",
            "PORTHOLE__SERVER__ADMIN_BIND": f"127.0.0.1:{self.admin_port}",
            "PORTHOLE__SERVER__TLS_CERTIFICATE": str(self.certificate),
            "PORTHOLE__SERVER__TLS_KEY": str(self.key),
            "PORTHOLE__AUTH__KEYS_FILE": str(self.work / "keys.toml"),
            "PORTHOLE__AUTH__ISSUERS": issuers,
            "PORTHOLE__LIMITS__STORE": str(self.work / "usage.redb"),
            "PORTHOLE__LIMITS__REDIS_URL": f"redis://127.0.0.1:{self.redis_port}",
            # Few may wait, so that some are refused.
            "PORTHOLE__LIMITS__MAX_QUEUE_LENGTH": "4",
            "PORTHOLE__IMAGES__ALLOW_PRIVATE_ADDRESSES": "true",
            "PORTHOLE__IMAGES__ALLOWED_PORTS": f"[{images_port}]",
        }

    @contextlib.contextmanager
    def started(self):
        files = self.work / "files"
        shutil.copytree(DEMO / "images", files)
        # A key set as an issuer publishes it; nobody here has the private half.
        key = {"kty": "OKP", "crv": "Ed25519", "kid": "1", "alg": "EdDSA", "use": "sig"}
        key["x"] = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
        (files / "jwks.json").write_text(json.dumps({"keys": [key]}), encoding="utf-8")
        redis = [
            REDIS_SERVER,
            "--port",
            str(self.redis_port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        with contextlib.ExitStack() as stack:
            images_port = stack.enter_context(web_server(files))
            self.images_url = f"http://127.0.0.1:{images_port}"
            stack.enter_context(running(redis, self.work / "redis.log", cwd=self.work))
            self.environment = self.configured(images_port)
            for name, limits in KEYS.items():
                self.make_key(name, *limits)
            audit = stack.enter_context((self.work / "audit.log").open("wb"))
            log = self.work / "porthole.log"
            self.process = stack.enter_context(running([BINARY], log, stdout=audit, env=self.environment, cwd=ROOT))
            wait_for(f"{self.url}/ready", self.process, verify=self.session.verify)
            yield self


class Prometheus:
    """A started Prometheus with the shipped configuration, but for the target and the pace."""

    def __init__(self, work, target):
        self.work = work
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        # Where it runs there are no names to look up; the job's name is what the rules know.
        job = config["scrape_configs"][0]["job_name"]
        config["scrape_configs"] = [{"job_name": job, "static_configs": [{"targets": [target]}]}]
        (work / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        groups = [{k: v for k, v in group.items() if k != "interval"} for group in RULES["groups"]]
        (work / "rules.yml").write_text(yaml.safe_dump({"groups": groups}), encoding="utf-8")
        self.arguments = [
            PROMETHEUS_DIR / "prometheus",
            f"--config.file={work / 'prometheus.yml'}",
            f"--storage.tsdb.path={work / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]

    @contextlib.contextmanager
    def started(self):
        with running(self.arguments, self.work / "prometheus.log") as process:
            wait_for(f"{self.url}/-/ready", process)
            yield self

    def get(self, path, **parameters):
        """What the API answers; its own words where it refuses."""
        response = requests.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30)
        answer = response.json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]

    def instant(self, expr):
        """[(labels, value)] now."""
        result = self.get("query", query=expr)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def over_time(self, expr, start, end, step=1):
        """[(labels, values)] from start to end, in seconds since the Unix epoch."""
        result = self.get("query_range", query=expr, start=start, end=end, step=step)["result"]
        return [(series["metric"], [float(value) for _, value in series["values"]]) for series in result]

    def total(self, expr):
        """The sum of what a query finds."""
        return sum(value for _, value in self.instant(expr))
