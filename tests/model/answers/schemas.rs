//! Answers in the form of a schema.

use porthole::engine::{EngineError, FinishReason, Format, Inquiry, SamplingParams};
use serde_json::{Value, json};

use super::{answer, ask, engine, greedy, try_answer, warm};

fn in_schema(schema: Value) -> Inquiry {
    Inquiry {
        format: Format::JsonSchema(schema),
        ..ask("Answer in JSON.")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_keeps_to_its_schema() {
    let engine = engine().await;
    let schema = json!({
        "type": "object",
        "properties": {
            "color": {"enum": ["red", "blue"]},
            "count": {"type": "integer", "minimum": 3, "maximum": 9},
            "name": {"type": "string", "maxLength": 8},
            "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
            "nested": {"$ref": "#/$defs/n"},
            "maybe": {"anyOf": [{"type": "null"}, {"const": "x"}]}
        },
        "required": ["color", "count", "name", "tags", "nested", "maybe"],
        "additionalProperties": false,
        "$defs": {"n": {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 5}},
                        "required": ["a"], "additionalProperties": false}}
    });
    for seed in 0..6 {
        let params = SamplingParams {
            max_tokens: Some(600),
            stop: vec!["\"".into(), "}".into()],
            ..warm(seed)
        };
        let answer = answer(&engine, in_schema(schema.clone()), params).await;
        assert_eq!(answer.reason, Some(FinishReason::Stop), "{}", answer.text);
        let value: Value = serde_json::from_str(&answer.text).unwrap();
        assert!(["red", "blue"].contains(&value["color"].as_str().unwrap()));
        assert!((3..=9).contains(&value["count"].as_i64().unwrap()));
        assert!(value["name"].as_str().unwrap().chars().count() <= 8);
        assert!((2..=3).contains(&value["tags"].as_array().unwrap().len()));
        assert!((0..=5).contains(&value["nested"]["a"].as_i64().unwrap()));
        assert!(value["maybe"].is_null() || value["maybe"] == "x");
        assert_eq!(value.as_object().unwrap().len(), 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_cannot_be_compiled_is_refused_with_the_reason() {
    let engine = engine().await;
    for (schema, hint) in [
        (json!({"type": "nonsense"}), "nonsense"),
        (json!({"$ref": "https://example.com/s.json"}), ""),
        (json!({"type": "string", "pattern": "(unclosed"}), ""),
        (json!({"type": "integer", "minimum": 5, "maximum": 1}), ""),
        (json!({"$ref": "#"}), ""),
    ] {
        let started = std::time::Instant::now();
        let refused = try_answer(&engine, in_schema(schema.clone()), greedy()).await;
        let Err(EngineError::Refused { param, message, .. }) = refused else {
            panic!("{schema}: {refused:?}");
        };
        assert_eq!(param, "response_format");
        assert!(message.contains(hint), "{message}");
        println!("{schema}: {message} ({:?})", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_a_bomb_holds_nobody_up() {
    let engine = engine().await;
    let mut levels = serde_json::Map::from_iter([("l0".to_string(), json!({"type": "string"}))]);
    for i in 0..24 {
        let below = json!({"$ref": format!("#/$defs/l{i}")});
        levels.insert(format!("l{}", i + 1), json!({"anyOf": vec![below; 4]}));
    }
    let many: serde_json::Map<String, Value> = (0..3000)
        .map(|i| (format!("k{i}"), json!({"enum": [i, i + 1]})))
        .collect();
    for (name, bomb) in [
        (
            "references",
            json!({"$ref": "#/$defs/l24", "$defs": levels}),
        ),
        (
            "repeats",
            json!({"type": "string", "pattern": "^(a{1,1000}){1,1000}b{1,5000}$"}),
        ),
        (
            "lengths",
            json!({"type": "string", "minLength": 1_000_000_000}),
        ),
        (
            "items",
            json!({"type": "array", "items": {"type": "integer"}, "minItems": 1_000_000}),
        ),
        ("keys", json!({"type": "object", "properties": many})),
        (
            "alternatives",
            json!({"enum": (0..20_000).collect::<Vec<_>>()}),
        ),
    ] {
        let started = std::time::Instant::now();
        let params = SamplingParams {
            max_tokens: Some(20),
            ..greedy()
        };
        let ended = try_answer(&engine, in_schema(bomb), params).await;
        println!(
            "{name}: {:?} after {:?}",
            ended.map(|a| a.text),
            started.elapsed()
        );
    }
    let after = answer(&engine, ask("Hi"), greedy()).await;
    assert_eq!(after.reason, Some(FinishReason::Stop));
}
