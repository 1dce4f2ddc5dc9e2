//! Tools: how they reach the engine, and how its calls reach the client.

use porthole::engine::{Role, ToolCall, ToolChoice};
use serde_json::{Value, json};

use super::{
    fake_engine::fake_server,
    helpers::{parse_stream, user},
};

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {
        "name": name, "description": "Says the weather.", "strict": true,
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    }})
}

/// The finish that the script of an answer with calls ends in.
const CALLED: &str = r#"{"finished": {"reason": "tool_calls", "completion": 9}}"#;

fn calling() -> String {
    let events = [
        r#"{"call": {"index": 0, "id": "call_a", "name": "weather"}}"#,
        r#"{"arguments": {"index": 0, "text": "{\"city\": "}}"#,
        r#"{"arguments": {"index": 0, "text": "\"Köln\"}"}}"#,
        r#"{"call": {"index": 1, "id": "call_b", "name": "time"}}"#,
        r#"{"arguments": {"index": 1, "text": "{}"}}"#,
        CALLED,
    ];
    format!("events:[{}]", events.join(","))
}

#[tokio::test]
async fn tools_reach_the_engine_as_sent() {
    let (server, engine) = fake_server();
    let mut body = user("hi");
    body["tools"] = json!([tool("weather"), {"type": "function", "function": {"name": "time"}}]);
    let (status, json) = server.ask(&body).await;
    assert_eq!(status, 200, "{json}");
    let asked = engine.asked.lock().unwrap();
    let toolbox = &asked[0].inquiry.tools;
    let names: Vec<&str> = toolbox
        .tools
        .iter()
        .map(|tool| tool.name.as_str())
        .collect();
    assert_eq!(names, ["weather", "time"]);
    assert_eq!(toolbox.tools[0].definition, tool("weather"));
    assert_eq!(
        toolbox.tools[0].parameters,
        tool("weather")["function"]["parameters"]
    );
    assert_eq!(
        toolbox.tools[1].parameters,
        json!({"type": "object", "properties": {}, "additionalProperties": false})
    );
    assert_eq!(
        (&toolbox.choice, toolbox.one_at_most),
        (&ToolChoice::Auto, false)
    );
}

#[tokio::test]
async fn each_choice_reaches_the_engine() {
    let (server, engine) = fake_server();
    let named = json!({"type": "function", "function": {"name": "b"}});
    let allowed = |mode: &str| json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named]}});
    let b = || vec!["b".to_string()];
    let cases = [
        (json!("auto"), ToolChoice::Auto),
        (json!("none"), ToolChoice::None),
        (json!("required"), ToolChoice::Required),
        (named.clone(), ToolChoice::AllowedRequired(b())),
        (allowed("auto"), ToolChoice::AllowedAuto(b())),
        (allowed("required"), ToolChoice::AllowedRequired(b())),
    ];
    for (choice, expected) in cases {
        let mut body = user("hi");
        body["tools"] = json!([tool("a"), tool("b")]);
        body["tool_choice"] = choice;
        body["parallel_tool_calls"] = json!(false);
        let (status, json) = server.ask(&body).await;
        assert_eq!(status, 200, "{json}");
        let asked = engine.asked.lock().unwrap();
        let toolbox = &asked.last().unwrap().inquiry.tools;
        assert_eq!((&toolbox.choice, toolbox.one_at_most), (&expected, true));
    }
}

#[tokio::test]
async fn a_round_of_calls_and_results_reaches_the_engine() {
    let (server, engine) = fake_server();
    let image = super::helpers::data_url(&super::helpers::png(64, 64, [1, 2, 3]));
    let function = json!({"name": "look", "arguments": "{\"at\": 1}"});
    let (status, json) = server
        .ask(&json!({"model": "demo", "messages": [
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": function},
                {"id": "call_2", "type": "function", "function": function, "index": 1}]},
            {"role": "tool", "tool_call_id": "call_2", "content": "nothing"},
            {"role": "tool", "tool_call_id": "call_1", "content": [
                {"type": "text", "text": "this:"},
                {"type": "image_url", "image_url": {"url": image}}]},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "refusal": "not now"},
            {"role": "user", "content": "go on"},
        ]}))
        .await;
    assert_eq!(status, 200, "{json}");
    let asked = engine.asked.lock().unwrap();
    let turns = &asked[0].turns;
    let call = |id: &str| ToolCall {
        id: id.into(),
        name: "look".into(),
        arguments: "{\"at\": 1}".into(),
    };
    assert_eq!(turns[1].calls, [call("call_1"), call("call_2")]);
    assert!(turns[1].parts.is_empty());
    assert_eq!(turns[2].role, Role::Tool);
    assert_eq!(turns[2].call_id.as_deref(), Some("call_2"));
    assert_eq!((turns[3].parts.len(), asked[0].images.len()), (2, 1));
    assert_eq!(format!("{:?}", turns[4].parts), "[Text(\"no\")]");
    assert_eq!(format!("{:?}", turns[5].parts), "[Text(\"not now\")]");
}

#[tokio::test]
async fn calls_come_whole_in_a_plain_answer() {
    let (server, _) = fake_server();
    let mut body = user(&calling());
    body["tools"] = json!([tool("weather"), tool("time")]);
    let (status, json) = server.ask(&body).await;
    assert_eq!(status, 200);
    let choice = &json["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    assert_eq!(
        choice["message"],
        json!({"role": "assistant", "content": null, "refusal": null, "annotations": [],
            "tool_calls": [call("call_a", "weather", "{\"city\": \"Köln\"}"), call("call_b", "time", "{}")]})
    );
    let text = format!(
        r#"events:[{{"text": "Let me see."}},{}"#,
        &calling()["events:[".len()..]
    );
    let (_, json) = server.ask(&user(&text)).await;
    assert_eq!(json["choices"][0]["message"]["content"], "Let me see.");
    assert_eq!(
        json["choices"][0]["message"]["tool_calls"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[tokio::test]
async fn calls_come_piece_by_piece_in_a_stream() {
    let (server, _) = fake_server();
    let mut body = user(&calling());
    body["tools"] = json!([tool("weather"), tool("time")]);
    body["stream"] = json!(true);
    let streamed = parse_stream(&server.chat(&body).await.text().await.unwrap());
    let deltas: Vec<&Value> = streamed
        .chunks
        .iter()
        .map(|c| &c["choices"][0]["delta"])
        .collect();
    let begins = |index: usize, id: &str, name: &str| {
        json!({"tool_calls": [{"index": index, "id": id, "type": "function",
            "function": {"name": name, "arguments": ""}}]})
    };
    let goes_on = |index: usize, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
    assert_eq!(
        deltas,
        [
            &json!({"role": "assistant", "content": "", "refusal": null}),
            &begins(0, "call_a", "weather"),
            &goes_on(0, "{\"city\": "),
            &goes_on(0, "\"Köln\"}"),
            &begins(1, "call_b", "time"),
            &goes_on(1, "{}"),
            &json!({}),
        ]
    );
    assert_eq!(streamed.finish_reason.as_deref(), Some("tool_calls"));
}
