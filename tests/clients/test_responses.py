"""The Responses API, as the OpenAI SDK for Python asks for it and reads it."""

import asyncio
import json

import jsonschema
import openai
import pytest

from forms import DRAWING, SCHEMAS, Drawing, Shop
from support import CASES, CHAT, IMAGE_CASES, LISTING, MODEL, STORY, TOOL, TOOL_CALL, data_url, http_url, name

FLAT_TOOLS = [{"type": "function", "strict": False, **each["function"]} for each in TOOL["tools"]]


def turns(case, url_of=data_url):
    """A case's messages as input items."""
    images = iter(case["images"])

    def part(part, role):
        if part["type"] == "image":
            return {"type": "input_image", "image_url": url_of(next(images)), "detail": "auto"}
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part["text"]}

    return [
        {"role": turn["role"], "content": [part(p, turn["role"]) for p in turn["content"]]}
        if isinstance(turn["content"], list)
        else {"role": turn["role"], "content": turn["content"]}
        for turn in case["messages"]
    ]


def asked(case, **more):
    return {"model": MODEL, "input": turns(case), "temperature": 0, "store": False, **more}


def check_response(response, case):
    assert response.output_text == case["answer"]
    (message,) = response.output
    assert (message.type, message.role, message.status) == ("message", "assistant", "completed")
    assert message.id.startswith("msg_")
    assert response.id.startswith("resp_")
    assert (response.object, response.status, response.model) == ("response", "completed", MODEL)
    assert response.error is None and response.incomplete_details is None
    check_usage(response.usage, case)


def check_usage(usage, case):
    assert usage.input_tokens == case["prompt_tokens"]
    assert usage.output_tokens == case["completion_tokens"]
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.output_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize("case", CASES, ids=name)
def test_a_response_is_the_reference(client, case):
    check_response(client.responses.create(**asked(case)), case)


def test_a_string_is_a_users_turn(client):
    text = CHAT["messages"][0]["content"]
    check_response(client.responses.create(**asked(CHAT, input=text)), CHAT)


def test_an_image_may_be_behind_a_url(client):
    case = IMAGE_CASES[0]
    check_response(client.responses.create(**asked(case, input=turns(case, http_url))), case)


def test_the_async_client_gets_all_responses_at_once_and_none_mixed_up(make_async_client):
    async def ask():
        async with make_async_client() as client:
            return await asyncio.gather(*(client.responses.create(**asked(case)) for case in CASES))

    for case, response in zip(CASES, asyncio.run(ask()), strict=True):
        check_response(response, case)


def check_events(events, case):
    """The events of an answer that is one text, in the order that is promised."""
    assert [event.sequence_number for event in events] == list(range(len(events)))
    types = [event.type for event in events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert types == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * len(deltas),
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert "".join(deltas) == case["answer"]
    (done,) = [event for event in events if event.type == "response.output_text.done"]
    assert done.text == case["answer"]
    assert len({event.item_id for event in events if "output_text" in event.type}) == 1
    assert events[0].response.status == "in_progress"
    assert events[0].response.id == events[-1].response.id
    check_response(events[-1].response, case)


@pytest.mark.parametrize("case", [CHAT, STORY, IMAGE_CASES[0]], ids=name)
def test_a_streamed_response_is_the_reference(client, case):
    with client.responses.create(**asked(case), stream=True) as stream:
        check_events(list(stream), case)


def test_the_stream_helper_puts_the_response_together(client):
    with client.responses.stream(**asked(STORY)) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        response = stream.get_final_response()
    assert len(deltas) > 10
    check_response(response, STORY)


def test_an_async_stream_is_the_reference(make_async_client):
    async def read():
        async with make_async_client() as client:
            stream = await client.responses.create(**asked(STORY), stream=True)
            return [event async for event in stream]

    check_events(asyncio.run(read()), STORY)


def test_parse_gives_a_model(client):
    response = client.responses.parse(**asked(LISTING), text_format=Drawing)
    assert response.output_parsed == DRAWING
    told = client.responses.parse(**asked(CHAT, max_output_tokens=400), text_format=Shop)
    assert isinstance(told.output_parsed, Shop)


def test_a_parsed_stream_ends_in_a_model(client):
    with client.responses.stream(**asked(LISTING), text_format=Drawing) as stream:
        assert stream.get_final_response().output_parsed == DRAWING


@pytest.mark.parametrize("schema", ["enum", "array", "any_of", "ref"])
def test_a_response_is_what_its_schema_allows(client, schema):
    text = {"format": {"type": "json_schema", "name": "answer", "schema": SCHEMAS[schema], "strict": True}}
    response = client.responses.create(**asked(CHAT, text=text, max_output_tokens=400))
    assert response.status == "completed"
    jsonschema.validate(json.loads(response.output_text), SCHEMAS[schema])


def test_any_json_object_is_one(client):
    response = client.responses.create(**asked(LISTING, text={"format": {"type": "json_object"}}))
    assert json.loads(response.output_text) == DRAWING.model_dump()


def called(response):
    (call,) = [item for item in response.output if item.type == "function_call"]
    assert call.call_id and call.status == "completed"
    assert {"name": call.name, "arguments": json.loads(call.arguments)} == TOOL_CALL
    return call


def test_the_model_calls_a_tool_and_answers_with_its_result(client):
    items = turns(TOOL)
    response = client.responses.create(**asked(TOOL, input=items, tools=FLAT_TOOLS))
    call = called(response)
    assert response.usage.input_tokens == TOOL["prompt_tokens"]
    items += response.output
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": '{"stock": 7}'})
    answer = client.responses.create(**asked(TOOL, input=items, tools=FLAT_TOOLS))
    assert answer.output_text
    assert [item.type for item in answer.output] == ["message"]


def test_a_result_may_show_an_image(client):
    case = IMAGE_CASES[0]
    call = {"type": "function_call", "call_id": "call_1", "name": "check_stock", "arguments": '{"item":"star"}'}

    def tokens(*output):
        result = {"type": "function_call_output", "call_id": "call_1", "output": list(output)}
        items = [*turns(TOOL), call, result]
        return client.responses.create(**asked(TOOL, input=items, max_output_tokens=16)).usage.input_tokens

    words = {"type": "input_text", "text": "seven"}
    image = {"type": "input_image", "image_url": data_url(case["images"][0])}
    ((t, h, w),) = case["image_grid_thw"]
    # An image has a start and an end beside its own tokens.
    assert tokens(words, image) - tokens(words) == t * h * w // 4 + 2


def test_a_streamed_call_comes_in_deltas(client):
    with client.responses.stream(**asked(TOOL, tools=FLAT_TOOLS)) as stream:
        events = list(stream)
        response = stream.get_final_response()
    call = called(response)
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    (done,) = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert len(deltas) > 1
    assert "".join(deltas) == done.arguments == call.arguments
    assert [event.type for event in events].count("response.output_item.added") == 1


@pytest.mark.parametrize(
    "choice",
    ["required", {"type": "function", "name": "check_stock"}],
    ids=["required", "named"],
)
def test_a_model_that_must_call_does(client, choice):
    response = client.responses.create(**asked(CHAT, tools=FLAT_TOOLS, tool_choice=choice, max_output_tokens=200))
    assert {item.name for item in response.output if item.type == "function_call"} == {"check_stock"}


def test_instructions_become_part_of_the_prompt(client):
    response = client.responses.create(**asked(CHAT, instructions="Be brief."))
    assert response.usage.input_tokens > CHAT["prompt_tokens"]
    assert response.instructions == "Be brief."


def test_an_answer_can_be_sent_back_as_the_sdk_returned_it(client):
    first = client.responses.create(**asked(CHAT))
    items = [*turns(CHAT), *first.output, *turns(CHAT)]
    again = client.responses.create(**asked(CHAT, input=items))
    assert again.usage.input_tokens > 2 * CHAT["prompt_tokens"]
    assert again.status == "completed"


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_limit_of_tokens_makes_a_response_incomplete(client, stream):
    more = asked(STORY, max_output_tokens=16)
    if stream:
        with client.responses.create(**more, stream=True) as events:
            last = list(events)[-1]
        assert last.type == "response.incomplete"
        response = last.response
    else:
        response = client.responses.create(**more)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"
    assert STORY["answer"].startswith(response.output_text)
    assert response.usage.output_tokens == 16


def test_logprobs_spell_the_answer(client):
    more = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    response = client.responses.create(**asked(CHAT, **more))
    (part,) = response.output[0].content
    assert b"".join(bytes(entry.bytes) for entry in part.logprobs).decode() == CHAT["answer"]
    assert all(len(entry.top_logprobs) == 2 for entry in part.logprobs)


def test_what_was_sent_is_told_back(client):
    more = {"metadata": {"order": "12"}, "top_p": 0.5, "parallel_tool_calls": False, "max_output_tokens": 99}
    response = client.responses.create(**asked(CHAT, **more))
    assert {field: getattr(response, field) for field in more} == more
    assert response.temperature == 0
    assert response.tools == [] and response.tool_choice == "auto"


def test_fields_that_cannot_change_the_answer_are_named_in_a_header(client):
    raw = client.responses.with_raw_response.create(**asked(CHAT, user="someone", store=True))
    assert {"user", "store"} <= set(raw.headers["x-porthole-ignored"].split(", "))
    assert raw.headers["x-request-id"].startswith("req_")
    check_response(raw.parse(), CHAT)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].id"),
        ({"input": []}, "input"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "strin"}}}}, "text.format"),
        ({"extra_body": {"temprature": 0}}, "temprature"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_what_the_server_cannot_do_is_refused_by_name(client, more, param, stream):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{**asked(CHAT), **more}, stream=stream)
    assert caught.value.param.startswith(param)
    assert caught.value.code


def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.responses.create(**{**asked(CHAT), "model": "gpt-0"})
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
