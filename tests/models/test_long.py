"""Long streams of real prose: SmolLM2 135M, whose answers are language."""

import json
import threading

import pytest

from server import Stream, at_work, metric, post, wait_until

MODEL = "smollm2"
# The same weights with a context of this many tokens.
SHORT, SHORT_CONTEXT = "smollm2-short", 400
LONG = 1600
# <|endoftext|> and <|im_end|>: an answer goes on until it is cut off.
ENDLESS = {"0": -100, "2": -100}
STORY = "Write a long story about a lighthouse keeper, a storm, and a ship that comes home."


def asked(text, **more):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "seed": 11, "temperature": 0.8, **more}


def long(**more):
    return asked(STORY, max_tokens=LONG, logit_bias=ENDLESS, top_p=0.9, **more)


def plain(body):
    status, answer = post(body)
    assert status == 200, answer
    (choice,) = answer["choices"]
    return choice["message"]["content"], choice["finish_reason"], answer["usage"]


@pytest.fixture(scope="module")
def story():
    """A long answer, streamed to its end."""
    return Stream(long()).to_the_end()


def test_a_long_stream_is_all_there(story):
    assert story.finish_reason == "length"
    assert story.usage["completion_tokens"] == LONG
    assert story.usage["total_tokens"] == story.usage["prompt_tokens"] + LONG
    # Most tokens are words; what is held back is what may be a part of a character.
    assert story.pieces > LONG * 0.9
    assert len(set(story.text.split())) > 100, story.text[:500]


def test_a_long_answer_is_the_same_streamed_or_not(story):
    text, reason, usage = plain(long())
    assert text == story.text
    assert (reason, usage) == (story.finish_reason, story.usage)


def test_a_stop_sequence_in_long_prose_cuts_where_it_begins(story):
    # A few words that come up for the first time after a quarter of it, from the middle of a word.
    start = next(
        at
        for at in range(len(story.text) // 4, len(story.text))
        if story.text[at - 1].isalpha() and " " in story.text[at : at + 14] and story.text.find(story.text[at : at + 14]) == at
    )
    stop = story.text[start : start + 14]
    stream = Stream(long(stop=["\u2603 never said", stop])).to_the_end()
    assert stream.text == story.text[:start]
    assert stream.finish_reason == "stop"
    assert 0 < stream.usage["completion_tokens"] < LONG / 2


QUESTIONS = [
    "Schreibe über Äpfel, Öl und Übermut: größer, süßer, schöner!",
    "日本語で海について書いてください。",
    "Опиши зиму в Санкт-Петербурге 🌨️❄️",
    "Mieux vaut tard que jamais — explique « déjà vu » 👩‍👩‍👧‍👦.",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_character_is_lost_between_pieces(question):
    # So warm that tokens which are a part of a character come often.
    body = asked(question, max_tokens=120, temperature=1.6, logit_bias=ENDLESS)
    stream = Stream(body).to_the_end()
    text, reason, usage = plain(body)
    assert stream.text == text
    assert (stream.finish_reason, stream.usage) == (reason, usage)
    assert not text.isascii(), text
    # A piece is whole characters: with the bytes of each token, the answer is the same.
    status, answer = post(body | {"logprobs": True})
    assert status == 200
    spelled = b"".join(bytes(token["bytes"]) for token in answer["choices"][0]["logprobs"]["content"])
    assert spelled.decode("utf-8", "replace") == answer["choices"][0]["message"]["content"] == text


def test_a_question_is_read_as_it_was_written():
    """What a prompt says in other scripts counts as many tokens as transformers counts: parity.py;
    here, that an answer depends on it."""
    answers = {plain(asked(question, max_tokens=16, temperature=0))[0] for question in QUESTIONS}
    assert len(answers) == len(QUESTIONS)


def test_a_client_that_leaves_midway_frees_the_engine():
    wait_until(lambda: at_work() == 0, 30, "an idle engine to begin with")
    before = metric("porthole_generation_tokens_total")
    stream = Stream(long())
    for count, _ in enumerate(stream):
        if count == 40:
            break
    stream.leave()
    wait_until(lambda: at_work() == 0, 10, "an idle engine after its client left")
    assert 40 <= metric("porthole_generation_tokens_total") - before < LONG / 2
    assert plain(asked("Hello!", max_tokens=4))[2]["completion_tokens"] > 0


def test_an_answer_ends_with_the_context():
    text, reason, usage = plain(asked(STORY, model=SHORT, logit_bias=ENDLESS))
    assert reason == "length" and text
    assert usage["total_tokens"] == SHORT_CONTEXT
    stream = Stream(asked(STORY, model=SHORT, logit_bias=ENDLESS)).to_the_end()
    assert (stream.text, stream.finish_reason, stream.usage) == (text, reason, usage)


def test_a_prompt_longer_than_the_context_is_refused():
    status, answer = post(asked("word " * SHORT_CONTEXT, model=SHORT))
    assert status == 400
    assert answer["error"]["code"] == "context_length_exceeded", answer


def test_keep_alives_are_no_part_of_an_answer():
    body = asked("Hello!", max_tokens=12)
    expected = plain(body)
    first = Stream(long())
    next(iter(first))
    waiting = Stream(body)
    # It waits behind the long one, and hears every second that it does.
    reader = threading.Thread(target=waiting.to_the_end)
    reader.start()
    wait_until(lambda: waiting.comments >= 2, 30, "two keep-alive comments")
    first.leave()
    reader.join(60)
    assert waiting.done
    assert (waiting.text, waiting.finish_reason, waiting.usage) == expected


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["kind", "brave", "tired"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def test_a_schema_is_kept_to():
    wanted = {"type": "json_schema", "json_schema": {"name": "keeper", "schema": SCHEMA}}
    for seed in range(4):
        body = asked("Describe the keeper as JSON.", response_format=wanted, max_tokens=200, seed=seed, temperature=1.2)
        text, reason, _ = plain(body)
        assert reason == "stop"
        keeper = json.loads(text)
        assert keeper.keys() == {"name", "age", "tags"}
        assert len(keeper["name"]) <= 30 and type(keeper["age"]) is int and 0 <= keeper["age"] <= 120
        assert 1 <= len(keeper["tags"]) <= 2 and set(keeper["tags"]) <= {"kind", "brave", "tired"}
        assert Stream(body).to_the_end().text == text


def test_tools_are_refused_for_its_template_has_none():
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    status, answer = post(asked("Look.", tools=[tool]))
    assert status == 400
    assert answer["error"]["param"] == "tools", answer


def test_images_are_refused_for_it_sees_none():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    status, answer = post(asked([{"type": "text", "text": "Look."}, image]))
    assert status == 400, answer
    assert "image" in answer["error"]["message"]
