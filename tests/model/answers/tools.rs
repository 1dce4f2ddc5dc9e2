//! Calls of tools.

use porthole::engine::{
    Engine, FinishReason, Inquiry, Part, Role, SamplingParams, Tool, ToolCall, ToolChoice, Toolbox,
    Turn,
};
use serde_json::{Value, json};

use super::{answer, ask, engine, greedy, warm};

fn tool(name: &str, properties: Value) -> Tool {
    let required: Vec<String> = properties.as_object().unwrap().keys().cloned().collect();
    let parameters = json!({"type": "object", "properties": properties, "required": required,
                            "additionalProperties": false});
    Tool {
        name: name.into(),
        definition: json!({"type": "function", "function": {
            "name": name, "description": "A tool.", "parameters": parameters}}),
        parameters,
    }
}

fn toolbox(choice: ToolChoice) -> Toolbox {
    Toolbox {
        tools: vec![
            tool(
                "get_price",
                json!({"item": {"type": "string", "maxLength": 20}}),
            ),
            tool(
                "check_stock",
                json!({"item": {"enum": ["lamp", "cup"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}}),
            ),
        ],
        choice,
        one_at_most: true,
    }
}

fn with_tools(text: &str, toolbox: Toolbox) -> Inquiry {
    Inquiry {
        tools: toolbox,
        ..ask(text)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tools_are_called_as_the_choice_says() {
    let engine = engine().await;
    let question = "How much is the lamp?";
    let only = |name: &str| vec![name.to_string()];
    for (choice, names) in [
        (ToolChoice::Required, &["get_price", "check_stock"][..]),
        (
            ToolChoice::AllowedRequired(only("check_stock")),
            &["check_stock"],
        ),
        (
            ToolChoice::AllowedRequired(only("get_price")),
            &["get_price"],
        ),
    ] {
        for seed in 0..4 {
            let params = SamplingParams {
                max_tokens: Some(300),
                ..warm(seed)
            };
            let answer = answer(
                &engine,
                with_tools(question, toolbox(choice.clone())),
                params,
            )
            .await;
            assert_eq!(answer.reason, Some(FinishReason::ToolCalls), "{answer:?}");
            assert_eq!((answer.text.as_str(), answer.calls.len()), ("", 1));
            let (name, arguments) = &answer.calls[0];
            assert!(names.contains(&name.as_str()), "{name}");
            let arguments: Value = serde_json::from_str(arguments).unwrap();
            assert!(arguments["item"].is_string());
        }
    }
    let none = answer(
        &engine,
        with_tools(question, toolbox(ToolChoice::None)),
        greedy(),
    )
    .await;
    assert!(none.calls.is_empty() && !none.text.contains("<tool_call>"));
    // Left alone, it says what it likes: what it calls is one of the tools.
    let free = answer(
        &engine,
        with_tools(question, toolbox(ToolChoice::Auto)),
        greedy(),
    )
    .await;
    assert_eq!(free.calls.is_empty(), !free.text.is_empty(), "{free:?}");
    let many = Toolbox {
        one_at_most: false,
        ..toolbox(ToolChoice::Required)
    };
    let calls = answer(
        &engine,
        with_tools(question, many),
        SamplingParams {
            max_tokens: Some(400),
            ..warm(3)
        },
    )
    .await;
    assert!(!calls.calls.is_empty());
    for (_, arguments) in &calls.calls {
        serde_json::from_str::<Value>(arguments).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_results_in_the_history_are_rendered_by_the_template() {
    let engine = engine().await;
    let call = ToolCall {
        id: "call_1".into(),
        name: "get_price".into(),
        arguments: r#"{"item":"lamp"}"#.into(),
    };
    let turns = vec![
        Turn::new(Role::User, vec![Part::Text("How much is the lamp?".into())]),
        Turn {
            calls: vec![call],
            ..Turn::new(Role::Assistant, vec![])
        },
        Turn {
            call_id: Some("call_1".into()),
            ..Turn::new(Role::Tool, vec![Part::Text("{\"price\": 5}".into())])
        },
    ];
    // Exactly what the template writes of them, in the spelling of Python's JSON.
    let written = "<|im_start|>assistant\n<tool_call>\n{\"name\": \"get_price\", \"arguments\": {\"item\": \"lamp\"}}\n\
                   </tool_call><|im_end|>\n<|im_start|>user\n<tool_response>\n{\"price\": 5}\n</tool_response><|im_end|>\n";
    let prepare = async |turns: &[Turn]| {
        let inquiry = Inquiry {
            tools: toolbox(ToolChoice::Auto),
            ..Inquiry::chat(turns.to_vec())
        };
        engine.prepare(inquiry).await.unwrap()
    };
    let (question, all) = (prepare(&turns[..1]).await, prepare(&turns).await);
    let added = all.tokens().total - question.tokens().total;
    assert_eq!(added, all.count(written));
}
