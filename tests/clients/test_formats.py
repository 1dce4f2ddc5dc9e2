"""Answers in JSON: whatever the model would rather say, what arrives is what the schema allows."""

import asyncio
import json

import jsonschema
import openai
import pytest

from forms import DRAWING, SCHEMAS, Drawing, Shop, closed
from support import CHAT, LISTING, STORY, request

# Room for the longest answer that a schema below allows.
ROOM = {"max_completion_tokens": 400}
every_schema = pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)


def strict(schema, name="answer"):
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}


def check(choice, schema):
    assert choice.finish_reason == "stop"
    assert choice.message.refusal is None
    jsonschema.validate(json.loads(choice.message.content), schema, jsonschema.Draft202012Validator)


@every_schema
@pytest.mark.parametrize("temperature", [0, 1.5])
def test_an_answer_is_what_its_schema_allows(client, schema, temperature):
    asked = {**request(CHAT, response_format=strict(schema), seed=1, **ROOM), "temperature": temperature}
    (choice,) = client.chat.completions.create(**asked).choices
    check(choice, schema)


@every_schema
def test_a_streamed_answer_is_what_its_schema_allows(client, schema):
    asked = {**request(STORY, response_format=strict(schema), seed=2, **ROOM), "temperature": 1}
    with client.chat.completions.stream(**asked) as stream:
        (choice,) = stream.get_final_completion().choices
    check(choice, schema)


def test_every_one_of_several_choices_is_what_the_schema_allows(client):
    schema = SCHEMAS["array"]
    asked = {**request(CHAT, response_format=strict(schema), n=3, seed=1, **ROOM), "temperature": 1.5}
    choices = client.chat.completions.create(**asked).choices
    assert len({choice.message.content for choice in choices}) > 1
    for choice in choices:
        check(choice, schema)


def test_schemas_at_the_same_time_are_not_mixed_up(make_async_client):
    async def ask():
        async with make_async_client() as client:
            asked = (request(CHAT, response_format=strict(schema), **ROOM) for schema in SCHEMAS.values())
            return await asyncio.gather(*(client.chat.completions.create(**each) for each in asked))

    for completion, schema in zip(asyncio.run(ask()), SCHEMAS.values(), strict=True):
        check(completion.choices[0], schema)


def test_a_schema_does_not_change_what_the_model_says_in_it_anyway(client):
    completion = client.chat.completions.parse(**request(LISTING), response_format=Drawing)
    assert completion.choices[0].message.parsed == DRAWING
    assert completion.usage.prompt_tokens == LISTING["prompt_tokens"]


def test_parse_gives_a_model_that_nobody_taught(client):
    completion = client.chat.completions.parse(**request(CHAT, **ROOM), response_format=Shop)
    (choice,) = completion.choices
    assert isinstance(choice.message.parsed, Shop)
    assert choice.message.refusal is None


def test_the_async_client_parses_too(make_async_client):
    async def ask():
        async with make_async_client() as client:
            return await client.chat.completions.parse(**request(LISTING), response_format=Drawing)

    assert asyncio.run(ask()).choices[0].message.parsed == DRAWING


def test_a_parsed_stream_grows_to_the_model(client):
    with client.chat.completions.stream(**request(LISTING), response_format=Drawing) as stream:
        events = list(stream)
        completion = stream.get_final_completion()
    grown = [event.parsed for event in events if event.type == "content.delta" and event.parsed]
    assert {"shape": DRAWING.shape} in grown
    (done,) = [event for event in events if event.type == "content.done"]
    assert done.parsed == DRAWING == completion.choices[0].message.parsed
    assert not [event for event in events if event.type.startswith("refusal")]


def test_an_async_parsed_stream_grows_to_the_model(make_async_client):
    async def read():
        async with make_async_client() as client:
            async with client.chat.completions.stream(**request(LISTING), response_format=Drawing) as stream:
                types = [event.type async for event in stream]
                return types, await stream.get_final_completion()

    types, completion = asyncio.run(read())
    assert types.count("content.done") == 1
    assert completion.choices[0].message.parsed == DRAWING


def test_what_is_cut_off_is_not_taken_for_the_whole(client):
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**request(LISTING, max_completion_tokens=4), response_format=Drawing)


def test_any_json_object_is_one(client):
    json_object = {"type": "json_object"}
    (choice,) = client.chat.completions.create(**request(LISTING, response_format=json_object)).choices
    assert json.loads(choice.message.content) == DRAWING.model_dump()
    assert choice.finish_reason == "stop"


def test_any_json_object_is_one_where_the_model_would_rather_talk(client):
    # It may go on until it is cut, but it cannot be anything but the beginning of an object.
    asked = {**request(CHAT, response_format={"type": "json_object"}, n=4, seed=1), "temperature": 1}
    for choice in client.chat.completions.create(**asked, max_completion_tokens=60).choices:
        assert choice.message.content.lstrip().startswith("{")
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)


def test_text_is_the_form_of_an_answer_that_has_none(client):
    completion = client.chat.completions.create(**request(CHAT, response_format={"type": "text"}))
    assert completion.choices[0].message.content == CHAT["answer"]


def test_a_stop_sequence_does_not_break_json_and_is_told_to_be_ignored(client):
    asked = request(LISTING, response_format={"type": "json_object"}, stop='"')
    raw = client.chat.completions.with_raw_response.create(**asked)
    assert raw.headers["x-porthole-ignored"] == "stop"
    assert json.loads(raw.parse().choices[0].message.content) == DRAWING.model_dump()


def test_logprobs_of_json_spell_it(client):
    asked = request(LISTING, response_format=strict(SCHEMAS["enum"]), logprobs=True, top_logprobs=2)
    (choice,) = client.chat.completions.create(**asked).choices
    spelled = b"".join(bytes(entry.bytes) for entry in choice.logprobs.content).decode()
    assert spelled == choice.message.content


@pytest.mark.parametrize(
    ("response_format", "param"),
    [
        ({"type": "yaml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        (strict(SCHEMAS["enum"], name=""), "response_format.json_schema.name"),
        (strict(SCHEMAS["enum"], name="a b"), "response_format.json_schema.name"),
        (strict({"type": "strin"}), "response_format"),
        (strict({"type": "object", "properties": 5}), "response_format"),
        (strict(closed({"a": {"$ref": "#/$defs/none"}})), "response_format"),
        (strict(closed({"a": {"$ref": "https://example.com/schema.json"}})), "response_format"),
        (strict(closed({"a": {"type": "string", "pattern": "("}})), "response_format"),
        (strict(closed({"a": {"type": "integer", "minimum": 5, "maximum": 4}})), "response_format"),
    ],
    ids=["type", "missing", "no-name", "bad-name", "strin", "five", "no-ref", "remote-ref", "pattern", "empty"],
)
def test_a_schema_that_is_none_is_refused_by_name(client, response_format, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**request(CHAT, response_format=response_format))
    assert caught.value.param.startswith(param)
    assert caught.value.code
