//! From the wire's vocabulary to the engine's, and back.

pub mod legacy_logprobs;

use crate::{
    engine::{
        Effort, Format, LikelyToken, SamplingParams, TokenLogprob, TokenUsage, Tool, ToolChoice,
        Toolbox,
    },
    openai::{
        format::ResponseFormat,
        request::ReasoningEffort,
        response::{self, Logprobs, Usage},
        sampling::Sampling,
        tools::{self, Tools},
    },
};

/// How to choose tokens.
pub fn sampling(sampling: Sampling) -> SamplingParams {
    SamplingParams {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        repetition_penalty: sampling.repetition_penalty,
        logit_bias: sampling.logit_bias,
        seed: sampling.seed,
        max_tokens: sampling.max_tokens,
        stop: sampling.stop,
        logprobs: sampling.logprobs,
    }
}

/// The form of the answer.
pub fn format(format: ResponseFormat) -> Format {
    match format {
        ResponseFormat::Text => Format::Text,
        ResponseFormat::JsonObject => Format::JsonObject,
        ResponseFormat::JsonSchema(schema) => Format::JsonSchema(schema),
    }
}

/// What the model may call.
pub fn toolbox(tools: Tools) -> Toolbox {
    let functions = tools.functions.into_iter().map(|function| Tool {
        name: function.name,
        parameters: function.parameters,
        definition: function.definition,
    });
    Toolbox {
        tools: functions.collect(),
        choice: match tools.choice {
            tools::ToolChoice::Auto => ToolChoice::Auto,
            tools::ToolChoice::None => ToolChoice::None,
            tools::ToolChoice::Required => ToolChoice::Required,
            tools::ToolChoice::Allowed {
                names,
                required: true,
            } => ToolChoice::AllowedRequired(names),
            tools::ToolChoice::Allowed {
                names,
                required: false,
            } => ToolChoice::AllowedAuto(names),
        },
        one_at_most: tools.one_at_most,
    }
}

/// How long to think.
pub fn effort(effort: ReasoningEffort) -> Effort {
    match effort {
        ReasoningEffort::None => Effort::None,
        ReasoningEffort::Minimal => Effort::Tokens(256),
        ReasoningEffort::Low => Effort::Tokens(1024),
        ReasoningEffort::Medium => Effort::Tokens(4096),
        ReasoningEffort::High => Effort::Tokens(16_384),
        ReasoningEffort::Max => Effort::Unlimited,
    }
}

/// What was read and written.
pub fn usage(usage: TokenUsage) -> Usage {
    Usage::new(usage.prompt, usage.image, usage.completion).with_reasoning(usage.reasoning)
}

/// How likely tokens were.
pub fn logprobs(tokens: &[TokenLogprob]) -> Logprobs<'_> {
    let content = tokens.iter().map(|token| response::TokenLogprob {
        token: likely(&token.token),
        top_logprobs: token.top.iter().map(likely).collect(),
    });
    Logprobs {
        content: content.collect(),
        refusal: None,
    }
}

fn likely(token: &LikelyToken) -> response::LikelyToken<'_> {
    response::LikelyToken::new(&token.bytes, token.logprob)
}
