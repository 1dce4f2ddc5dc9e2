"""instructor on the OpenAI SDK, in each of its modes that the server can serve."""

import asyncio

import instructor
import pytest
from openai import AsyncOpenAI

from conftest import OPTIONS
from forms import DRAWING, Drawing, Shop
from support import CHAT, LISTING, MODEL, request

# How instructor asks for an object. Its plain JSON mode describes the object in words alone, which
# this model cannot read.
MODES = [instructor.Mode.JSON_SCHEMA, instructor.Mode.TOOLS]
every_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)


def asked(case, model):
    return {**request(case), "response_model": model, "max_retries": 0, "max_completion_tokens": 400}


@every_mode
def test_an_instance_is_what_its_model_allows(client, mode):
    patched = instructor.from_openai(client, mode=mode)
    drawing = patched.chat.completions.create(**asked(LISTING, Drawing))
    assert isinstance(drawing, Drawing)


def test_a_schema_does_not_change_what_the_model_says_anyway(client):
    patched = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
    drawing = patched.chat.completions.create(**asked(LISTING, Drawing))
    # instructor makes a class of its own from the one that it is given.
    assert drawing.model_dump() == DRAWING.model_dump()


def test_an_instance_comes_with_its_completion(client):
    patched = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
    shop, completion = patched.chat.completions.create_with_completion(**asked(CHAT, Shop))
    assert isinstance(shop, Shop)
    assert completion.usage.completion_tokens > 0


def test_the_responses_api_gives_an_instance_too(client):
    patched = instructor.from_openai(client, mode=instructor.Mode.RESPONSES_TOOLS)
    text = CHAT["messages"][0]["content"]
    more = {"temperature": 0, "max_retries": 0, "max_output_tokens": 400}
    drawing = patched.responses.create(model=MODEL, input=text, response_model=Drawing, **more)
    assert isinstance(drawing, Drawing)


def test_a_partial_instance_grows(client):
    patched = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
    grown = [partial.model_dump() for partial in patched.chat.completions.create_partial(**asked(LISTING, Drawing))]
    assert grown[-1] == DRAWING.model_dump()
    assert len(grown) > 2


def test_the_async_client_is_patched_too():
    async def ask():
        async with AsyncOpenAI(**OPTIONS) as client:
            patched = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
            return await patched.chat.completions.create(**asked(LISTING, Drawing))

    assert asyncio.run(ask()).model_dump() == DRAWING.model_dump()
