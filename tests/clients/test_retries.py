"""A server that has too much to do says so, and the SDK waits and is served."""

import asyncio

import openai

from support import CHAT, request

# More than the hundred that run.sh lets a single caller have in the queue.
CROWD = 150


def one_token(client):
    return client.chat.completions.create(**request(CHAT, max_completion_tokens=1))


def test_a_full_queue_is_told_with_the_time_to_wait(make_async_client):
    async def ask():
        async with make_async_client() as client:
            return await asyncio.gather(*(one_token(client) for _ in range(CROWD)), return_exceptions=True)

    outcomes = asyncio.run(ask())
    refused = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert 0 < len(refused) < CROWD
    for error in refused:
        assert isinstance(error, openai.InternalServerError), repr(error)
        assert (error.status_code, error.code) == (503, "overloaded")
        assert 0 < int(error.response.headers["retry-after"]) < 120
        assert int(error.response.headers["retry-after-ms"]) > 0
        assert error.request_id


def test_the_sdk_waits_for_a_full_queue_and_everybody_is_served(make_async_client):
    async def ask():
        async with make_async_client() as client:
            patient = client.with_options(max_retries=10)
            return await asyncio.gather(*(one_token(patient) for _ in range(CROWD)))

    completions = asyncio.run(ask())
    assert [completion.usage.completion_tokens for completion in completions] == [1] * CROWD
