"""How answers are chosen: seeds, several choices, biases, penalties and the probabilities of tokens."""

import asyncio
import math

import openai
import pytest

from support import CHAT, IMAGE_CASES, STORY, dry_run, generated, request, token_id

CHINESE = next(case for case in IMAGE_CASES if case["lang"] == "zh")
# Hot enough that two answers are hardly ever the same by chance.
WILD = {"temperature": 2, "top_p": 1, "max_completion_tokens": 24}


def wild(case=STORY, **more):
    return {**request(case), **WILD, **more}


def texts(completion):
    assert [choice.index for choice in completion.choices] == list(range(len(completion.choices)))
    return [choice.message.content for choice in completion.choices]


def streamed_texts(stream, n):
    """The texts of the choices of a stream, which may come in any order."""
    parts, reasons = [""] * n, [None] * n
    for chunk in stream:
        for choice in chunk.choices:
            assert reasons[choice.index] is None, "a choice goes on after its end"
            parts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason
    assert None not in reasons
    return parts


def test_a_seed_repeats_an_answer_and_another_seed_does_not(client):
    first, again, other = (
        texts(client.chat.completions.create(**wild(seed=seed))) for seed in (7, 7, 8)
    )
    assert first == again
    assert first != other


def test_a_seed_gives_a_stream_what_it_gives_a_plain_answer(client):
    plain = client.chat.completions.create(**wild(seed=7))
    with client.chat.completions.create(**wild(seed=7, stream=True)) as stream:
        assert streamed_texts(stream, 1) == texts(plain)


def test_a_seed_holds_among_sixteen_others(client, make_async_client):
    alone = texts(client.chat.completions.create(**wild(seed=7)))

    async def ask():
        async with make_async_client() as client:
            others = [client.chat.completions.create(**wild(seed=seed)) for seed in range(100, 116)]
            ours = client.chat.completions.create(**wild(seed=7))
            return await asyncio.gather(*others[:8], ours, *others[8:])

    completions = asyncio.run(ask())
    assert texts(completions[8]) == alone
    assert len({texts(completion)[0] for completion in completions}) == 17


def test_answers_without_a_seed_differ(client):
    first, again = (texts(client.chat.completions.create(**wild())) for _ in range(2))
    assert first != again


@pytest.mark.parametrize(
    "narrow",
    [{"top_p": 1e-6}, {"extra_body": {"top_k": 1}}, {"extra_body": {"min_p": 1}}],
    ids=["top_p", "top_k", "min_p"],
)
def test_the_narrowest_choice_is_the_likeliest_answer(client, narrow):
    completion = client.chat.completions.create(**{**request(STORY), "temperature": 2, **narrow})
    assert texts(completion) == [STORY["answer"]]


def test_several_choices_are_several_answers_to_one_prompt(client):
    completion = client.chat.completions.create(**wild(n=3, seed=7))
    assert len(set(texts(completion))) == 3
    assert completion.usage.prompt_tokens == STORY["prompt_tokens"]
    assert 3 < completion.usage.completion_tokens <= 3 * WILD["max_completion_tokens"]
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def test_several_choices_without_chance_are_the_same_answer(client):
    completion = client.chat.completions.create(**request(CHAT, n=3))
    assert texts(completion) == [CHAT["answer"]] * 3
    assert [choice.finish_reason for choice in completion.choices] == ["stop"] * 3
    assert completion.usage.completion_tokens == 3 * CHAT["completion_tokens"]


def test_several_choices_of_a_stream_are_those_of_a_plain_answer(client):
    plain = texts(client.chat.completions.create(**wild(n=3, seed=7)))
    options = {"stream": True, "stream_options": {"include_usage": True}}
    with client.chat.completions.create(**wild(n=3, seed=7, **options)) as stream:
        chunks = list(stream)
    assert streamed_texts(chunks, 3) == plain
    roles = [choice.index for chunk in chunks for choice in chunk.choices if choice.delta.role]
    assert sorted(roles) == [0, 1, 2]
    assert [bool(chunk.usage) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].usage.prompt_tokens == STORY["prompt_tokens"]


def test_the_stream_helper_keeps_several_choices_apart(client):
    plain = texts(client.chat.completions.create(**wild(n=2, seed=3)))
    with client.chat.completions.stream(**wild(n=2, seed=3)) as stream:
        stream.until_done()
        # The final completion is only to be had of answers that were not cut.
        assert texts(stream.current_completion_snapshot) == plain


def test_a_bias_of_100_forces_a_token_and_of_minus_100_forbids_it(client):
    forced = client.chat.completions.create(
        **request(CHAT, max_completion_tokens=3, logit_bias={token_id("red"): 100})
    )
    assert texts(forced) == ["redredred"]
    first = client.chat.completions.create(**request(CHAT, logprobs=True)).choices[0].logprobs.content[0].token
    forbidden = client.chat.completions.create(**request(CHAT, logit_bias={token_id(first): -100}))
    assert not forbidden.choices[0].message.content.startswith(first)


@pytest.mark.parametrize(
    "more",
    [{"frequency_penalty": 2}, {"presence_penalty": 2}, {"extra_body": {"repetition_penalty": 2}}],
    ids=["frequency", "presence", "repetition"],
)
def test_a_penalty_makes_words_repeat_less(client, more):
    # A few words that the bias makes all but certain to be said again and again.
    pressed = {"logit_bias": {token_id(word): 19 for word in ("red", "star")}, "max_completion_tokens": 24}

    def repeats(**more):
        completion = client.chat.completions.create(**request(CHAT, logprobs=True, **pressed, **more))
        tokens = [entry.token for entry in completion.choices[0].logprobs.content]
        return len(tokens) - len(set(tokens))

    assert repeats(**more) < repeats()


def check_logprobs(content, entries, top):
    assert b"".join(bytes(entry.bytes) for entry in entries).decode() == content
    for entry in entries:
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == top
        ranked = [likely.logprob for likely in entry.top_logprobs]
        assert ranked == sorted(ranked, reverse=True)
        assert len({bytes(likely.bytes) for likely in entry.top_logprobs}) == top
        # Natural logarithms: what they say adds up to a part of everything.
        assert sum(map(math.exp, ranked)) <= 1 + 1e-4
        for likely in entry.top_logprobs:
            assert likely.token == bytes(likely.bytes).decode(errors="replace")


@pytest.mark.parametrize("case", [CHAT, CHINESE], ids=["en", "zh"])
def test_logprobs_spell_the_answer_and_add_up(client, case):
    (choice,) = client.chat.completions.create(**request(case, logprobs=True, top_logprobs=20)).choices
    assert choice.message.content == case["answer"]
    entries = choice.logprobs.content
    check_logprobs(choice.message.content, entries, 20)
    assert choice.logprobs.refusal is None
    # The last token, which closes the turn, says nothing.
    assert len(entries) == case["completion_tokens"] - 1
    for entry in entries:
        # Nothing is left to chance, so that the likeliest one is the one.
        assert (entry.token, entry.logprob) == (entry.top_logprobs[0].token, entry.top_logprobs[0].logprob)
        # Twenty of 1837 tokens are nearly all that this model considers.
        assert sum(math.exp(likely.logprob) for likely in entry.top_logprobs) > 0.9


def test_logprobs_without_others_list_no_others(client):
    (choice,) = client.chat.completions.create(**request(CHAT, logprobs=True)).choices
    check_logprobs(choice.message.content, choice.logprobs.content, 0)


def test_logprobs_are_those_of_the_model_whatever_the_temperature(client):
    hot = client.chat.completions.create(**wild(logprobs=True, top_logprobs=3, seed=7))
    cold = client.chat.completions.create(**request(STORY, max_completion_tokens=1, logprobs=True, top_logprobs=3))
    of = lambda completion: completion.choices[0].logprobs.content[0].top_logprobs
    assert [(likely.token, pytest.approx(likely.logprob, abs=1e-3)) for likely in of(cold)] == [
        (likely.token, likely.logprob) for likely in of(hot)
    ]


def test_logprobs_of_a_stream_are_those_of_a_plain_answer(client):
    asked = request(CHINESE, logprobs=True, top_logprobs=2)
    plain = client.chat.completions.create(**asked).choices[0].logprobs.content
    with client.chat.completions.create(**asked, stream=True) as stream:
        streamed = [
            entry
            for chunk in stream
            for choice in chunk.choices
            if choice.logprobs
            for entry in choice.logprobs.content or []
        ]
    assert [(entry.token, entry.bytes) for entry in streamed] == [(entry.token, entry.bytes) for entry in plain]
    assert [entry.logprob for entry in streamed] == pytest.approx([entry.logprob for entry in plain], abs=1e-3)


def test_the_stream_helper_tells_logprobs(client):
    with client.chat.completions.stream(**request(CHAT, logprobs=True, top_logprobs=1)) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "logprobs.content.delta"]
        completion = stream.get_final_completion()
    assert snapshots
    check_logprobs(CHAT["answer"], completion.choices[0].logprobs.content, 1)


def test_an_answer_without_logprobs_has_none(client):
    assert client.chat.completions.create(**request(CHAT)).choices[0].logprobs is None


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"seed": 1.5}, "seed"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 1}, "logprobs"),
        ({"frequency_penalty": 2.1}, "frequency_penalty"),
        ({"presence_penalty": -2.1}, "presence_penalty"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"logit_bias": {"red": 1}}, "logit_bias"),
        ({"logit_bias": {"1000000": 1}}, "logit_bias"),
        ({"extra_body": {"top_k": -2}}, "top_k"),
        ({"extra_body": {"min_p": 1.5}}, "min_p"),
        ({"extra_body": {"repetition_penalty": 0}}, "repetition_penalty"),
    ],
    ids=str,
)
def test_a_choice_out_of_range_is_refused_by_name(client, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**request(CHAT, **more))
    assert caught.value.param.startswith(param)
    assert caught.value.code in ("invalid_value", "invalid_type")


def test_usage_tells_what_prompt_and_answer_are_made_of(client):
    usage = client.chat.completions.create(**request(CHINESE)).usage
    prompt, answer = usage.prompt_tokens_details, usage.completion_tokens_details
    assert prompt.image_tokens + prompt.text_tokens == usage.prompt_tokens
    assert prompt.image_tokens > 0
    assert (prompt.audio_tokens, prompt.cached_tokens) == (0, 0)
    assert answer.reasoning_tokens == 0
    assert (answer.accepted_prediction_tokens, answer.rejected_prediction_tokens) == (0, 0)


def test_headers_tell_where_the_time_went(client):
    raw = client.chat.completions.with_raw_response.create(**request(CHINESE))
    timing = dict(part.strip().split(";dur=") for part in raw.headers["server-timing"].split(","))
    assert {"queue", "images", "prompt", "total"} <= timing.keys()
    assert all(float(spent) >= 0 for spent in timing.values())
    assert float(timing["total"]) >= float(timing["queue"]) + float(timing["prompt"]) - 1
    assert abs(float(timing["total"]) - int(raw.headers["openai-processing-ms"])) < 50


@pytest.mark.parametrize("case", [CHAT, CHINESE, STORY], ids=["text", "zh", "story"])
def test_a_dry_run_counts_a_prompt_and_generates_nothing(client, case):
    before = generated()
    told = dry_run(client, **request(case))
    assert told["object"] == "chat.completion.dry_run"
    assert told["prompt_tokens"] == case["prompt_tokens"]
    assert told["max_completion_tokens"] == 4096 - case["prompt_tokens"]
    image_tokens = sum(t * h * w // 4 for t, h, w in case["image_grid_thw"])
    assert told["prompt_tokens_details"]["image_tokens"] == image_tokens
    assert [part["type"] for part in told["parts"]].count("image_url") == len(case["images"])
    assert generated() == before


def test_a_model_that_does_not_think_is_not_told_to(client):
    assert client.chat.completions.create(**request(CHAT, reasoning_effort="none")).choices[0].message.content
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**request(CHAT, reasoning_effort="high"))
    assert caught.value.param == "reasoning_effort"
