import contextlib
import dataclasses
import time

import pytest
import traffic
from servers import Porthole, Prometheus, wait_for


@dataclasses.dataclass
class Scene:
    """What the tests look at: both servers after the traffic, and when that was."""

    porthole: Porthole
    prometheus: Prometheus
    statuses: dict
    start: float
    end: float


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    work = tmp_path_factory.mktemp("servers")
    with contextlib.ExitStack() as stack:
        porthole = stack.enter_context(Porthole(work).started())
        prometheus = stack.enter_context(Prometheus(work, f"127.0.0.1:{porthole.admin_port}").started())
        wait_for(f"{prometheus.url}/-/ready", porthole.process)
        start = time.time()
        # The first scrapes see the server before there is traffic, as in life.
        deadline = start + 60
        while prometheus.total("count_over_time(porthole_ready[1m])") < 3:
            assert time.time() < deadline, "Prometheus does not scrape"
            time.sleep(0.2)
        statuses = traffic.send(porthole)
        # Two scrapes later everything is there.
        time.sleep(3)
        yield Scene(porthole, prometheus, statuses, start, time.time())
