//! What becomes of each request field, in one table.
//!
//! A field is honoured; or it cannot change the answer and is accepted (and told in the
//! `x-porthole-ignored` header); or it asks for what this server cannot do and is refused by name.
//! A refused field is still welcome with the value that asks for nothing, since SDKs send defaults.
//! docs/api.md holds the same table.

use serde_json::{Value, json};

use super::{InvalidRequest, json::Json, read};

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Changes the answer as documented.
    Honoured,
    /// Cannot change the answer; its name goes into `x-porthole-ignored`.
    Accepted,
    /// Refused, unless its value asks for nothing.
    Refused,
}

/// A top-level field of chat completions.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name in the body.
    pub name: &'static str,
    /// What becomes of it.
    pub rule: Rule,
    /// For people: its values and what they do, why it has no effect, or what is used instead.
    pub says: &'static str,
    /// The test that shows it: its file and its name.
    pub test: &'static str,
}

/// Shows of every row that it is accepted and told so, or refused by name.
const EACH: &str = "tests/api/fields.rs::every_row_is_what_happens";

const fn honoured(name: &'static str, says: &'static str, test: &'static str) -> Field {
    let rule = Rule::Honoured;
    Field {
        name,
        rule,
        says,
        test,
    }
}

const fn accepted(name: &'static str, says: &'static str) -> Field {
    Field {
        rule: Rule::Accepted,
        ..honoured(name, says, EACH)
    }
}

const fn refused(name: &'static str, says: &'static str) -> Field {
    Field {
        rule: Rule::Refused,
        ..honoured(name, says, EACH)
    }
}

/// Every field of OpenAI's API reference (2026), and the sampling fields that other servers share.
pub const FIELDS: &[Field] = &[
    honoured(
        "model",
        "required; the served name or one of its aliases",
        "tests/api/readiness.rs::the_models_are_the_name_and_its_aliases",
    ),
    honoured(
        "messages",
        "required; 1 to 4096 turns, see below",
        "tests/clients/test_answers.py::test_a_plain_answer_is_the_reference",
    ),
    honoured(
        "temperature",
        "0 (greedy) to 2; the model's own where absent",
        "tests/clients/test_sampling.py::test_answers_without_a_seed_differ",
    ),
    honoured(
        "top_p",
        "0 to 1; the model's own where absent",
        "tests/clients/test_sampling.py::test_the_narrowest_choice_is_the_likeliest_answer",
    ),
    honoured(
        "top_k",
        "extension: most tokens to choose from, 0 for all; the model's own where absent",
        "tests/clients/test_sampling.py::test_the_narrowest_choice_is_the_likeliest_answer",
    ),
    honoured(
        "min_p",
        "extension: 0 to 1, least probability as a part of the likeliest token's",
        "tests/clients/test_sampling.py::test_the_narrowest_choice_is_the_likeliest_answer",
    ),
    honoured(
        "presence_penalty",
        "-2 to 2, over the tokens of the answer",
        "tests/clients/test_sampling.py::test_a_penalty_makes_words_repeat_less",
    ),
    honoured(
        "frequency_penalty",
        "-2 to 2, over the tokens of the answer",
        "tests/clients/test_sampling.py::test_a_penalty_makes_words_repeat_less",
    ),
    honoured(
        "repetition_penalty",
        "extension: more than 0, at most 2, over the tokens of prompt and answer; 1 does nothing",
        "tests/clients/test_sampling.py::test_a_penalty_makes_words_repeat_less",
    ),
    honoured(
        "logit_bias",
        "ids of tokens to -100 to 100; at most 1024 entries",
        "tests/clients/test_sampling.py::test_a_bias_of_100_forces_a_token_and_of_minus_100_forbids_it",
    ),
    honoured(
        "seed",
        "an integer of 64 bits; the same seed, prompt and parameters give the same answer",
        "tests/clients/test_sampling.py::test_a_seed_repeats_an_answer_and_another_seed_does_not",
    ),
    honoured(
        "n",
        "1 to 16 answers; each has a choice of its own, with `seed` + its index as seed",
        "tests/clients/test_sampling.py::test_several_choices_are_several_answers_to_one_prompt",
    ),
    honoured(
        "max_completion_tokens",
        "at least 1; more than the context has room for is cut to that",
        "tests/clients/test_answers.py::test_a_token_limit_cuts_the_answer_and_says_so",
    ),
    honoured(
        "max_tokens",
        "the older name of `max_completion_tokens`; both only with the same value",
        "tests/clients/test_answers.py::test_a_token_limit_cuts_the_answer_and_says_so",
    ),
    honoured(
        "stop",
        "a string or up to 4, of 1 to 1024 bytes each; without effect (and told so) where the answer must be JSON",
        "tests/clients/test_answers.py::test_a_stop_sequence_ends_the_answer_before_itself",
    ),
    honoured(
        "logprobs",
        "`true` tells the log probability of each token of the text",
        "tests/clients/test_sampling.py::test_logprobs_spell_the_answer_and_add_up",
    ),
    honoured(
        "top_logprobs",
        "0 to 20 likeliest tokens beside each; needs `logprobs`",
        "tests/clients/test_sampling.py::test_logprobs_spell_the_answer_and_add_up",
    ),
    honoured(
        "response_format",
        "`text`, `json_object`, or `json_schema` with `name` and `schema`; always strict: the answer is held to the schema",
        "tests/clients/test_formats.py::test_an_answer_is_what_its_schema_allows",
    ),
    honoured(
        "tools",
        "up to 128 functions with unique names; arguments are held to `parameters`; custom tools are refused",
        "tests/clients/test_tools.py::test_the_model_calls_a_tool",
    ),
    honoured(
        "tool_choice",
        "`none`, `auto`, `required`, a function, or `allowed_tools`",
        "tests/clients/test_tools.py::test_a_tool_that_is_named_is_called",
    ),
    honoured(
        "parallel_tool_calls",
        "`false` allows one call an answer; without `tools` it has no effect and is told so",
        "tests/clients/test_tools.py::test_a_model_that_must_call_does_so_where_it_would_rather_talk",
    ),
    honoured(
        "reasoning_effort",
        "`none`; `minimal`, `low`, `medium`, `high`: at most 256, 1024, 4096, 16384 tokens of thought; `xhigh`, `max`: no limit; only for models that think",
        "src/engine/mistral/chooser/tests.rs::thoughts_end_when_their_budget_is_spent",
    ),
    honoured(
        "stream",
        "`true` for server-sent events",
        "tests/api/chat.rs::a_stream_has_the_bytes_that_sdks_expect",
    ),
    honoured(
        "stream_options",
        "only with `stream`: `include_usage`; `include_obfuscation` has no effect and is told so",
        "tests/clients/test_answers.py::test_a_stream_without_include_usage_has_no_usage",
    ),
    honoured(
        "service_tier",
        "`auto`, `default`, `scale`: in turn; `flex`: after others; `priority`: before others, with the role",
        "tests/api/admission.rs::priority_is_for_those_whose_key_allows_it",
    ),
    accepted("user", "limits are counted by credential"),
    accepted("safety_identifier", "limits are counted by credential"),
    accepted("metadata", "nothing is stored"),
    accepted("store", "nothing is stored"),
    accepted("prompt_cache_key", "no cache is kept between requests"),
    accepted("prompt_cache_options", "no cache is kept between requests"),
    accepted(
        "prompt_cache_retention",
        "no cache is kept between requests",
    ),
    accepted(
        "prediction",
        "a hint for speed, which the answer does not depend on",
    ),
    accepted("verbosity", "a hint that the model was not taught"),
    refused("modalities", "answers are text; `[\"text\"]` is welcome"),
    refused("audio", "answers are text"),
    refused("moderation", "there is no moderation model"),
    refused("web_search_options", "the model does not search the web"),
    refused("functions", "deprecated: use `tools`"),
    refused("function_call", "deprecated: use `tools` and `tool_choice`"),
];

/// The row of a field; `None` for one that nobody has.
pub fn field(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

/// The values of a refused field, besides null, that ask for nothing that differs from leaving it
/// out.
pub fn nothing(name: &str) -> Vec<Value> {
    match name {
        "functions" => vec![json!([])],
        "function_call" => vec![json!("none"), json!("auto")],
        "modalities" => vec![json!(["text"])],
        _ => Vec::new(),
    }
}

/// What an accepted field would have to be where it had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `true` or `false`.
    Boolean,
    /// An integer, 0 or more.
    Count,
    /// Any object.
    Object,
    /// Any string.
    Text,
    /// One of these.
    Words(&'static [&'static str]),
}

/// How long to say it, in OpenAI's words.
pub const VERBOSITIES: &[&str] = &["low", "medium", "high"];

/// The shape of an accepted field, of this route or of its kin.
pub fn shape(name: &str) -> Shape {
    match name {
        "store" => Shape::Boolean,
        "max_tool_calls" => Shape::Count,
        "metadata" | "prediction" | "prompt_cache_options" => Shape::Object,
        "verbosity" => Shape::Words(VERBOSITIES),
        _ => Shape::Text,
    }
}

/// Why a field that was found in a body is refused.
pub(super) fn refusal(field: &Field) -> InvalidRequest {
    let Field { name, says, .. } = field;
    let says = says.replace('`', "'");
    let message =
        format!("Unsupported parameter: '{name}' is not supported by this server: {says}.");
    InvalidRequest::new("unsupported_parameter", *name, message)
}

/// Checks the value of an accepted field against its shape.
pub(super) fn check_accepted(name: &str, value: Json<'_>) -> Result<(), InvalidRequest> {
    match shape(name) {
        Shape::Boolean => read::boolean(name, &value).map(drop),
        Shape::Count => read::integer(name, &value, 0..=usize::MAX).map(drop),
        Shape::Object => read::object(name, value).map(drop),
        Shape::Text => read::text(name, value).map(drop),
        Shape::Words(words) => read::one_of(name, &value, words).map(drop),
    }
}
