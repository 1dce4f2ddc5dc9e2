//! `POST /v1/responses`.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload},
};

use super::{
    generation::{self, Answering, Asked, Collected, collect, first_event},
    intake::{self, Intake},
};
use crate::{
    engine::{FinishReason, Format, Inquiry, SamplingParams, Tool, ToolChoice, Toolbox},
    error::ApiError,
    openai::{
        request::ReasoningEffort,
        responses::{
            answer::{Head, Item, Status, Usage, fresh_id},
            request::ResponsesRequest,
            text::TextFormat,
            tools::Choice,
        },
    },
    sse::responses::{ResponseWriter, ended_by, has_message, logprobs, response},
    state::{self, AppState},
    wire,
};

/// What chat completions call otherwise.
const NAMES: &[(&str, &str)] = &[
    ("messages", "input"),
    ("reasoning_effort", "reasoning.effort"),
    ("response_format", "text.format"),
];

/// Answers a conversation that the client keeps, at once or as a stream.
///
/// # Errors
/// Everything in [`ApiError`].
pub async fn create(
    request: HttpRequest,
    payload: Payload,
    state: Data<AppState>,
) -> Result<HttpResponse, ApiError> {
    let intake = intake::receive(&request, payload, &state, ResponsesRequest::parse).await?;
    let Intake {
        visit,
        parsed: mut wanted,
        bytes,
        hold,
        permit,
    } = intake;
    let model = intake::model(&state, &visit, &wanted.model, wanted.stream)?;
    let (turns, images) = generation::turns(std::mem::take(&mut wanted.turns));
    let asked = Asked {
        inquiry: Inquiry {
            format: format(&wanted.text.format),
            tools: toolbox(&wanted),
            effort: wanted
                .reasoning
                .effort
                .map(|word| wire::effort(ReasoningEffort::of(word))),
            ..Inquiry::chat(turns)
        },
        images,
        answers: 1,
        sampling: SamplingParams {
            temperature: wanted.temperature,
            top_p: wanted.top_p,
            max_tokens: wanted.max_output_tokens,
            logprobs: wanted.logprobs,
            ..SamplingParams::default()
        },
        tier: wanted.service_tier,
        bytes,
        hold,
        permit,
    };
    let ready = generation::prepare(&state, &visit, model, asked).await;
    let ready = ready.map_err(|error| intake::renamed(error, NAMES))?;
    let answering = generation::answer(state.clone(), &visit, model, ready).await?;
    let Answering { events, tier } = answering;

    let mut answer = intake::answer_head(&wanted.ignored);
    let head = Head::new(fresh_id("resp"), state::now(), &wanted, tier);
    if wanted.stream {
        let events = first_event(events).await?;
        let writer = ResponseWriter::new(head);
        return Ok(intake::stream(answer, &state, visit.record, events, writer));
    }
    let (answers, usage) = collect(events, 1).await?;
    let collected = answers.into_iter().next().unwrap_or_default();
    let status = ended_by(collected.reason.unwrap_or(FinishReason::Stop));
    let output = output(collected, status);
    let usage = Usage::new(usage.prompt, usage.completion, usage.reasoning);
    Ok(answer.json(response(&head, status, &output, Some(usage))))
}

fn format(format: &TextFormat) -> Format {
    match format {
        TextFormat::Text => Format::Text,
        TextFormat::JsonObject => Format::JsonObject,
        TextFormat::JsonSchema { schema, .. } => Format::JsonSchema(schema.clone()),
    }
}

fn toolbox(wanted: &ResponsesRequest) -> Toolbox {
    let tools = wanted.tools.iter().map(|tool| Tool {
        name: tool.name.clone(),
        parameters: tool.parameters.clone(),
        definition: tool.nested(),
    });
    let choice = match &wanted.tool_choice {
        Choice::Auto => ToolChoice::Auto,
        Choice::None => ToolChoice::None,
        Choice::Required => ToolChoice::Required,
        Choice::Function(name) => ToolChoice::AllowedRequired(vec![name.clone()]),
        Choice::Allowed { required, names } => {
            let names = names.clone();
            if *required {
                ToolChoice::AllowedRequired(names)
            } else {
                ToolChoice::AllowedAuto(names)
            }
        }
    };
    Toolbox {
        tools: tools.collect(),
        choice,
        one_at_most: !wanted.parallel_tool_calls,
    }
}

/// The items of a whole answer; only the last can be one that was cut off.
fn output(collected: Collected, status: Status) -> Vec<Item> {
    let mut items = Vec::new();
    let thought = !collected.reasoning.is_empty();
    if thought {
        items.push((Item::reasoning(), collected.reasoning, Vec::new()));
    }
    let is_silent = collected.text.is_empty() && collected.calls.is_empty();
    if !collected.text.is_empty() || is_silent && has_message(thought, status) {
        let logprobs = logprobs(collected.tokens);
        items.push((Item::message(), collected.text, logprobs));
    }
    for call in collected.calls {
        items.push((Item::call(call.id, call.name), call.arguments, Vec::new()));
    }
    let last = items.len().saturating_sub(1);
    let items = items.into_iter().enumerate();
    let ended = items.map(|(i, (item, text, logprobs))| {
        let status = if i == last { status } else { Status::Completed };
        item.ended(text, logprobs, status)
    });
    ended.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::engine::ToolCall;

    fn items(collected: Collected, status: Status) -> Value {
        let mut items = json!(output(collected, status));
        for item in items.as_array_mut().unwrap() {
            item["id"] = Value::Null;
        }
        items
    }

    #[test]
    fn thoughts_text_and_calls_are_items() {
        let collected = Collected {
            text: "hi".into(),
            reasoning: "hm".into(),
            calls: vec![ToolCall {
                id: "call_1".into(),
                name: "look".into(),
                arguments: "{}".into(),
            }],
            ..Collected::default()
        };
        let expected = json!([
            {"type": "reasoning", "id": null, "summary": [], "encrypted_content": null, "status": "completed",
                "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "message", "id": null, "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "id": null, "call_id": "call_1", "name": "look", "arguments": "{}",
                "status": "incomplete"},
        ]);
        assert_eq!(items(collected, Status::Incomplete), expected);
    }

    #[test]
    fn a_silent_answer_has_a_message_unless_it_was_cut_off_in_its_thoughts() {
        let kinds = |reasoning: &str, status| {
            let collected = Collected {
                reasoning: reasoning.into(),
                ..Collected::default()
            };
            let items = items(collected, status);
            let kinds = items
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["type"].to_string());
            kinds.collect::<Vec<_>>()
        };
        assert_eq!(kinds("", Status::Completed), ["\"message\""]);
        assert_eq!(kinds("", Status::Incomplete), ["\"message\""]);
        assert_eq!(
            kinds("hm", Status::Completed),
            ["\"reasoning\"", "\"message\""]
        );
        assert_eq!(kinds("hm", Status::Incomplete), ["\"reasoning\""]);
    }
}
