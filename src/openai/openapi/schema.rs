//! Small schemas, of which the others are made.

use serde_json::{Map, Value, json};

/// A schema under its name.
pub(super) type Named = (&'static str, Value);

pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// An object with no other fields than these.
pub(super) fn closed(required: &[&str], properties: &[(&str, Value)]) -> Value {
    let mut schema = open(required, properties);
    schema["additionalProperties"] = false.into();
    schema
}

/// An object that may have other fields too.
pub(super) fn open(required: &[&str], properties: &[(&str, Value)]) -> Value {
    let properties = properties.iter().cloned();
    let properties: Map<String, Value> = properties
        .map(|(name, schema)| (name.into(), schema))
        .collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

pub(super) fn of(kind: &str) -> Value {
    json!({ "type": kind })
}

pub(super) fn text() -> Value {
    of("string")
}

pub(super) fn is(value: &str) -> Value {
    json!({ "type": "string", "const": value })
}

pub(super) fn words(words: &[&str]) -> Value {
    json!({ "type": "string", "enum": words })
}

pub(super) fn numbers(least: f64, most: f64) -> Value {
    json!({ "type": "number", "minimum": least, "maximum": most })
}

pub(super) fn integers(least: usize, most: Option<usize>) -> Value {
    let mut schema = json!({ "type": "integer", "minimum": least });
    if let Some(most) = most {
        schema["maximum"] = most.into();
    }
    schema
}

/// An integer that is counted.
pub(super) fn count() -> Value {
    integers(0, None)
}

pub(super) fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// A list of `least` to `most`.
pub(super) fn bounded(items: Value, least: usize, most: usize) -> Value {
    json!({ "type": "array", "items": items, "minItems": least, "maxItems": most })
}

pub(super) fn any(schemas: impl IntoIterator<Item = Value>) -> Value {
    json!({ "anyOf": schemas.into_iter().collect::<Value>() })
}

/// Null as well, which says the same as leaving the field out.
pub(super) fn maybe(schema: Value) -> Value {
    any([schema, of("null")])
}

/// Letters, digits, `_` and `-`.
pub(super) fn name(longest: usize) -> Value {
    json!({ "type": "string", "pattern": "^[a-zA-Z0-9_-]+$", "minLength": 1, "maxLength": longest })
}

/// A value that is taken and has no effect.
pub(super) fn ignored(schema: Value) -> Value {
    let mut schema = maybe(schema);
    schema["description"] = "Accepted without effect.".into();
    schema
}

/// Only what asks for nothing is taken.
pub(super) fn nothing_but(values: Value) -> Value {
    json!({ "enum": values, "description": "Nothing else is supported." })
}
