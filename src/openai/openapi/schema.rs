//! Small schemas, of which the others are made.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

use crate::openai::fields::Shape;

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

/// An object whose other fields are null, which says the same as leaving them out.
pub(super) fn closed_but_null(required: &[&str], properties: &[(&str, Value)]) -> Value {
    let mut schema = open(required, properties);
    schema["additionalProperties"] = of("null");
    schema
}

/// An object whose other fields are null or empty: so SDKs send messages of answers back.
pub(super) fn closed_but_nothing(required: &[&str], properties: &[(&str, Value)]) -> Value {
    let mut schema = open(required, properties);
    schema["additionalProperties"] = json!({ "enum": [null, []] });
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

/// Text of so many characters.
pub(super) fn texts(least: usize, most: usize) -> Value {
    json!({ "type": "string", "minLength": least, "maxLength": most })
}

pub(super) fn numbers(range: &RangeInclusive<f64>) -> Value {
    json!({ "type": "number", "minimum": range.start(), "maximum": range.end() })
}

pub(super) fn integers(range: RangeInclusive<usize>) -> Value {
    json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
}

/// An integer that is counted.
pub(super) fn count() -> Value {
    integers(0..=usize::MAX)
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

pub(super) fn one_of(schemas: impl IntoIterator<Item = Value>) -> Value {
    json!({ "oneOf": schemas.into_iter().collect::<Value>() })
}

/// A rule of an object: `field` is absent, or one of the values that say `nothing`; else `then`
/// holds, which is a schema of the same object.
pub(super) fn unless(field: &str, nothing: Value, then: Value) -> Value {
    any([open(&[], &[(field, json!({ "enum": nothing }))]), then])
}

/// Where an image is.
pub(super) fn url() -> Value {
    json!({ "type": "string", "pattern": "^([dD][aA][tT][aA]:|[hH][tT][tT][pP][sS]?://)" })
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

/// A field of this shape that is taken and has no effect.
pub(super) fn without_effect(shape: Shape) -> Value {
    ignored(match shape {
        Shape::Boolean => of("boolean"),
        Shape::Count => count(),
        Shape::Object => of("object"),
        Shape::Text => text(),
        Shape::Words(known) => words(known),
    })
}

/// Only null and these values, which ask for nothing, are taken.
pub(super) fn refused(mut nothing: Vec<Value>) -> Value {
    nothing.push(Value::Null);
    nothing_but(nothing.into())
}

/// Only what asks for nothing is taken.
pub(super) fn nothing_but(values: Value) -> Value {
    json!({ "enum": values, "description": "Nothing else is supported." })
}
