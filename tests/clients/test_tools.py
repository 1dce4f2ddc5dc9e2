"""Tools: calls as the OpenAI SDK for Python reads them, and conversations that contain them."""

import asyncio
import json
from typing import Annotated, Literal

import jsonschema
import openai
import pytest
from openai import pydantic_function_tool
from pydantic import BaseModel, Field

from support import CHAT, IMAGE_CASES, TOOL, TOOL_CALL, data_url, request, tool

TOOLS = TOOL["tools"]
SHOP = [tool("get_price"), tool("lookup_product"), tool("check_stock")]
NAMES = [each["function"]["name"] for each in SHOP]


class CheckStock(BaseModel):
    item: str = Field(max_length=20)


class Order(BaseModel):
    """Nothing that the model ever saw."""

    color: Literal["red", "blue"]
    counts: list[Annotated[int, Field(ge=1, le=9)]] = Field(min_length=1, max_length=2)
    gift: bool | None


def asked(tools=TOOLS, **more):
    return request(TOOL, tools=tools, max_completion_tokens=200, **more)


def called(call):
    return {"name": call.function.name, "arguments": json.loads(call.function.arguments)}


def check_call(choice):
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert call.id.startswith("call_")
    assert called(call) == TOOL_CALL
    assert choice.message.content is None
    assert choice.finish_reason == "tool_calls"


def test_the_model_calls_a_tool(client):
    completion = client.chat.completions.create(**asked())
    check_call(completion.choices[0])
    assert completion.usage.prompt_tokens == TOOL["prompt_tokens"]
    assert completion.usage.completion_tokens == TOOL["completion_tokens"]


def test_a_streamed_call_comes_in_deltas(client):
    more = {"stream": True, "stream_options": {"include_usage": True}}
    with client.chat.completions.create(**asked(**more)) as stream:
        *chunks, last = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert not any(chunk.choices[0].delta.content for chunk in chunks)
    first, *others = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert (first.index, first.type, first.function.name) == (0, "function", TOOL_CALL["name"])
    assert first.id.startswith("call_")
    assert len(others) > 1
    for call in others:
        assert (call.index, call.id, call.function.name) == (0, None, None)
    arguments = "".join(call.function.arguments or "" for call in [first, *others])
    assert json.loads(arguments) == TOOL_CALL["arguments"]
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons == [None] * (len(chunks) - 1) + ["tool_calls"]
    assert last.usage.completion_tokens == TOOL["completion_tokens"]


def test_the_stream_helper_tells_of_arguments_as_they_grow(client):
    tools = [pydantic_function_tool(CheckStock, name="check_stock")]
    with client.chat.completions.stream(**asked(tools)) as stream:
        events = list(stream)
        completion = stream.get_final_completion()
    deltas = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    assert deltas and {event.name for event in deltas} == {"check_stock"}
    (done,) = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert "".join(event.arguments_delta for event in deltas) == done.arguments
    assert isinstance(done.parsed_arguments, CheckStock)
    assert completion.choices[0].message.tool_calls[0].function.parsed_arguments == done.parsed_arguments


def test_the_async_client_gets_calls_too(make_async_client):
    async def ask():
        async with make_async_client() as client:
            return await asyncio.gather(*(client.chat.completions.create(**asked()) for _ in range(4)))

    for completion in asyncio.run(ask()):
        check_call(completion.choices[0])


def test_each_of_several_choices_may_call(client):
    completion = client.chat.completions.create(**asked(n=2))
    for choice in completion.choices:
        check_call(choice)
    assert len({choice.message.tool_calls[0].id for choice in completion.choices}) == 2


def test_a_tool_loop_ends_in_an_answer(client):
    messages = asked()["messages"]
    for _ in range(4):
        message = client.chat.completions.create(**{**asked(SHOP), "messages": messages}).choices[0].message
        messages.append(message)
        if not message.tool_calls:
            break
        for call in message.tool_calls:
            messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps({"stock": 7})})
    roles = [turn["role"] if isinstance(turn, dict) else turn.role for turn in messages]
    assert roles == ["user", "assistant", "tool", "assistant"]
    assert messages[-1].content


def with_result(content, call_id="call_1", **more):
    """A conversation in which the model called a tool, and what it gave."""
    function = {"name": "check_stock", "arguments": '{"item": "blue circle"}'}
    call = {"id": "call_1", "type": "function", "function": function}
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call_id, "content": content},
    ]
    return {**asked(), "messages": [*asked()["messages"], *turns], **more}


def test_a_tool_may_show_an_image(client):
    case = IMAGE_CASES[0]
    shown = {"type": "image_url", "image_url": {"url": data_url(case["images"][0])}}
    words = [{"type": "text", "text": '{"stock": 7}'}]
    without = client.chat.completions.create(**with_result(words, tool_choice="none"))
    beside = client.chat.completions.create(**with_result([*words, shown], tool_choice="none"))
    ((t, h, w),) = case["image_grid_thw"]
    more = beside.usage.prompt_tokens_details.image_tokens - without.usage.prompt_tokens_details.image_tokens
    assert more == t * h * w // 4
    assert beside.choices[0].message.content


def test_the_result_of_a_call_nobody_made_is_refused(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**with_result("{}", call_id="call_2"))
    assert caught.value.param == "messages[2].tool_call_id"


def test_a_model_that_must_not_call_does_not_and_still_sees_its_tools(client):
    completion = client.chat.completions.create(**asked(tool_choice="none"))
    (choice,) = completion.choices
    assert not choice.message.tool_calls
    assert choice.message.content
    assert choice.finish_reason == "stop"
    assert completion.usage.prompt_tokens == TOOL["prompt_tokens"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_model_that_must_call_does_so_where_it_would_rather_talk(client, stream):
    more = {"tools": SHOP, "tool_choice": "required", "max_completion_tokens": 300, "parallel_tool_calls": False}
    if stream:
        with client.chat.completions.stream(**request(CHAT, **more)) as streamed:
            (choice,) = streamed.get_final_completion().choices
    else:
        (choice,) = client.chat.completions.create(**request(CHAT, **more)).choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert called(call)["name"] in NAMES
    jsonschema.validate(called(call)["arguments"], SHOP[0]["function"]["parameters"])
    assert not choice.message.content


@pytest.mark.parametrize("name", NAMES)
def test_a_tool_that_is_named_is_called(client, name):
    choice = {"type": "function", "function": {"name": name}}
    message = client.chat.completions.create(**asked(SHOP, tool_choice=choice)).choices[0].message
    assert {called(call)["name"] for call in message.tool_calls} == {name}


@pytest.mark.parametrize("name", NAMES)
def test_only_allowed_tools_are_called(client, name):
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": name}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    completion = client.chat.completions.create(**asked(SHOP, tool_choice=choice))
    assert {called(call)["name"] for call in completion.choices[0].message.tool_calls} == {name}


def test_arguments_are_what_the_tools_schema_allows(client):
    order = pydantic_function_tool(Order, name="place_order")
    choice = {"type": "function", "function": {"name": "place_order"}}
    more = {"tools": [order], "tool_choice": choice, "parallel_tool_calls": False, "temperature": 1.5, "seed": 3}
    completion = client.chat.completions.parse(**{**asked(), **more})
    (call,) = completion.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Order)


def test_a_tool_without_parameters_is_called_without_arguments(client):
    ping = {"type": "function", "function": {"name": "ping"}}
    completion = client.chat.completions.create(**asked([ping], tool_choice="required", parallel_tool_calls=False))
    assert [called(call) for call in completion.choices[0].message.tool_calls] == [{"name": "ping", "arguments": {}}]


def test_a_tool_that_is_not_needed_leaves_the_answer_alone(client):
    color = next(case for case in IMAGE_CASES if case["type"] == "color")
    (choice,) = client.chat.completions.create(**request(color, tools=TOOLS, max_completion_tokens=60)).choices
    assert choice.message.tool_calls is None
    assert choice.message.content == color["answer"]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [tool("f"), tool("f")]}, "tools[1]"),
        ({"tools": [tool("a b")]}, "tools[0].function.name"),
        ({"tools": [tool("f", parameters={"type": "strin"})]}, "tools[0].function.parameters"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tools": SHOP, "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": SHOP, "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"functions": [{"name": "f", "parameters": {}}]}, "functions"),
    ],
    ids=["twice", "name", "schema", "custom", "hosted", "choice", "unknown", "none", "functions"],
)
def test_a_tool_that_cannot_be_called_is_refused_by_name(client, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**request(CHAT, **more))
    assert caught.value.param.startswith(param)
    assert caught.value.code
