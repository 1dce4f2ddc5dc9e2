"""LlamaIndex's OpenAILike, pointed at the server and otherwise as its documentation has it."""

import asyncio
import json
from pathlib import Path

import pytest
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

from forms import DRAWING, Drawing
from support import CASES, CHAT, DEMO, IMAGE_CASES, KEY, LISTING, MODEL, STORY, TOOL, TOOL_CALL, URL, http_url, name

SETTINGS = {
    "model": MODEL,
    "api_base": URL,
    "api_key": KEY,
    "temperature": 0,
    "max_retries": 0,
    "context_window": 4096,
    "is_chat_model": True,
    "is_function_calling_model": True,
}


@pytest.fixture(scope="module")
def llm():
    return OpenAILike(**SETTINGS, should_use_structured_outputs=True)


def inline(image):
    return ImageBlock(path=Path(DEMO / image))


def linked(image):
    return ImageBlock(url=http_url(image))


def turns(case, block_of=inline):
    images = iter(case["images"])

    def blocks(content):
        if isinstance(content, str):
            return [TextBlock(text=content)]
        return [TextBlock(text=p["text"]) if p["type"] == "text" else block_of(next(images)) for p in content]

    return [ChatMessage(role=turn["role"], blocks=blocks(turn["content"])) for turn in case["messages"]]


def check_stock(item: str) -> str:
    """Check the stock of an item."""
    return json.dumps({"stock": 7})


@pytest.mark.parametrize("block_of", [inline, linked])
@pytest.mark.parametrize("case", [CHAT, STORY, *IMAGE_CASES[:4]], ids=name)
def test_an_answer_is_the_reference(llm, case, block_of):
    response = llm.chat(turns(case, block_of))
    assert response.message.content == case["answer"]
    assert response.raw.usage.prompt_tokens == case["prompt_tokens"]


def test_a_stream_is_the_reference(llm):
    responses = list(llm.stream_chat(turns(STORY)))
    assert "".join(response.delta or "" for response in responses) == STORY["answer"]
    assert len(responses) > 10


def test_answers_asked_for_at_once_are_not_mixed_up(llm):
    async def ask():
        return await asyncio.gather(*(llm.achat(turns(case)) for case in CASES[:8]))

    assert [response.message.content for response in asyncio.run(ask())] == [case["answer"] for case in CASES[:8]]


def test_a_text_is_completed_through_the_older_api():
    plain = OpenAILike(**{**SETTINGS, "is_chat_model": False}, max_tokens=8)
    whole = plain.complete("It is a").text
    assert whole
    assert "".join(response.delta or "" for response in plain.stream_complete("It is a")) == whole


def test_structured_output_is_an_instance(llm):
    response = llm.as_structured_llm(Drawing).chat(turns(LISTING))
    assert response.raw == DRAWING


def test_a_tool_is_called(llm):
    tools = [FunctionTool.from_defaults(check_stock)]
    response = llm.chat_with_tools(tools, chat_history=turns(TOOL))
    (call,) = llm.get_tool_calls_from_response(response)
    assert {"name": call.tool_name, "arguments": call.tool_kwargs} == TOOL_CALL
    answered = {"tool_call_id": call.tool_id}
    result = ChatMessage(role="tool", content=check_stock("blue circle"), additional_kwargs=answered)
    final = llm.chat_with_tools(tools, chat_history=[*turns(TOOL), response.message, result])
    assert final.message.content
    assert not llm.get_tool_calls_from_response(final, error_on_no_tool_call=False)
