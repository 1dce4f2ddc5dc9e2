"""The two older ways to ask: text completions and the predict contract."""

import base64

import openai
import pytest

from support import CASES, CHAT, DEMO, IMAGE_CASES, MODEL, name, token_id

# The demo model's own template, written out.
PROMPT = f"<|im_start|>user\n{CHAT['messages'][0]['content']}<|im_end|>\n<|im_start|>assistant\n"
ONE_TURN = [case for case in CASES if len(case["messages"]) == 1 and case["images"]]


def asked(prompt="It is a", **more):
    return {"model": MODEL, "prompt": prompt, "temperature": 0, "max_tokens": 8, **more}


def test_a_text_goes_on(client):
    completion = client.completions.create(**asked())
    (choice,) = completion.choices
    assert completion.object == "text_completion"
    assert completion.id.startswith("cmpl-")
    assert completion.model == MODEL
    assert choice.text
    assert choice.finish_reason in ("length", "stop")
    assert 0 < completion.usage.completion_tokens <= 8
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_sixteen_tokens_are_the_most_where_nothing_is_said(client):
    forced = {"model": MODEL, "prompt": "It", "temperature": 0, "logit_bias": {token_id("red"): 100}}
    completion = client.completions.create(**forced)
    assert completion.choices[0].text == "red" * 16
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage.completion_tokens == 16


def test_a_stream_says_what_a_plain_answer_says(client):
    plain = client.completions.create(**asked())
    more = {"stream": True, "stream_options": {"include_usage": True}}
    with client.completions.create(**asked(**more)) as stream:
        *chunks, last = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks) == plain.choices[0].text
    assert chunks[-1].choices[0].finish_reason == plain.choices[0].finish_reason
    assert last.choices == []
    assert last.usage == plain.usage
    assert {chunk.object for chunk in [*chunks, last]} == {"text_completion"}


def test_tokens_are_as_good_as_the_text_that_they_spell(client):
    text = client.completions.create(**asked("red"))
    tokens = client.completions.create(**asked([token_id("red")]))
    assert text.choices[0].text == tokens.choices[0].text
    assert text.usage == tokens.usage
    assert text.usage.prompt_tokens == 1


def test_text_is_never_read_as_a_turn_of_a_conversation(client):
    """Else whoever fills a part of a prompt could speak as the assistant."""
    completion = client.completions.create(**asked(PROMPT))
    # Of the marks, each one token in a conversation, there is not one.
    assert completion.usage.prompt_tokens > CHAT["prompt_tokens"]


def test_several_prompts_have_their_answers_in_order(client):
    alone = [client.completions.create(**asked(prompt)).choices[0].text for prompt in ("It is a", "The image")]
    both = client.completions.create(**asked(["It is a", "The image"]))
    assert [choice.index for choice in both.choices] == [0, 1]
    assert [choice.text for choice in both.choices] == alone
    with client.completions.create(**asked(["It is a", "The image"]), stream=True) as stream:
        parts = ["", ""]
        for chunk in stream:
            for choice in chunk.choices:
                parts[choice.index] += choice.text
    assert parts == alone


def test_several_choices_and_seeds(client):
    wild = {"temperature": 2, "n": 3, "seed": 7}
    first, again = (client.completions.create(**asked(**wild)) for _ in range(2))
    assert len({choice.text for choice in first.choices}) == 3
    assert [choice.text for choice in first.choices] == [choice.text for choice in again.choices]


def test_an_echo_begins_with_the_prompt(client):
    plain = client.completions.create(**asked()).choices[0].text
    assert client.completions.create(**asked(echo=True)).choices[0].text == "It is a" + plain


def test_a_stop_sequence_ends_the_text_before_itself(client):
    plain = client.completions.create(**asked(max_tokens=16)).choices[0].text
    middle = plain[len(plain) // 2 :]
    (choice,) = client.completions.create(**asked(max_tokens=16, stop=[middle])).choices
    assert (choice.text, choice.finish_reason) == (plain[: plain.index(middle)], "stop")


def test_logprobs_have_the_older_shape(client):
    (choice,) = client.completions.create(**asked(logprobs=2)).choices
    told = choice.logprobs
    assert "".join(told.tokens) == choice.text
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset)
    for token, logprob, top in zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True):
        assert logprob <= 0
        assert top[token] == pytest.approx(logprob)
    assert [offset - told.text_offset[0] for offset in told.text_offset] == [
        len("".join(told.tokens[:place])) for place in range(len(told.tokens))
    ]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"logprobs": 6}, "logprobs"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3, "n": 1}, "best_of"),
        ({"temperature": 3}, "temperature"),
        ({"prompt": {"text": "a"}}, "prompt"),
        ({"prompt": [1_000_000]}, "prompt"),
    ],
    ids=str,
)
def test_what_cannot_be_completed_is_refused_by_name(client, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{**asked(), **more})
    assert caught.value.param.startswith(param)
    assert caught.value.code


def predict(client, inputs, model=MODEL, **parameters):
    body = {"inputs": inputs, "parameters": parameters}
    return client.post(f"/models/{model}:predict", body=body, cast_to=object)


def inputs(case):
    images = iter(case["images"])

    def image(path):
        kind = "image/jpeg" if path.endswith(".jpg") else "image/png"
        return {"mime_type": kind, "data": base64.b64encode((DEMO / path).read_bytes()).decode()}

    return [
        {"text": part["text"]} if part["type"] == "text" else image(next(images))
        for part in case["messages"][0]["content"]
    ]


@pytest.mark.parametrize("case", ONE_TURN, ids=name)
def test_a_prediction_is_the_reference(client, case):
    assert predict(client, inputs(case), temperature=0) == {"outputs": [{"text": case["answer"]}]}


def test_a_prediction_obeys_its_parameters(client):
    case = IMAGE_CASES[0]
    (output,) = predict(client, inputs(case), temperature=0, max_tokens=3)["outputs"]
    assert output["text"] and case["answer"].startswith(output["text"])
    assert len(output["text"]) < len(case["answer"])


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ([], "inputs"),
        ([{"text": 5}], "inputs[0].text"),
        ([{"text": "a"}, {"mime_type": "image/png", "data": "a$b="}], "inputs[1].data"),
        ([{"text": "a", "data": "b"}], "inputs[0]"),
    ],
    ids=["empty", "type", "base64", "both"],
)
def test_a_wrong_input_of_a_prediction_is_refused_by_its_place(client, wrong, param):
    with pytest.raises(openai.BadRequestError) as caught:
        predict(client, wrong)
    assert caught.value.param.startswith(param)


def test_a_prediction_by_a_model_that_is_not_there_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as caught:
        predict(client, [{"text": "a"}], model="gpt-0")
    assert caught.value.code == "model_not_found"
