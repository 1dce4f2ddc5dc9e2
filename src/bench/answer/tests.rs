#![allow(clippy::unwrap_used)]

use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn data(text: &str) -> Event {
    Event {
        name: String::new(),
        data: text.into(),
    }
}

fn text(text: &str) -> Event {
    data(&format!(
        r#"{{"choices": [{{"delta": {{"content": "{text}"}}, "finish_reason": null}}]}}"#
    ))
}

#[test]
fn a_stream_is_timed_from_its_first_output_on() {
    let mut answer = Answer::default();
    let role = data(r#"{"choices": [{"delta": {"role": "assistant", "content": ""}}]}"#);
    let stop = data(r#"{"choices": [{"delta": {}, "finish_reason": "stop"}]}"#);
    let usage = data(
        r#"{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 4}}}"#,
    );
    let done = data("[DONE]");
    let events = [role, text("a"), text("b"), text("c"), stop, usage];
    for (event, at) in events.iter().zip([5, 10, 30, 70, 80, 81]) {
        assert_eq!(answer.take(event, ms(at)), Ok(false));
    }
    assert_eq!(answer.take(&done, ms(90)), Ok(true));
    let answer = answer.ended(ms(90)).unwrap();
    assert_eq!((answer.first, answer.last), (Some(ms(10)), Some(ms(70))));
    assert_eq!(answer.gaps, [20_000, 40_000]);
    assert_eq!((answer.events, answer.output_tokens()), (3, 5));
    assert_eq!(answer.usage.unwrap().cached(), 4);
    assert_eq!(answer.finish_reason.as_deref(), Some("stop"));
    // 60 ms for the four tokens after the first.
    assert_eq!(answer.time_per_output_token(), Some(ms(15)));
}

#[test]
fn thoughts_calls_and_refusals_are_output_too() {
    for delta in [
        r#"{"reasoning_content": "x"}"#,
        r#"{"reasoning": "x"}"#,
        r#"{"refusal": "x"}"#,
        r#"{"tool_calls": [{"index": 0}]}"#,
    ] {
        let mut answer = Answer::default();
        let event = data(&format!(r#"{{"choices": [{{"delta": {delta}}}]}}"#));
        assert_eq!(answer.take(&event, ms(1)), Ok(false));
        assert_eq!(answer.events, 1, "{delta}");
    }
}

#[test]
fn a_stream_without_done_counts_only_with_a_finish_reason() {
    let mut answer = Answer::default();
    answer.take(&text("a"), ms(1)).unwrap();
    assert_eq!(answer.clone().ended(ms(2)).unwrap_err().kind, "stream_cut");
    let stop = data(r#"{"choices": [{"delta": {}, "finish_reason": "length"}]}"#);
    answer.take(&stop, ms(2)).unwrap();
    let answer = answer.ended(ms(3)).unwrap();
    assert!(!answer.done);
    assert_eq!(answer.end, ms(3));
}

#[test]
fn error_events_are_failures_in_all_their_forms() {
    let error = r#"{"error": {"message": "gone\u001b[31m", "type": "server_error", "code": null}}"#;
    let failure = Answer::default().take(&data(error), ms(1)).unwrap_err();
    assert_eq!(failure.kind, "error_event server_error");
    assert_eq!(failure.message, "gone [31m");
    let named = Event {
        name: "error".into(),
        data: "overloaded".into(),
    };
    let failure = Answer::default().take(&named, ms(1)).unwrap_err();
    assert_eq!(
        (failure.kind.as_str(), failure.message.as_str()),
        ("error_event", "overloaded")
    );
    let failure = Answer::default().take(&data("{"), ms(1)).unwrap_err();
    assert_eq!(failure.kind, "bad_event");
}

#[test]
fn bodies_of_errors_name_their_code() {
    let kind = |body: &str| Failure::described("http_429", body).kind;
    assert_eq!(
        kind(r#"{"error": {"message": "m", "code": "rate_limit_exceeded"}}"#),
        "http_429 rate_limit_exceeded"
    );
    assert_eq!(kind(r#"{"message": "m", "code": 429}"#), "http_429 429");
    assert_eq!(kind("<html>"), "http_429");
    assert_eq!(kind(r#"{"error": {"code": "a b\n"}}"#), "http_429");
    assert_eq!(Failure::described("x", r#"{"error": "no"}"#).message, "no");
    assert_eq!(Failure::new("x", "y".repeat(999)).message.len(), 300);
}

#[test]
fn whole_answers_have_no_first_token() {
    let body = br#"{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2}}"#;
    let answer = Answer::whole(body, ms(7)).unwrap();
    assert_eq!((answer.first, answer.end), (None, ms(7)));
    assert_eq!(answer.output_tokens(), 2);
    assert_eq!(answer.time_per_output_token(), None);
    for (body, kind) in [
        ("{}", "bad_answer"),
        ("<html>", "bad_answer"),
        (r#"{"error": {"code": "x"}}"#, "error_body x"),
    ] {
        assert_eq!(
            Answer::whole(body.as_bytes(), ms(1)).unwrap_err().kind,
            kind
        );
    }
}
