"""What the OpenAI SDK for Python raises for requests that cannot be answered."""

import asyncio
import os
import re
import struct
import zlib

import openai
import pytest

from support import CHAT, DEMO, IMAGE_CASES, IMAGES_URL, MODEL, data_url, dry_run, request, with_image

IMAGE = next(image for case in IMAGE_CASES for image in case["images"] if image.endswith(".png"))
IMAGE_PARAM = "messages[0].content[0].image_url.url"


def png(width, height, pixels):
    """A gray PNG with this header, whatever its pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def check(error, status, code, param, kind="invalid_request_error"):
    assert error.status_code == status
    assert (error.code, error.param, error.type) == (code, param, kind)
    assert error.request_id.startswith("req_")
    assert error.body["message"] in error.message


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"temperature": 3}, "invalid_value"),
        ({"temperature": -0.1}, "invalid_value"),
        ({"temperature": "hot"}, "invalid_type"),
        ({"top_p": 1.5}, "invalid_value"),
        ({"max_completion_tokens": 0}, "invalid_value"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "invalid_value"),
        ({"stream": "yes"}, "invalid_type"),
        ({"messages": []}, "invalid_value"),
    ],
    ids=str,
)
def test_a_bad_value_is_a_bad_request_that_names_it(client, more, code):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**request(CHAT), **more})
    (param,) = more
    check(caught.value, 400, code, param)
    assert param in caught.value.message


@pytest.mark.parametrize(
    "more",
    [
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "alloy", "format": "wav"}},
        {"web_search_options": {}},
        {"functions": [{"name": "f", "parameters": {"type": "object"}}]},
        {"function_call": {"name": "f"}},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_the_server_cannot_do_is_refused_by_name(client, more):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**request(CHAT, **more))
    check(caught.value, 400, "unsupported_parameter", next(iter(more)))


def test_a_field_nobody_knows_is_refused_by_name(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**request(CHAT), extra_body={"temprature": 0})
    check(caught.value, 400, "unknown_parameter", "temprature")


def test_a_detail_nobody_knows_is_refused_by_its_place(client):
    arguments = with_image(data_url(IMAGE))
    arguments["messages"][0]["content"][0]["image_url"]["detail"] = "huge"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**arguments)
    check(caught.value, 400, "invalid_value", "messages[0].content[0].image_url.detail")


def test_a_bad_request_for_a_stream_is_raised_before_it_begins(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{**request(CHAT, stream=True), "temperature": 3})
    check(caught.value, 400, "invalid_value", "temperature")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_an_unknown_model_is_not_found(client, stream):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(**{**request(CHAT, stream=stream), "model": "gpt-0"})
    check(caught.value, 404, "model_not_found", "model")
    assert "gpt-0" in caught.value.message


def test_an_unknown_model_cannot_be_retrieved(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("Org/some-model")
    check(caught.value, 404, "model_not_found", "model")
    assert "Org/some-model" in caught.value.message


def test_an_api_that_is_not_there_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model=MODEL, input="text")
    check(caught.value, 404, "unknown_url", None)


def test_a_damaged_image_is_unprocessable(client):
    whole = (DEMO / IMAGE).read_bytes()
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(**with_image(data_url(IMAGE, whole[: len(whole) // 2])))
    check(caught.value, 422, "invalid_image", IMAGE_PARAM)


def test_a_damaged_second_image_is_named_by_its_place(client):
    arguments = with_image(data_url(IMAGE))
    damaged = data_url(IMAGE, (DEMO / IMAGE).read_bytes()[:200])
    arguments["messages"][0]["content"].append({"type": "image_url", "image_url": {"url": damaged}})
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(**arguments, stream=True)
    check(caught.value, 422, "invalid_image", "messages[0].content[2].image_url.url")


def test_a_web_page_behind_an_image_url_is_an_unsupported_type(client):
    # The listing of the folder is HTML.
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**with_image(f"{IMAGES_URL}/"))
    check(caught.value, 415, "unsupported_image_type", IMAGE_PARAM)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        (f"{IMAGES_URL}/none.png", "image_fetch_failed"),
        ("ftp://example.com/a.png", "invalid_image_url"),
        ("picture.png", "invalid_image_url"),
        ("data:image/png;base64,a$b=", "invalid_base64"),
    ],
    ids=["missing", "ftp", "relative", "base64"],
)
def test_an_image_that_cannot_be_had_is_a_bad_request(client, url, code):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**with_image(url))
    check(caught.value, 400, code, IMAGE_PARAM)


def test_an_image_of_too_many_pixels_is_too_large(client):
    # The header alone condemns it: there are no pixels behind it.
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(**with_image(data_url(IMAGE, png(10000, 10000, b""))))
    check(caught.value, 413, "image_too_large", IMAGE_PARAM)
    assert "10000x10000" in caught.value.message


def test_a_body_over_the_limit_is_too_large_and_not_a_broken_connection(client):
    limit = int(os.environ["PORTHOLE_TEST_MAX_BODY_BYTES"])
    turns = [{"role": "user", "content": "x" * (limit + 1)}]
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=MODEL, messages=turns)
    check(caught.value, 413, "request_too_large", None)
    assert str(limit) in caught.value.message


@pytest.mark.parametrize("words", [4100, 100_000])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_prompt_beyond_the_context_tells_both_numbers(client, words, stream):
    turns = [{"role": "user", "content": "shape " * words}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=turns, stream=stream)
    check(caught.value, 400, "context_length_exceeded", "messages")
    context, prompt = tokens_named(caught.value.message)
    assert context == 4096
    assert prompt >= context


def test_images_count_towards_the_context(client):
    # Text that fits by itself, then the same with images that do not fit beside it.
    arguments = with_image(data_url(IMAGE), "shape " * 3900)
    content = arguments["messages"][0]["content"]
    fits = dry_run(client, **arguments)
    assert fits["max_completion_tokens"] > 0
    one_image = fits["prompt_tokens_details"]["image_tokens"]
    content[:1] = content[:1] * 16
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**arguments)
    check(caught.value, 400, "context_length_exceeded", "messages")
    context, prompt = tokens_named(caught.value.message)
    assert context == 4096
    assert "resulted in at least" not in caught.value.message
    # Each image has a start and an end besides its own tokens.
    assert prompt == fits["prompt_tokens"] + 15 * (one_image + 2)


def tokens_named(message):
    found = re.search(r"maximum context length is (\d+) tokens.*resulted in (?:at least )?(\d+) tokens", message)
    assert found, message
    return int(found[1]), int(found[2])


def test_the_async_client_raises_the_same_classes(make_async_client):
    async def ask(**arguments):
        async with make_async_client() as client:
            await client.chat.completions.create(**arguments)

    with pytest.raises(openai.NotFoundError) as caught:
        asyncio.run(ask(**{**request(CHAT), "model": "gpt-0"}))
    check(caught.value, 404, "model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as caught:
        asyncio.run(ask(**{**request(CHAT), "temperature": 3}))
    check(caught.value, 400, "invalid_value", "temperature")
