"""What the OpenAI SDK for Python gets for well-formed requests."""

import asyncio
import re

import pytest

from support import CASES, CHAT, IMAGE_CASES, MODEL, STORY, data_url, http_url, name, request

every_case = pytest.mark.parametrize("case", CASES, ids=name)


def check_usage(usage, case):
    assert usage.prompt_tokens == case["prompt_tokens"]
    assert usage.completion_tokens == case["completion_tokens"]
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    # One token for four patches of the grid.
    image_tokens = sum(t * h * w // 4 for t, h, w in case["image_grid_thw"])
    assert usage.prompt_tokens_details.image_tokens == image_tokens
    assert usage.prompt_tokens_details.cached_tokens == 0


def check_answer(completion, case):
    (choice,) = completion.choices
    assert choice.message.content == case["answer"]
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    check_usage(completion.usage, case)


def check_chunks(chunks, case):
    """Chunks as include_usage promises them: text, then a reason, then the usage alone."""
    *with_choice, last = chunks
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in with_choice)
    assert with_choice[0].choices[0].delta.role == "assistant"
    assert all(chunk.choices[0].delta.role is None for chunk in with_choice[1:])
    text = "".join(chunk.choices[0].delta.content or "" for chunk in with_choice)
    assert text == case["answer"]
    assert [chunk.choices[0].finish_reason for chunk in with_choice] == [None] * (len(with_choice) - 1) + ["stop"]
    assert last.choices == []
    check_usage(last.usage, case)
    assert len({(chunk.id, chunk.created, chunk.model, chunk.object) for chunk in chunks}) == 1
    assert last.object == "chat.completion.chunk"


def test_the_reference_covers_what_these_tests_are_for():
    assert len(CASES) >= 20
    assert any(len(case["images"]) == 2 for case in CASES)
    assert any(case["lang"] == "zh" and case["images"] for case in CASES)
    assert any(len(case["messages"]) > 1 for case in CASES)


@every_case
def test_a_plain_answer_is_the_reference(client, case):
    completion = client.chat.completions.create(**request(case))
    check_answer(completion, case)
    assert completion.id.startswith("chatcmpl-")
    assert completion.object == "chat.completion"
    assert completion.model == MODEL


@every_case
def test_a_streamed_answer_is_the_reference_and_ends_with_its_usage(client, case):
    options = {"stream": True, "stream_options": {"include_usage": True}}
    with client.chat.completions.create(**request(case, **options)) as stream:
        check_chunks(list(stream), case)


@pytest.mark.parametrize("case", IMAGE_CASES, ids=name)
def test_an_image_behind_a_url_gives_the_same_answer(client, case):
    check_answer(client.chat.completions.create(**request(case, http_url)), case)


def test_an_image_by_url_beside_one_in_the_request_keeps_its_place(client):
    case = next(case for case in CASES if len(case["images"]) == 2)
    first = case["images"][0]
    mixed = request(case, lambda image: http_url(image) if image == first else data_url(image))
    check_answer(client.chat.completions.create(**mixed), case)


def test_a_stream_without_include_usage_has_no_usage(client):
    with client.chat.completions.create(**request(CHAT, stream=True)) as stream:
        chunks = list(stream)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == CHAT["answer"]


def test_the_stream_helper_puts_the_answer_together(client):
    more = {"stream_options": {"include_usage": True}}
    with client.chat.completions.stream(**request(STORY, **more)) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        completion = stream.get_final_completion()
    assert len(deltas) > 10
    assert "".join(deltas) == STORY["answer"]
    check_answer(completion, STORY)


def test_an_answer_can_be_sent_back_as_the_sdk_returned_it(client):
    first = request(CHAT)
    answer = client.chat.completions.create(**first).choices[0].message
    assert answer.content == CHAT["answer"]
    turns = [*first["messages"], answer, {"role": "user", "content": CHAT["messages"][0]["content"]}]
    again = client.chat.completions.create(model=MODEL, messages=turns, temperature=0)
    # The earlier turns are in the prompt: it is longer than both of them.
    assert again.usage.prompt_tokens > 2 * CHAT["prompt_tokens"] + len(CHAT["answer"].split())
    assert again.choices[0].finish_reason == "stop"


def test_developer_is_another_name_of_system(client):
    def ask(role):
        turns = [{"role": role, "content": "Be brief."}, *request(CHAT)["messages"]]
        completion = client.chat.completions.create(model=MODEL, messages=turns, temperature=0)
        return completion.choices[0].message.content, completion.usage.prompt_tokens

    assert ask("developer") == ask("system")
    assert ask("system")[1] > CHAT["prompt_tokens"]


@pytest.mark.parametrize("detail", ["auto", "low", "high"])
def test_every_detail_shows_a_small_image_whole(client, detail):
    case = IMAGE_CASES[0]
    arguments = request(case)
    arguments["messages"][0]["content"][0]["image_url"]["detail"] = detail
    check_answer(client.chat.completions.create(**arguments), case)


def test_a_stop_sequence_ends_the_answer_before_itself(client):
    stop = "Every morning"
    before = STORY["answer"].split(stop)[0]
    assert before != STORY["answer"]
    (choice,) = client.chat.completions.create(**request(STORY, stop=[stop, "never said"])).choices
    assert (choice.message.content, choice.finish_reason) == (before, "stop")


def test_a_stop_sequence_is_not_streamed_even_in_part(client):
    stop = "Every morning"
    with client.chat.completions.create(**request(STORY, stop=stop, stream=True)) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == STORY["answer"].split(stop)[0]
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("limit", ["max_completion_tokens", "max_tokens"])
def test_a_token_limit_cuts_the_answer_and_says_so(client, limit):
    completion = client.chat.completions.create(**request(STORY, **{limit: 5}))
    (choice,) = completion.choices
    assert choice.finish_reason == "length"
    assert completion.usage.completion_tokens == 5
    assert choice.message.content and STORY["answer"].startswith(choice.message.content)
    assert len(choice.message.content) < len(STORY["answer"])


def test_a_token_limit_cuts_a_stream_and_says_so(client):
    with client.chat.completions.create(**request(STORY, max_completion_tokens=5, stream=True)) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text and STORY["answer"].startswith(text)
    assert chunks[-1].choices[0].finish_reason == "length"


def test_the_model_is_listed_and_can_be_retrieved(client):
    listed = client.models.list().data
    assert [model.id for model in listed] == [MODEL]
    model = client.models.retrieve(MODEL)
    assert model == listed[0]
    assert (model.object, model.owned_by) == ("model", "porthole")
    assert model.created > 0


def test_every_answer_has_an_id_and_its_time(client):
    raw = client.chat.completions.with_raw_response.create(**request(CHAT))
    assert re.fullmatch(r"req_[0-9a-f]{32}", raw.headers["x-request-id"])
    assert raw.request_id == raw.headers["x-request-id"]
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert "x-porthole-ignored" not in raw.headers
    completion = raw.parse()
    assert completion._request_id == raw.headers["x-request-id"]
    check_answer(completion, CHAT)


def test_the_clients_own_request_id_is_kept(client):
    headers = {"X-Request-Id": "trace-42"}
    raw = client.chat.completions.with_raw_response.create(**request(CHAT), extra_headers=headers)
    assert raw.headers["x-request-id"] == "trace-42"


def test_fields_that_cannot_change_the_answer_are_named_in_a_header(client):
    more = {"user": "someone", "metadata": {"order": "12"}, "store": False}
    raw = client.chat.completions.with_raw_response.create(**request(CHAT, **more))
    assert set(raw.headers["x-porthole-ignored"].split(", ")) == {"user", "metadata", "store"}
    check_answer(raw.parse(), CHAT)


def test_a_stream_has_these_headers_too(client):
    more = {"stream": True, "user": "someone"}
    raw = client.chat.completions.with_raw_response.create(**request(CHAT, **more))
    assert raw.headers["content-type"].startswith("text/event-stream")
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-porthole-ignored"] == "user"
    with raw.parse() as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == CHAT["answer"]


def test_the_async_client_gets_all_answers_at_once_and_none_mixed_up(make_async_client):
    async def ask():
        async with make_async_client() as client:
            return await asyncio.gather(*(client.chat.completions.create(**request(case)) for case in CASES))

    for case, completion in zip(CASES, asyncio.run(ask()), strict=True):
        check_answer(completion, case)


def test_the_async_client_gets_all_streams_at_once_and_none_mixed_up(make_async_client):
    async def read(client, case):
        more = {"stream": True, "stream_options": {"include_usage": True}}
        stream = await client.chat.completions.create(**request(case, http_url, **more))
        return [chunk async for chunk in stream]

    async def ask():
        async with make_async_client() as client:
            return await asyncio.gather(*(read(client, case) for case in CASES))

    for case, chunks in zip(CASES, asyncio.run(ask()), strict=True):
        check_chunks(chunks, case)


def test_the_async_client_lists_and_retrieves_the_model(make_async_client):
    async def ask():
        async with make_async_client() as client:
            return [model.id async for model in client.models.list()], (await client.models.retrieve(MODEL)).id

    assert asyncio.run(ask()) == ([MODEL], MODEL)
