"""What /metrics tells, read by the parser of Prometheus's own client library."""

import re
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from support import MODEL, STORY, METRICS_URL, request, wait_until


def families():
    """The families by name; the parser refuses what OpenMetrics does not allow."""
    with urllib.request.urlopen(METRICS_URL, timeout=5) as response:
        assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        text = response.read().decode()
    found = list(text_string_to_metric_families(text))
    names = [family.name for family in found]
    assert len(names) == len(set(names)), "a family is told twice"
    return {family.name: family for family in found}


def value(name, **labels):
    """The value of a sample; `None` where it is not there."""
    for family in families().values():
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return None


def test_every_family_is_described():
    for name, family in families().items():
        assert re.match(r"(porthole_|process_|vllm:)", name), name
        assert family.documentation.endswith("."), name
        assert family.type in {"counter", "gauge", "histogram", "info"}, name


def test_an_answer_is_measured(client):
    def now():
        names = {
            "first": "porthole_time_to_first_token_seconds_count",
            "gaps": "porthole_inter_token_latency_seconds_count",
            "whole": "porthole_request_duration_seconds_count",
            "queued": "porthole_request_queue_time_seconds_count",
            "generated": "porthole_generation_tokens_total",
            "vllm": "vllm:generation_tokens_total",
        }
        label = lambda name: {"model_name": MODEL} if name.startswith("vllm") else {"model": MODEL}
        return {short: value(name, **label(name)) for short, name in names.items()}

    before = now()
    answer = client.chat.completions.create(**request(STORY))
    tokens = answer.usage.completion_tokens
    wait_until(lambda: now()["generated"] == before["generated"] + tokens, 10, "the tokens are counted")
    after = now()
    for name in ["first", "whole", "queued"]:
        assert after[name] == before[name] + 1, name
    # Some tokens say nothing by themselves, and the last one ends the answer.
    assert 0 < after["gaps"] - before["gaps"] <= tokens
    assert after["vllm"] == after["generated"]


def test_the_capacity_is_told(client):
    assert value("porthole_request_capacity", model=MODEL) >= 1
    assert value("porthole_replicas_up", model=MODEL) == 1
    assert value("porthole_load_ratio", model=MODEL) is not None
    assert value("process_resident_memory_bytes") > 1e6
