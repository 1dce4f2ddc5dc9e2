"""What the SDK makes of the doors: credentials, limits, tokens for frontends."""

import os
import threading
import time

import openai
import pytest
from openai import OpenAI

from conftest import OPTIONS
from support import CHAT, IMAGES_URL, STORY, metric, request, wait_until


def client_of(name, **options):
    key = os.environ[f"PORTHOLE_TEST_{name}_KEY"]
    return OpenAI(**{**OPTIONS, "api_key": key, **options})


def refused(client, error, **body):
    with pytest.raises(error) as caught:
        client.chat.completions.create(**{**request(CHAT), **body})
    return caught.value


@pytest.mark.parametrize("key", ["none", "pk-" + "A" * 43, "pk-CANARYKEY", os.environ["PORTHOLE_TEST_REVOKED_KEY"]])
def test_a_stranger_is_an_authentication_error(key):
    error = refused(OpenAI(**{**OPTIONS, "api_key": key}), openai.AuthenticationError)
    assert (error.code, error.type) == ("invalid_api_key", "authentication_error")
    assert error.response.headers["www-authenticate"].startswith("Bearer")
    assert error.request_id


def test_a_model_that_is_not_for_the_key_is_not_found():
    error = refused(client_of("OTHER"), openai.NotFoundError)
    assert error.code == "model_not_found"
    assert client_of("OTHER").models.list().data == []


def test_a_key_from_the_wrong_network_is_denied():
    assert refused(client_of("AWAY"), openai.PermissionDeniedError).code == "not_from_here"


def test_limits_are_told_on_every_answer():
    raw = client_of("BRISK").chat.completions.with_raw_response.create(**request(CHAT))
    assert raw.headers["x-ratelimit-limit-tokens"] == "6000"
    assert 0 < int(raw.headers["x-ratelimit-remaining-tokens"]) <= 6000
    assert raw.headers["x-ratelimit-reset-tokens"].endswith("s")


def test_the_sdk_waits_as_long_as_it_is_told_and_succeeds():
    patient = client_of("BRISK", max_retries=2)
    before = metric_of_requests()
    # Thirty a minute at once, then one every two seconds: some are told to wait.
    asked = 36
    for _ in range(asked):
        answer = patient.chat.completions.create(**request(CHAT), max_completion_tokens=1)
        assert answer.usage.completion_tokens == 1
    wait_until(lambda: metric_of_requests() - before > asked, 5, "a request that was sent again")


def metric_of_requests():
    return metric("porthole_http_request_duration_seconds_count")


def test_one_at_a_time_means_the_second_waits_its_turn():
    single = client_of("SINGLE", max_retries=5)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(single.chat.completions.create(**request(CHAT))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.choices[0].message.content for r in results] == [CHAT["answer"]] * 3


def test_what_cannot_be_helped_by_waiting_is_not_retried():
    before = metric_of_requests()
    error = refused(client_of("SPENT", max_retries=5), openai.RateLimitError)
    assert error.code == "insufficient_quota"
    assert error.response.headers["x-should-retry"] == "false"
    wait_until(lambda: metric_of_requests() - before >= 1, 5, "the request to be counted")
    assert metric_of_requests() - before == 1


def test_a_frontend_token_works_in_place_of_a_key(client):
    wish = {"minutes": 5, "origin": "https://app.example.com", "limits": {"tokens_total": 5000}}
    minted = client.post("/tokens", body=wish, cast_to=object)
    assert minted["token_type"] == "Bearer"
    headers = {"Origin": "https://app.example.com"}
    frontend = OpenAI(**{**OPTIONS, "api_key": minted["token"], "default_headers": headers})
    stream = frontend.chat.completions.create(**request(CHAT), stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == CHAT["answer"]
    elsewhere = OpenAI(**{**OPTIONS, "api_key": minted["token"]})
    assert refused(elsewhere, openai.PermissionDeniedError).code == "not_from_here"


def test_prompts_and_queries_do_not_reach_the_logs(client):
    """The runner looks for CANARY in both logs afterwards."""
    content = [
        {"type": "text", "text": "CANARYPROMPT"},
        {"type": "image_url", "image_url": {"url": f"{IMAGES_URL}/none.png?CANARYQUERY"}},
    ]
    refused(client, openai.BadRequestError, messages=[{"role": "user", "content": content}])
    messages = [{"role": "user", "content": "CANARYPROMPT"}]
    client.chat.completions.create(**{**request(CHAT), "messages": messages, "user": "CANARYUSER"})
