use super::*;
use crate::{engine::LikelyToken, openai::responses::request::ResponsesRequest};

fn run(events: Vec<Event>) -> Vec<Value> {
    let body = br#"{"model": "m", "input": "x"}"#[..].into();
    let request = ResponsesRequest::parse(&body).unwrap();
    let head = Head::new("resp_1".into(), 0, &request, "default");
    let mut writer = ResponseWriter::new(head);
    let mut out = BytesMut::new();
    let last = events.len() - 1;
    for (i, event) in events.into_iter().enumerate() {
        assert_eq!(writer.event(0, event, &mut out), i == last);
    }
    let text = String::from_utf8(out.to_vec()).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn finished(reason: FinishReason) -> Event {
    let usage = TokenUsage {
        prompt: 5,
        image: 0,
        completion: 7,
        reasoning: 3,
    };
    Event::Finished { reason, usage }
}

fn call(index: usize) -> [Event; 3] {
    let arguments = |text: &str| Event::Arguments {
        index,
        text: text.into(),
    };
    let call = Event::Call {
        index,
        id: format!("call_{index}"),
        name: "look".into(),
    };
    [call, arguments("{\"a\""), arguments(":1}")]
}

#[test]
fn thoughts_text_and_calls_are_items_in_their_order() {
    let mut events = vec![
        Event::Reasoning("hm".into()),
        Event::text("I "),
        Event::text("look"),
    ];
    events.extend(call(0));
    events.extend(call(1));
    events.push(finished(FinishReason::ToolCalls));
    let events = run(events);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    let output = last["response"]["output"].as_array().unwrap();
    let kinds: Vec<_> = output
        .iter()
        .map(|item| item["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["reasoning", "message", "function_call", "function_call"]
    );
    assert_eq!(
        output[0]["content"],
        json!([{"type": "reasoning_text", "text": "hm"}])
    );
    assert_eq!(output[0]["summary"], json!([]));
    assert_eq!(output[1]["content"][0]["text"], "I look");
    assert_eq!(output[3]["arguments"], "{\"a\":1}");
    assert_eq!(output[3]["call_id"], "call_1");
    assert_eq!(
        last["response"]["usage"]["output_tokens_details"]["reasoning_tokens"],
        3
    );
    // Every item is the one that its own last event showed, and its deltas make its text.
    for (i, item) in output.iter().enumerate() {
        assert_eq!(item["status"], "completed");
        let of_item = |kind: &str| {
            let kind = kind.to_string();
            events
                .iter()
                .filter(move |e| e["type"] == kind && e["output_index"] == i)
        };
        assert_eq!(of_item("response.output_item.added").count(), 1);
        assert_eq!(
            of_item("response.output_item.done").next().unwrap()["item"],
            *item
        );
    }
    let deltas = events
        .iter()
        .filter(|e| e["type"] == "response.function_call_arguments.delta");
    let text: String = deltas.filter_map(|e| e["delta"].as_str()).collect();
    assert_eq!(text, "{\"a\":1}{\"a\":1}");
    let done = events
        .iter()
        .find(|e| e["type"] == "response.function_call_arguments.done");
    assert_eq!(done.unwrap()["name"], "look");
    let thought = events
        .iter()
        .find(|e| e["type"] == "response.reasoning_text.delta")
        .unwrap();
    assert_eq!(
        (&thought["delta"], &thought["content_index"]),
        (&json!("hm"), &json!(0))
    );
}

#[test]
fn an_answer_that_is_cut_off_is_incomplete_with_its_last_item() {
    let events = run(vec![
        Event::Reasoning("hm".into()),
        Event::text("so"),
        finished(FinishReason::Length),
    ]);
    let last = events.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    let response = &last["response"];
    assert_eq!(response["status"], "incomplete");
    assert_eq!(
        response["incomplete_details"]["reason"],
        "max_output_tokens"
    );
    assert_eq!(response["completed_at"], Value::Null);
    assert_eq!(response["output"][0]["status"], "completed");
    assert_eq!(response["output"][1]["status"], "incomplete");
}

#[test]
fn an_answer_without_words_has_an_empty_message() {
    let events = run(vec![Event::text(""), finished(FinishReason::Stop)]);
    let output = &events.last().unwrap()["response"]["output"];
    assert_eq!(output[0]["content"][0]["text"], "");
}

#[test]
fn an_answer_that_is_cut_off_in_its_thoughts_has_only_them() {
    for (reason, expected) in [(FinishReason::Length, 1), (FinishReason::Stop, 2)] {
        let events = run(vec![Event::Reasoning("hm".into()), finished(reason)]);
        let output = &events.last().unwrap()["response"]["output"];
        assert_eq!(output.as_array().unwrap().len(), expected);
        assert_eq!(output[0]["type"], "reasoning");
    }
}

#[test]
fn tokens_are_told_with_the_text_and_again_at_its_end() {
    let likely = |bytes: &[u8], logprob| LikelyToken {
        bytes: bytes.to_vec(),
        logprob,
    };
    let half = TokenLogprob {
        token: likely(&[0xe4], -0.5),
        top: vec![likely(b"b", f32::NEG_INFINITY)],
    };
    let text = Event::Text {
        text: String::new(),
        tokens: vec![half],
    };
    let events = run(vec![text, finished(FinishReason::Stop)]);
    let delta = events
        .iter()
        .find(|e| e["type"] == "response.output_text.delta")
        .unwrap();
    let expected = json!([{
        "token": "\u{fffd}", "bytes": [0xe4], "logprob": -0.5,
        "top_logprobs": [{"token": "b", "bytes": [0x62], "logprob": -9999.0}],
    }]);
    assert_eq!(delta["logprobs"], expected);
    let output = &events.last().unwrap()["response"]["output"];
    assert_eq!(output[0]["content"][0]["logprobs"], expected);
}
