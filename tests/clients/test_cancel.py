"""A client that leaves takes its generation with it.

One story is over in a moment, so a test that only waits for the engine to be idle could not fail.
Each test asks for many stories, which wait for one another, and counts the tokens that were
generated in all: had they not been cancelled, it would be the tokens of all stories.
"""

import asyncio

import openai
import pytest

from support import CHAT, STORY, at_work, generated, metric, request, wait_until

STORIES = 24
ALL_TOKENS = STORIES * STORY["completion_tokens"]
# How long the engine may take to notice.
SOON = 2


@pytest.fixture(autouse=True)
def check_engine(client):
    """Before: idle. After: soon idle, few tokens spent, and the next answer right."""
    wait_until(lambda: at_work() == 0, 10, "an idle engine to begin with")
    before = generated()
    yield
    wait_until(lambda: at_work() == 0, SOON, "an idle engine after its clients left")
    # The count of a cancelled sequence is added before it leaves; it may be 0, where the clients
    # left while the first prompt was read.
    after = generated()
    assert after - before < ALL_TOKENS / 2, f"{after - before} of {ALL_TOKENS} tokens were generated"
    completion = client.chat.completions.create(**request(CHAT))
    assert completion.choices[0].message.content == CHAT["answer"]
    # And the counter does count.
    wait_until(lambda: at_work() == 0, SOON, "an idle engine after an answer")
    assert generated() - after == CHAT["completion_tokens"]


def has_text(chunk):
    return bool(chunk.choices and chunk.choices[0].delta.content)


def test_streams_closed_midway_are_not_generated_to_their_ends(client):
    for _ in range(STORIES):
        with client.chat.completions.create(**request(STORY, stream=True)) as stream:
            assert any(has_text(chunk) for chunk in stream)


def test_async_streams_closed_midway_are_not_generated_to_their_ends(make_async_client):
    async def begin(client):
        async with await client.chat.completions.create(**request(STORY, stream=True)) as stream:
            async for chunk in stream:
                if has_text(chunk):
                    return True
        return False

    async def begin_all():
        async with make_async_client() as client:
            return await asyncio.gather(*(begin(client) for _ in range(STORIES)))

    assert all(asyncio.run(begin_all()))


def test_plain_requests_cancelled_by_asyncio_are_not_generated(make_async_client):
    async def cancel_all():
        async with make_async_client() as client:
            tasks = [
                asyncio.create_task(client.chat.completions.create(**request(STORY))) for _ in range(STORIES)
            ]
            busy = lambda: metric("porthole_requests_running") >= 1 and at_work() >= STORIES / 2
            await asyncio.to_thread(wait_until, busy, 10, "a busy engine")
            for task in tasks:
                task.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(cancel_all())
    cancelled = [outcome for outcome in outcomes if isinstance(outcome, asyncio.CancelledError)]
    assert len(cancelled) > STORIES / 2


def test_plain_requests_timed_out_by_asyncio_are_not_generated(make_async_client):
    async def time_out():
        async with make_async_client() as client:
            stories = asyncio.gather(*(client.chat.completions.create(**request(STORY)) for _ in range(STORIES)))
            await asyncio.wait_for(stories, timeout=0.2)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(time_out())


def test_plain_requests_that_the_sdk_gives_up_on_are_not_generated(make_async_client):
    async def time_out():
        async with make_async_client() as client:
            impatient = client.with_options(timeout=0.2)
            stories = (impatient.chat.completions.create(**request(STORY)) for _ in range(STORIES))
            return await asyncio.gather(*stories, return_exceptions=True)

    outcomes = asyncio.run(time_out())
    given_up = [outcome for outcome in outcomes if isinstance(outcome, openai.APITimeoutError)]
    assert len(given_up) > STORIES / 2
