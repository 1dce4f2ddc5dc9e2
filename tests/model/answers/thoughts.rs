//! What a model thinks before it answers.

use std::path::Path;

use porthole::{
    config::ModelConfig,
    engine::{Effort, Engine, Format, Inquiry, Reasoning},
};
use serde_json::{Value, json};

use super::{answer, ask, engine_of, greedy};

/// The demo model with a template that opens a thought, which it was never taught to close.
fn thinking_model(folder: &Path) -> ModelConfig {
    for entry in std::fs::read_dir("models/demo").unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    for name in ["chat_template.json", "tokenizer_config.json"] {
        let path = folder.join(name);
        let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let template = json["chat_template"].as_str().unwrap();
        let head = "{{- '<|im_start|>assistant\\n' }}\n{%- endif %}";
        assert!(template.contains(head));
        json["chat_template"] = template
            .replace(
                head,
                "{{- '<|im_start|>assistant\\n<think>\\n' }}\n{%- endif %}",
            )
            .into();
        std::fs::write(&path, json.to_string()).unwrap();
    }
    ModelConfig {
        id: folder.to_str().unwrap().into(),
        ..ModelConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thoughts_are_told_apart_and_end_within_their_budget() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine_of(thinking_model(folder.path())).await;
    assert_eq!(engine.info().reasoning, Reasoning::Always);
    let thinking = |effort, format| Inquiry {
        effort: Some(effort),
        format,
        ..ask("What are you able to do?")
    };
    let budget = answer(
        &engine,
        thinking(Effort::Tokens(12), Format::Text),
        greedy(),
    )
    .await;
    assert!(!budget.thought.is_empty(), "{budget:?}");
    assert!((12..24).contains(&budget.usage.reasoning), "{budget:?}");
    assert!(
        !budget.text.starts_with('\n') && !budget.text.contains("think>"),
        "{budget:?}"
    );
    let none = answer(&engine, thinking(Effort::None, Format::Text), greedy()).await;
    assert_eq!((none.thought.as_str(), none.usage.reasoning), ("", 0));
    let schema = Format::JsonSchema(
        json!({"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"], "additionalProperties": false}),
    );
    let json = answer(&engine, thinking(Effort::Tokens(5), schema), greedy()).await;
    let value: Value = serde_json::from_str(&json.text).unwrap();
    assert_eq!(value, json!({"a": "x"}));
    assert!(!json.thought.is_empty());
}
