"""Standard output has audit lines and nothing else, whatever the engine prints while it loads."""

import json
import os
from pathlib import Path

from server import post, wait_until


def test_every_line_of_stdout_is_an_audit_line():
    audit = Path(os.environ["PORTHOLE_TEST_AUDIT"])
    body = {"model": "smollm2", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    assert post(body)[0] == 200

    def lines():
        return audit.read_text().splitlines()

    def asked():
        return sum('"model":"smollm2"' in line for line in lines())

    wait_until(lambda: asked() >= 1, 10, "an audit line")
    for line in lines():
        assert {"time", "request_id", "route", "status"} <= json.loads(line).keys(), line
