"""LangChain's ChatOpenAI, pointed at the server and otherwise as its documentation has it."""

import asyncio
import json

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from forms import DRAWING, Drawing
from support import CASES, CHAT, IMAGE_CASES, KEY, LISTING, MODEL, STORY, TOOL, TOOL_CALL, URL, messages, name

SETTINGS = {"model": MODEL, "base_url": URL, "api_key": KEY, "temperature": 0, "max_retries": 0, "timeout": 60}


@pytest.fixture(params=[False, True], ids=["chat", "responses"])
def llm(request):
    return ChatOpenAI(**SETTINGS, use_responses_api=request.param)


@tool
def check_stock(item: str) -> str:
    """Check the stock of an item."""
    return json.dumps({"stock": 7})


def turns(case):
    kinds = {"user": HumanMessage, "assistant": AIMessage, "system": SystemMessage}
    return [kinds[turn["role"]](content=turn["content"]) for turn in messages(case)]


@pytest.mark.parametrize("case", [CHAT, STORY, *IMAGE_CASES[:4]], ids=name)
def test_an_answer_is_the_reference(llm, case):
    answer = llm.invoke(turns(case))
    assert answer.text == case["answer"]
    assert answer.usage_metadata["input_tokens"] == case["prompt_tokens"]
    assert answer.usage_metadata["output_tokens"] == case["completion_tokens"]


def test_a_standard_image_block_is_shown(llm):
    case = LISTING
    url = messages(case)[0]["content"][0]["image_url"]["url"]
    kind, data = url.removeprefix("data:").split(";base64,")
    image = {"type": "image", "base64": data, "mime_type": kind}
    answer = llm.invoke([HumanMessage(content=[image, *messages(case)[0]["content"][1:]])])
    assert json.loads(answer.text) == DRAWING.model_dump()
    assert answer.usage_metadata["input_tokens"] == case["prompt_tokens"]


def test_a_stream_is_the_reference(llm):
    chunks = list(llm.stream(turns(STORY)))
    assert "".join(chunk.text for chunk in chunks) == STORY["answer"]
    assert len(chunks) > 10


def test_answers_asked_for_at_once_are_not_mixed_up(llm):
    answers = asyncio.run(llm.abatch([turns(case) for case in CASES[:8]]))
    assert [answer.text for answer in answers] == [case["answer"] for case in CASES[:8]]


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_structured_output_is_an_instance(llm, method):
    structured = llm.with_structured_output(Drawing, method=method)
    if method == "function_calling":
        # The tool is forced upon a model that never saw it: any instance will do.
        assert isinstance(structured.invoke(turns(LISTING)), Drawing)
    else:
        assert structured.invoke(turns(LISTING)) == DRAWING


def test_bound_tools_are_called_and_their_results_answered(llm):
    with_tools = llm.bind_tools([check_stock])
    conversation = turns(TOOL)
    answer = with_tools.invoke(conversation)
    (call,) = answer.tool_calls
    assert {"name": call["name"], "arguments": call["args"]} == TOOL_CALL
    result = check_stock.invoke(call)
    assert isinstance(result, ToolMessage)
    final = with_tools.invoke([*conversation, answer, result])
    assert final.text and not final.tool_calls


def test_streamed_calls_are_put_together(llm):
    whole = None
    for chunk in llm.bind_tools([check_stock]).stream(turns(TOOL)):
        whole = chunk if whole is None else whole + chunk
    (call,) = whole.tool_calls
    assert {"name": call["name"], "arguments": call["args"]} == TOOL_CALL


def test_a_tool_can_be_forced(llm):
    forced = llm.bind_tools([check_stock], tool_choice="check_stock").bind(max_tokens=200)
    answer = forced.invoke(turns(CHAT))
    assert {call["name"] for call in answer.tool_calls} == {"check_stock"}
